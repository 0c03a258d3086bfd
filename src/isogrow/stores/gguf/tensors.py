"""The tensors of a GGUF file under transformers' names: which bytes each is made of, and in which dtype.

llama.cpp's converter reorders and renames, and stores what has one axis (and little else) in float32. All
of that is undone in strides and names; a number is rounded nowhere. So a tensor in float32 beside 16-bit
matrices gets their dtype where that holds all of them exactly, and else the model is one in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from isogrow.errors import CheckpointError
from isogrow.plans.anatomy import Header
from isogrow.plans.boxes import strides
from isogrow.plans.pieces import Box, whole
from isogrow.stores.dtypes import BITS
from isogrow.stores.gguf.architectures import Architecture
from isogrow.stores.gguf.config import FACTORS, LAYER
from isogrow.stores.gguf.file import Entry, File
from isogrow.stores.laid import Laid, Numbers

ROWS = 1 << 22  # numbers that are looked at at a time


@dataclass(frozen=True)
class Tensor:
    """A tensor as transformers has it, and the one of the file that it is of."""

    name: str
    shape: tuple[int, ...]
    laid: tuple[Laid, ...]


def dtype_of(file: File, known: Architecture) -> str:
    """The word of the dtype that the whole model has without loss."""
    words = {each.word for each in file.entries.values() if len(each.shape) > 1}
    half = words - {"F32"}
    if "F64" in words or len(half) != 1:
        return "F64" if "F64" in words else "F32"
    (word,) = half
    wide = ((name, each) for name, each in file.entries.items() if each.word == "F32" and name != FACTORS)
    exact = all(_fits(part, word) for name, each in wide for part in _parts(file, each, _less(known, name)))
    return word if exact else "F32"


def tensors_of(
    file: File, known: Architecture, config: Mapping[str, int], word: str
) -> Iterator[tuple[Tensor, Header]]:
    """Every tensor under its name in transformers. Raises `CheckpointError` for one that is not known."""
    left = dropped(file, known)
    for name, entry in file.entries.items():
        if name in left or name == FACTORS:
            continue
        stem, _, ending = name.rpartition(".")
        number = LAYER.search(name)
        pattern = LAYER.sub("{}", stem)
        target = known.tensors.get(pattern)
        if target is None or ending not in ("weight", "bias"):
            raise CheckpointError(
                f"{file.path.name} has the tensor {name}, which isogrow does not know of {known.name} models:"
                " give the model that the file was made from"
            )
        less = _less(known, name)
        _check_offset(file, name, entry, less)
        ours = f"{target.format(number.group() if number else '')}.{ending}"
        shape, laid = _laid(file, entry, less, known, pattern, config)
        dtype = word if entry.word == "F32" and word != "F32" else entry.word
        yield Tensor(ours, shape, laid), Header(shape, dtype)


def dropped(file: File, known: Architecture) -> set[str]:
    """The tensors that equal another one of the file, bit by bit, and are left out."""
    found = {name for name, other in known.drops.items() if {name, other} <= file.entries.keys()}
    return {name for name in found if _same(file, file.entries[name], file.entries[known.drops[name]])}


def _same(file: File, one: Entry, two: Entry) -> bool:
    if (one.shape, one.word) != (two.shape, two.word):
        return False
    size = prod(one.shape) * BITS[one.word] // 8
    held = np.memmap(file.path, np.uint8, "r")
    cuts = range(0, size, 4 * ROWS)
    ends = ((at, min(at + 4 * ROWS, size)) for at in cuts)
    return all(
        np.array_equal(held[one.start + at : one.start + end], held[two.start + at : two.start + end])
        for at, end in ends
    )


def _less(known: Architecture, name: str) -> float:
    return known.offset if name.endswith("norm.weight") else 0.0


def _parts(file: File, entry: Entry, less: float) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """The numbers of a float32 tensor as transformers has them, a part at a time."""
    held = np.memmap(file.path, np.float32, "r", entry.start, (prod(entry.shape),))
    for start in range(0, len(held), ROWS):
        part = np.asarray(held[start : start + ROWS])
        yield part - np.float32(less) if less else part


def _fits(numbers: np.ndarray[tuple[int], np.dtype[np.float32]], word: str) -> bool:
    """Whether float32 numbers are numbers of a 16-bit dtype, too."""
    if word == "BF16":
        return not np.any(numbers.view(np.uint32) & 0xFFFF)
    with np.errstate(over="ignore"):
        return np.array_equal(numbers.astype(np.float16).astype(np.float32), numbers)


def _check_offset(file: File, name: str, entry: Entry, less: float) -> None:
    """Refuse a gain that 1 + g does not give back in float32, as the model computes it."""
    if not less:
        return
    if entry.word != "F32":
        raise CheckpointError(
            f"{file.path.name} has {name} in {entry.word}, and 1 + g is exact in F32 alone: convert it again"
        )
    held = np.memmap(file.path, np.float32, "r", entry.start, entry.shape)
    lost = np.flatnonzero(np.float32(less) + (held - np.float32(less)) != held)
    if len(lost):
        raise CheckpointError(
            f"{file.path.name} has {float(held[lost[0]]):g} at {name}[{lost[0]}], which no gain g gives as"
            f" {less:g} + g in float32: give the model that the file was made from"
        )


def _laid(
    file: File, entry: Entry, less: float, known: Architecture, pattern: str, config: Mapping[str, int]
) -> tuple[tuple[int, ...], tuple[Laid, ...]]:
    """The shape of a tensor in transformers, and the boxes that it is made of."""

    def at(box: Box, offset: int, steps: tuple[int, ...]) -> Laid:
        numbers = Numbers(entry.start + offset * BITS[entry.word] // 8, steps)
        return Laid(box, file.path, numbers, entry.word, less)

    shape, steps = entry.shape, strides(entry.shape)
    if pattern in known.turned and len(shape) == 2:
        return shape[::-1], (at(whole(shape[::-1]), 0, steps[::-1]),)
    if pattern not in known.heads:
        return shape, (at(whole(shape), 0, steps),)
    heads, rest = int(config[known.heads[pattern]]), whole(shape[1:])
    half = shape[0] // heads // 2
    if shape[0] != 2 * half * heads:
        raise CheckpointError(
            f"{file.path.name} has {shape[0]} rows in {pattern.format('…')} for {heads} heads: fetch it again"
        )
    places = [(head, part) for head in range(heads) for part in (0, 1)]
    return shape, tuple(
        at(
            (range((2 * head + part) * half, (2 * head + part + 1) * half), *rest),
            (2 * head * half + part) * steps[0],
            (2 * steps[0], *steps[1:]),
        )
        for head, part in places
    )
