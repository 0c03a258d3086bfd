"""What a tiny model is run on: token ids, or the images or sound that it takes in their place."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from isogrow.layouts.config import Config
from isogrow.verification.float64 import float64
from isogrow.verification.pictures import pictured
from isogrow.verification.runs import Batch, narrowed
from isogrow.verification.signals import signal_of, signals

NO_CACHE = "use_cache"


def vocabulary(config: Config) -> int:
    """How many token ids there are; 0 where the config has none."""
    text = config.get("text_config")
    said = (text if isinstance(text, Mapping) else config).get("vocab_size")
    return said if isinstance(said, int) else 0


def inputs(model: nn.Module, config: Config, shape: tuple[int, int], seed: int) -> Mapping[str, Tensor]:
    """Random inputs by name: ids of this many rows and tokens, or rows of what the model takes instead."""
    rows, tokens = shape
    signal, taken = signal_of(model), inspect.signature(model.forward).parameters
    alone = signal is not None and (
        signal == getattr(model, "main_input_name", "") or "input_ids" not in taken
    )
    if alone:
        return narrowed(model, signals(model, rows, seed))
    vocab = vocabulary(config)
    generator = torch.Generator().manual_seed(seed)
    return {"input_ids": torch.randint(3, max(4, vocab - 4), (rows, tokens), generator=generator)}


def batches(model: nn.Module, config: Config, shape: tuple[int, int]) -> tuple[Batch, ...]:
    """What two models are compared on: `inputs`, and the same texts with images where a model takes both."""
    plain = inputs(model, config, shape, 3)
    if "input_ids" not in plain:
        return (plain,)
    with float64():
        seen = pictured(model, plain["input_ids"])
    needed = inspect.signature(model.forward).parameters.get("pixel_values")
    alone = needed is None or needed.default is not inspect.Parameter.empty
    return tuple(each for each in (plain if alone else None, seen) if each is not None)


def run(model: nn.Module, given: Mapping[str, Tensor]) -> Any:
    """One forward pass without a cache."""
    taken = inspect.signature(model.forward).parameters
    kept: dict[str, Any] = {NO_CACHE: False} if NO_CACHE in taken else {}
    return model(**given, **kept)
