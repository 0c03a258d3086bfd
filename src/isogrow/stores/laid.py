"""Where a tensor's numbers lie in a file: in boxes, each from one byte on, at strides of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isogrow.plans.pieces import Box


@dataclass(frozen=True)
class Numbers:
    """Where a box's numbers lie: the byte of its file at which they begin, and their strides."""

    start: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Laid:
    """A box of a tensor, and where it lies in a file, in numbers of the dtype `word`, which may be another
    than the tensor's; `less` is taken from each of them."""

    box: Box
    path: Path
    numbers: Numbers
    word: str
    less: float = 0.0
