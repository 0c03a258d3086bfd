"""Whether two models fit in memory to be compared: asked before either is loaded."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path

from torch import nn

from isogrow.stores.sources import Checkpoint

NUMBERED = re.compile(r".*?\.\d+\.")  # a layer's name
BESIDE = 500_000_000  # bytes for what is no layer: activations, outputs, parts of tables
TRAINED = 2 + 1 / 64  # float64 copies of a layer in training: weights, gradients, a bit for which had some
COPIES = 6  # float64 copies of the large model that are alive at once at the most: weights, gradients, …


def parameters(model: Checkpoint | nn.Module) -> int:
    """How many numbers a model has; of a checkpoint by its headers, where a tied tensor may count twice."""
    if isinstance(model, nn.Module):
        return sum(each.numel() for each in model.parameters())
    return sum(prod(header.shape) for header in model.headers.values())


def shortage(before: int, after: int) -> str:
    """Why models of so many parameters can't be compared in this machine's memory; "" if they can."""
    needed, free = 8 * (before + COPIES * after), available()
    if needed <= free:
        return ""
    return (
        f"needs about {needed / 1e9:.3g} GB of memory in float64, and {free / 1e9:.3g} GB are free: nothing"
        " was compared; verify on a larger machine"
    )


def streaming_shortage(before: int, after: int) -> str:
    """Why not even layers of so many parameters fit in this machine's memory; "" if they do."""
    needed, free = 8 * (before + after) + BESIDE, available()
    if needed <= free:
        return ""
    return (
        f"needs about {needed / 1e9:.3g} GB of memory for a layer of each in float64, and {free / 1e9:.3g} GB"
        " are free: nothing was compared; verify on a larger machine"
    )


def training_shortage(layer: int) -> str:
    """Why a layer of so many parameters can't be trained in this machine's memory; "" if it can."""
    needed, free = 8 * TRAINED * layer + BESIDE, available()
    if needed <= free:
        return ""
    return f"needs about {needed / 1e9:.3g} GB of memory to train a layer, and {free / 1e9:.3g} GB are free"


def shapes_of(model: Checkpoint | nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's tensors, by name."""
    if isinstance(model, nn.Module):
        return {name: tuple(value.shape) for name, value in model.named_parameters()}
    return {name: header.shape for name, header in model.headers.items()}


def largest_layer(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many numbers the largest layer has: of all tensors whose names begin with its number.

    >>> largest_layer({"h.0.up": (2, 3), "h.0.down": (3, 2), "h.1.up": (4, 3), "head": (9, 9)})
    12
    """
    found = Counter[str]()
    for name, shape in shapes.items():
        layer = NUMBERED.match(name)
        if layer:
            found[layer.group()] += prod(shape)
    return max(found.values(), default=0)


def available() -> int:
    """Bytes of memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
