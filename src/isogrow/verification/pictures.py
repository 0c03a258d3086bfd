"""Texts with images in them, for models that put a tower's features among the embeddings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor, nn

from isogrow.verification.runs import FAULTS, Batch, narrowed, runs, still
from isogrow.verification.signals import CHANNELS, patched

SEES, LOOKS = "get_image_features", "aspect_ratio_ids"
TOKENS = ("image_token_id", "image_token_index")
NAMED = ("_token_id", "_token_index")  # what a config calls tokens that stand for more than a text's
TILES = (1, 2, 3, 5)  # how many views there may be of one image, that of the whole among them
ASKED = "qformer_input_ids"  # a question, for towers that read one
KINDS = ("token_type_ids", "mm_token_type_ids")  # which tokens are an image's, for classes that ask
SIDE = 256  # of an image in pixels, where the config of a model of timm's does not say it
GRID = (2, 4)  # of an image, the squares of patches that are merged, in height and width


def pictured(model: nn.Module, ids: Tensor, seed: int = 4) -> Batch | None:
    """The same texts, each behind a random image of the size that the tower takes: inputs by name, `ids`
    (rows, tokens) with as many of the image's token as the tower gives features. None for a model that takes
    no images with its texts, or not in this plain way."""
    config: Any = getattr(model, "config", None)
    if LOOKS in _inputs(model.forward):
        return _looked_at(config.vision_config, ids, seed)
    token = next(
        (getattr(config, name) for name in TOKENS if isinstance(getattr(config, name, None), int)), None
    )
    base = getattr(model, "base_model", model)
    tower: Any = base if hasattr(base, SEES) else model
    if not hasattr(tower, SEES) or token is None:
        return None
    for image in _images(config, ids.shape[0], seed):
        first = {name: _first(value, ids.shape[0]) for name, value in image.items()}
        count = features(tower, SEES, first) if _inputs(tower.get_image_features).issuperset(first) else 0
        if count:
            mixed = among(config, ids, token, count)
            kinds = {name: (mixed == token).long() for name in KINDS}
            given = {"input_ids": mixed, **image, **kinds}
            given = {name: value for name, value in given.items() if name in _inputs(model.forward)}
            return given if runs(model, given) else None
    return None


def among(config: Any, ids: Tensor, token: int, count: int) -> Tensor:
    """The same texts with so many of this token behind the first of each row, and nowhere else."""
    special = {
        value for name, value in vars(config).items() if name.endswith(NAMED) and isinstance(value, int)
    }
    text = ids.where(ids != token, next(each for each in range(len(special) + 1) if each not in special))
    seen = torch.full((ids.shape[0], count), token)
    return torch.cat([text[:, :1], seen, text[:, 1:]], dim=1)


def _looked_at(vision: Any, ids: Tensor, seed: int) -> Batch:
    """The same texts beside images that no token stands for, each as wide as the most tiles in a row."""
    rows, most = len(ids), vision.max_num_tiles
    shape = (rows, 1, most, getattr(vision, "num_channels", CHANNELS), vision.image_size, vision.image_size)
    return {
        "input_ids": ids,
        "pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(seed)),
        LOOKS: torch.full((rows, 1), 1 + [*map(list, vision.supported_aspect_ratios)].index([1, most])),
        "aspect_ratio_mask": torch.ones(rows, 1, most, dtype=torch.long),
        "cross_attention_mask": torch.ones(*ids.shape, 1, most, dtype=torch.long),
    }


def _images(config: Any, rows: int, seed: int) -> Iterator[dict[str, Tensor]]:
    """The same random images in the ways in which classes take them: as patches, alone, with their sizes, in
    tiles behind a view of the whole, and beside a larger one."""
    generator = torch.Generator().manual_seed(seed)
    vision = getattr(config, "vision_config", config)
    yield from _grids(vision, rows, generator)
    size = getattr(vision, "image_size", None) or _side_of_timm(vision)
    if size is None:
        return
    height, width = _sides(size)
    channels = int(getattr(vision, "num_channels", CHANNELS))
    tiles = torch.randn(rows, max(TILES), channels, height, width, generator=generator)
    sizes = {"image_sizes": torch.tensor([[height, width]] * rows)}
    yield {"pixel_values": tiles[:, 0]}
    yield {"pixel_values": tiles[:, 0], **sizes}
    yield {"pixel_values": tiles[:, :1]}
    yield from ({"pixel_values": tiles[:, :count], **sizes} for count in TILES)
    question = torch.ones(rows, 4, dtype=torch.long)
    yield from ({"pixel_values": each, ASKED: question} for each in (tiles[:, 0], tiles[:, :2]))
    if sharper := getattr(getattr(config, "high_res_vision_config", None), "image_size", None):
        sharp = torch.randn(rows, channels, *_sides(sharper), generator=generator)
        yield {"pixel_values": tiles[:, 0], "high_res_pixel_values": sharp}


def _side_of_timm(vision: Any) -> int | Sequence[int] | None:
    """Of an image that a model of timm's takes, whose config says it among its arguments, or nowhere."""
    if not hasattr(vision, "architecture"):
        return None
    return (getattr(vision, "model_args", None) or {}).get("img_size", SIDE)


def _sides(size: int | Sequence[int]) -> Sequence[int]:
    return size if isinstance(size, Sequence) else (size, size)


def _grids(vision: Any, rows: int, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Images cut into patches, one behind the other, with how many there are of each image in each direction;
    alone, and with what else some classes ask for."""
    patch, channels = getattr(vision, "patch_size", None), getattr(vision, "in_channels", None)
    channels = channels or getattr(vision, "num_channels", CHANNELS)
    if not isinstance(patch, int) or not isinstance(channels, int):
        return
    if patched(vision):
        yield _shaped(vision, rows, generator)
    if hasattr(vision, "position_embedding_size"):
        yield _placed(patch, vision.pooling_kernel_size, channels, rows, generator)
    if hasattr(vision, "mm_posemb_size"):
        yield _placed(vision.model_patch_size, 1, channels, rows, generator)
    frames = getattr(vision, "temporal_patch_size", 1)
    shapes = ((channels * frames * patch**2,), (channels, patch, patch))
    merge = getattr(vision, "spatial_merge_size", 2)
    grid = torch.tensor([[1, *(side * merge for side in GRID)]] * rows)
    merged = torch.tensor([merge] * rows)
    for shape in shapes:
        pixels = torch.randn(int(grid.prod(-1).sum()), *shape, generator=generator)
        yield {"pixel_values": pixels, "image_grid_thw": grid}
        yield {"pixel_values": pixels, "image_grid_thw": grid, "image_merge_sizes": merged}
    yield {"pixel_values": torch.randn(rows, prod(GRID), *shapes[0], generator=generator)}


def _placed(
    patch: int, pooled: int, channels: int, rows: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Images as patches, each with its place in rows and columns, of which so many in each direction are
    pooled into one."""
    width, height = 2 * pooled, pooled
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).flip(-1)
    return {
        "pixel_values": torch.rand(rows, len(places), channels * patch**2, generator=generator),
        "image_position_ids": places.repeat(rows, 1, 1),
    }


def _shaped(vision: Any, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Images as so many patches each, with a mask of those that are there."""
    side = isqrt(vision.num_patches)
    shape = (rows, vision.num_patches, vision.num_channels * vision.patch_size**2)
    return {
        "pixel_values": torch.randn(shape, generator=generator),
        "pixel_attention_mask": (torch.arange(vision.num_patches) < side**2).long().repeat(rows, 1),
        "spatial_shapes": torch.tensor([[side, side]] * rows),
    }


def _first(value: Tensor, rows: int) -> Tensor:
    """What belongs to the first of the images."""
    return value[: len(value) // rows]


def features(model: Any, method: str, given: Batch, absent: Iterable[str] = ()) -> int:
    """How many of the residual's vectors a model's own `method` makes of images or sounds, without what is
    `absent`; 0 where it takes them in another way."""
    try:
        with still(model):
            found: Any = getattr(model, method)(**narrowed(model, given), **dict.fromkeys(absent))
    except FAULTS:
        return 0
    pooled = getattr(found, "pooler_output", None)
    if pooled is None and hasattr(found, "deepstack_features"):
        pooled = found.deepstack_features[0][1]  # of each layer its number, and the features added before it
    found = getattr(found, "last_hidden_state", found) if pooled is None else pooled
    parts: list[Any] = list(found) if isinstance(found, list | tuple) else [found]
    return sum(part.numel() // part.shape[-1] for part in parts if isinstance(part, Tensor))


def _inputs(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)
