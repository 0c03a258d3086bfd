"""Texts with images in them, for models that put a tower's features among the embeddings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isogrow.verification.runs import Batch, still

TOKENS = ("image_token_id", "image_token_index")
TILES = (2, 3, 5)  # how many views there may be of one image, that of the whole among them


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
    text = ids.where(ids != token, (token + 1) % (int(ids.max()) + 1))
    for image in _images(vision, ids.shape[0], seed):
        count = _features(model, {name: value[:1] for name, value in image.items()})
        if count:
            seen = torch.full((ids.shape[0], count), token)
            mixed = torch.cat([text[:, :1], seen, text[:, 1:]], dim=1)
            given = {"input_ids": mixed, **image, "token_type_ids": (mixed == token).long()}
            return {name: value for name, value in given.items() if name in _inputs(model.forward)}
    return None


def _images(vision: Any, rows: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """The same random images in the ways in which classes take them: alone, with their sizes, and in tiles
    behind a view of the whole."""
    size = vision.image_size
    height, width = size if isinstance(size, Sequence) else (size, size)
    generator = torch.Generator().manual_seed(seed)
    tiles = torch.randn(rows, max(TILES), int(vision.num_channels), height, width, generator=generator)
    sizes = {"image_sizes": torch.tensor([[height, width]] * rows)}
    yield {"pixel_values": tiles[:, 0]}
    yield {"pixel_values": tiles[:, 0], **sizes}
    yield from ({"pixel_values": tiles[:, :count], **sizes} for count in TILES)


def _features(model: Any, image: dict[str, Tensor]) -> int:
    """How many of the residual's vectors an image becomes; 0 where the class takes images in another way."""
    known = _inputs(model.get_image_features)
    if not known.issuperset(image):
        return 0
    pixels = image["pixel_values"].to(next(model.parameters()).dtype)
    try:
        with still(model):
            found: Any = model.get_image_features(**{**image, "pixel_values": pixels})
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):  # each class in its own words
        return 0
    found = getattr(found, "pooler_output", found)
    parts: list[Any] = list(found) if isinstance(found, list | tuple) else [found]
    return sum(part.numel() // part.shape[-1] for part in parts if isinstance(part, Tensor))


def _inputs(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)
