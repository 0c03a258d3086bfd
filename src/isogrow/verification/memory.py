"""Whether two models fit in memory to be compared: asked before either is loaded."""

from __future__ import annotations

import os
import re
from collections import Counter
from math import prod
from pathlib import Path

from torch import nn

from isogrow.stores.sources import Checkpoint

NUMBERED = re.compile(r".*?\.\d+\.")  # a layer's name
BESIDE = 500_000_000  # bytes for what is no layer: activations, outputs, parts of tables
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


def streaming_shortage(small: Checkpoint | nn.Module, large: Checkpoint | nn.Module) -> str:
    """Why not even a layer of each of two models fits in memory; "" if they do."""
    needed, free = 8 * (largest_layer(small) + largest_layer(large)) + BESIDE, available()
    if needed <= free:
        return ""
    return (
        f"needs about {needed / 1e9:.3g} GB of memory for two layers in float64, and {free / 1e9:.3g} GB are"
        " free: nothing was compared; verify on a larger machine"
    )


def largest_layer(model: Checkpoint | nn.Module) -> int:
    """How many numbers the largest layer of a model has: the tensors whose names have its number first."""
    if isinstance(model, nn.Module):
        shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    else:
        shapes = {name: header.shape for name, header in model.headers.items()}
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
