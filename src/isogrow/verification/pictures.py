"""Texts with images in them, for models that put a tower's features among the embeddings."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isogrow.verification.runs import Batch, still

TOKENS = ("image_token_id", "image_token_index")


def pictured(model: nn.Module, ids: Tensor, seed: int = 4) -> Batch | None:
    """The same texts, each behind a random image of the size that the tower takes: inputs by name, `ids`
    (rows, tokens) with as many of the image's token as the tower gives features. None for a model that takes
    no images with its texts, or not in this plain way."""
    config: Any = getattr(model, "config", None)
    vision = getattr(config, "vision_config", None)
    token = next(
        (getattr(config, name) for name in TOKENS if isinstance(getattr(config, name, None), int)), None
    )
    if not hasattr(model, "get_image_features") or vision is None or token is None:
        return None
    image = _images(vision, ids.shape[0], seed)
    count = _features(model, {name: value[:1] for name, value in image.items()})
    if not count:
        return None
    text = ids.where(ids != token, (token + 1) % (int(ids.max()) + 1))
    mixed = torch.cat([text[:, :1], torch.full((ids.shape[0], count), token), text[:, 1:]], dim=1)
    given = {"input_ids": mixed, **image, "token_type_ids": (mixed == token).long()}
    return {
        name: value for name, value in given.items() if name in inspect.signature(model.forward).parameters
    }


def _images(vision: Any, rows: int, seed: int) -> dict[str, Tensor]:
    size = vision.image_size
    height, width = size if isinstance(size, Sequence) else (size, size)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(rows, int(vision.num_channels), height, width, generator=generator)
    return {"pixel_values": pixels, "image_sizes": torch.tensor([[height, width]] * rows)}


def _features(model: Any, image: dict[str, Tensor]) -> int:
    """How many of the residual's vectors an image becomes; 0 where the model can't say in this plain way."""
    known = inspect.signature(model.get_image_features).parameters
    dtype = next(model.parameters()).dtype
    given = {name: value for name, value in image.items() if name in known}
    given["pixel_values"] = given["pixel_values"].to(dtype)
    try:
        with still(model):
            found: Any = model.get_image_features(**given)
    except (TypeError, ValueError, RuntimeError, AttributeError):  # each class has inputs of its own
        return 0
    found = getattr(found, "pooler_output", found)
    parts: list[Any] = list(found) if isinstance(found, list | tuple) else [found]
    return sum(part.numel() // part.shape[-1] for part in parts if isinstance(part, Tensor))
