"""What models take in place of token ids or beside them: images, videos, sound and its spectra, as random
numbers of the shapes that their configs say."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from inspect import Parameter, signature
from math import isqrt
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES,
)

from isogrow.errors import IsogrowError
from isogrow.verification.float64 import float64
from isogrow.verification.runs import GRID, UNPROVEN, Batch, runs

WORDS = {
    "pixel_values": "images",
    "hidden_states": "patches",
    "input_values": "sounds",
    "input_features": "sounds",
}
CHANNELS = 3  # of an image, where no config says it
FRAMES = 24  # of sound, behind the convolutions
SAMPLES = 2431  # of sound, where its convolutions are in the code: five places behind Moonshine's
WINDOW = 100  # frames that some encoders hear at once
FEW = 2  # frames in a patch, where the code alone says it
LENGTHS = ("max_source_positions", "input_feat_per_channel")  # by which a config says how much it hears
FRONT = "conv_stride"  # by which a config says that its model hears samples


# Which of several shapes a model runs, if any: found once, on a copy of it, for as long as it lives.
_RUN: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()


def signal_of(model: nn.Module) -> str | None:
    """The input that a model can't do without and that is no token id: `pixel_values`, say."""
    name = getattr(model, "main_input_name", "")
    if type(model).__name__ in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES.values():
        return "pixel_values"
    if type(model).__name__ in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values():
        return None  # it reads texts, with images in them or without
    taken = _taken(model)
    if GRID in taken:
        return next(each for each in ("hidden_states", "pixel_values") if each in taken)
    if name not in WORDS and taken.get("pixel_values") and "input_ids" not in taken:
        return "pixel_values"
    kind = getattr(getattr(model, "config", None), "model_type", "")
    if kind in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES and "pixel_values" in taken:
        return "pixel_values"
    return name if name in WORDS and name != "hidden_states" else None


def _taken(model: nn.Module) -> dict[str, bool]:
    """The inputs that a model takes, and whether it can't do without."""
    if getattr(model, "config", None) is None:
        return {}
    taken = signature(model.forward).parameters.values()
    return {each.name: each.default is Parameter.empty for each in taken}


def signals(model: nn.Module, rows: int, seed: int) -> Batch:
    """Rows of it, and what says how they are to be read; nothing where a model takes ids alone.

    Shapes: images (rows, channels, height, width), videos (rows, frames, channels, height, width), images cut
    into patches (rows, patches, entries), sound (rows, samples), spectra (rows, bins, frames) or as the
    model's own class has them.
    """
    name, config = signal_of(model), getattr(model, "config", None)
    if name is None or config is None:
        return {}
    config = getattr(config, "vision_config", config) if name == "pixel_values" else config
    generator = torch.Generator().manual_seed(seed)
    taken = _taken(model)
    if GRID in taken:
        return _taken_by(model, _grids(name, config, rows, generator, "merge_sizes" in taken))
    if name == "input_features" and not any(hasattr(config, key) for key in LENGTHS):
        return _taken_by(model, _spectra(config, rows, generator, "input_features_mask" in taken))
    given: dict[str, Tensor] = {name: torch.randn(rows, *next(_shapes(name, config)), generator=generator)}
    if patched(config):
        side = isqrt(config.num_patches)
        given["pixel_attention_mask"] = (torch.arange(config.num_patches) < side**2).long().repeat(rows, 1)
        given["spatial_shapes"] = torch.tensor([[side, side]] * rows)
    if "noise" in taken:  # by which patches are masked; at random where none is given
        (height, width), (tall, wide) = _sides(config.image_size), _sides(config.patch_size)
        patches = (height // tall) * (width // wide)
        given["noise"] = torch.rand(rows, patches, generator=generator)
    if "input_features_mask" in taken and name == "input_features":
        frames = given[name].shape[-1]
        given["input_features_mask"] = torch.ones(rows, frames, dtype=torch.long)
    return given


def _taken_by(model: nn.Module, choices: Iterator[Batch]) -> Batch:
    """The first of these that the model runs: what its config says does not tell them apart.

    A model whose weights are read as they are used is given the first. Raises `IsogrowError` where it runs
    none.
    """
    kept = list(choices)
    if next(model.parameters()).is_meta:
        return kept[0]
    if model not in _RUN:
        with float64():
            wide = copy.deepcopy(model).double()
            _RUN[model] = next((nth for nth, given in enumerate(kept) if runs(wide, given)), None)
    found = _RUN[model]
    if found is None:
        raise IsogrowError(
            f"{type(model).__name__} takes {', '.join(kept[0])}, and it runs none of the shapes that isogrow"
            f" makes of its config, {UNPROVEN}"
        )
    return kept[found]


def _grids(name: str, config: Any, rows: int, generator: torch.Generator, merged: bool) -> Iterator[Batch]:
    """Images of equal grids, their patches one behind the other: of one frame or several, flat or not."""
    side = 2 * getattr(config, "spatial_merge_size", 1)
    channels = getattr(config, "num_channels", None) or getattr(config, "in_channels", CHANNELS)
    several = getattr(config, "temporal_patch_size", 1)
    size, count = config.patch_size, rows * side**2
    frames = (several,) if name == "hidden_states" else dict.fromkeys((1, several, FEW))
    for shape in (*((n * channels * size**2,) for n in frames), (channels, size, size)):
        given = {
            name: torch.randn(count, *shape, generator=generator),
            GRID: torch.tensor([[1, side, side]] * rows),
        }
        yield {**given, "merge_sizes": torch.ones(rows, dtype=torch.long)} if merged else given


def _spectra(config: Any, rows: int, generator: torch.Generator, masked: bool) -> Iterator[Batch]:
    """Spectra of a length of one's own: frames behind bins, or bins behind frames."""
    bins = config.num_mel_bins
    for frames, shape in ((2 * FRAMES, (2 * FRAMES, bins)), *((n, (bins, n)) for n in (2 * FRAMES, WINDOW))):
        given = {"input_features": torch.randn(rows, *shape, generator=generator)}
        yield given | ({"input_features_mask": torch.ones(rows, frames, dtype=torch.long)} if masked else {})


def _shapes(name: str, config: Any) -> Iterator[tuple[int, ...]]:
    """The shape of a row by the config, the likeliest first."""
    if name == "input_values" and (shape := waves(config)):
        yield shape
    elif name == "input_values" and hasattr(config, "num_mel_bins"):
        yield config.max_length, config.num_mel_bins
    elif name == "input_values":
        yield (SAMPLES,)
    if name == "input_features" and hasattr(config, "input_feat_per_channel"):
        yield 2 * FRAMES, config.input_feat_per_channel * config.input_channels
    elif name == "input_features":
        yield config.num_mel_bins, 2 * config.max_source_positions
    if patched(config):
        yield config.num_patches, config.num_channels * config.patch_size**2
    height, width = _sides(config.image_size)
    frames = (config.num_frames,) if hasattr(config, "num_frames") else ()
    yield (*frames, getattr(config, "num_channels", CHANNELS), height, width)


def waves(config: Any) -> tuple[int, ...]:
    """The shape of a sound's samples, of which the convolutions that a config names make a few frames; ()
    where it names none."""
    if not hasattr(config, FRONT):
        return ()
    samples = FRAMES
    for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
        samples = (samples - 1) * stride + kernel
    return (samples,)


def windows(config: Any) -> tuple[int, ...]:
    """How many frames of a spectrum an encoder may hear at once, the likeliest first."""
    said = (getattr(config, name, None) for name in ("n_window", "max_source_positions"))
    return tuple(dict.fromkeys((*(2 * each for each in said if isinstance(each, int)), 2 * FRAMES, WINDOW)))


def _sides(size: Any) -> tuple[int, int]:
    """Height and width, of one number or two."""
    height, width = size if isinstance(size, Sequence) else (size, size)
    return height, width


def patched(config: Any) -> bool:
    """Whether images come as patches of one size, as many of them as the image has."""
    return hasattr(config, "num_patches") and not hasattr(config, "image_size")
