"""Normal numbers by inversion: a cell of probability 2^-16 by 16 random bits, and a place in it by 53 more.

The edges of the cells are the normal's quantiles, so a table holds them, and no logarithm or cosine is taken
for an entry. What most 16-bit outputs become is known from the cell alone: `Rounding` holds it, and only
entries whose cell holds a boundary between two outputs are made in full. Both ways give the same bits.

Law of the entries: symmetric about 0, with mean 0, variance 1 and fourth moment 2.9999; uniform in a cell;
P(z < e_i) = i / 2^16 at each edge e_i, as of the normal. Cells are from 3.8e-5 wide (at 0) to 0.16 (at 4.1).
The two outermost, of probability 2^-16 each, go from ±4.170 to ±4.579, where the variance is 1: no entry lies
further out (of the normal's, 1 in 214,000 does).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from isogrow.numbers.hashing import Bits, Box, Floats, cut, mixed_, places, seeds

CELLS = 1 << 16
LANES = 4  # cells that 64 random bits give
UNSURE = np.uint16(0xFFFF)  # no number in any 16-bit float, so it can stand for "look closer"
GRAIN = 2.0**40  # edges are multiples of 1 / GRAIN: no last bit of a system's logarithm is in them

Words = NDArray[np.uint16]


@dataclass(frozen=True)
class Rounding:
    """What a function of z that never falls (or never rises) gives in 16 bits, for every cell: `words`, or
    `UNSURE` where two entries of the cell would differ."""

    words: Words
    exact: Callable[[Floats], Words]


def rounding(exact: Callable[[Floats], Words]) -> Rounding:
    """The table of such a function."""
    at_edges = exact(edges())
    words = at_edges[:-1].copy()
    words[words != at_edges[1:]] = UNSURE
    return Rounding(words, exact)


@lru_cache(maxsize=1)
def edges() -> Floats:
    """The edges of the cells from below: quantiles of the normal, but for the first and the last."""
    inverse = NormalDist().inv_cdf
    inner = np.array([inverse(0.5 + i / CELLS) for i in range(CELLS // 2)])
    inner = np.round(inner * GRAIN) / GRAIN
    upper = np.append(inner, _reach(inner))
    return np.concatenate([-upper[:0:-1], upper])


def _reach(upper: Floats) -> float:
    """Where the last cell ends: the variance of all of them together is 1.

    The second moment of a cell from a to b is (a² + a b + b²) / 3.
    """
    a, b = upper[:-1], upper[1:]
    last = upper[-1]
    moment = 3.0 * CELLS / 2 - float(np.sum(a * a + a * b + b * b))
    return float(np.round((np.sqrt(4.0 * moment - 3.0 * last * last) - last) / 2.0 * GRAIN) / GRAIN)


@lru_cache(maxsize=1)
def _table() -> tuple[Floats, Floats]:
    """Where each cell begins, and how wide it is."""
    found = edges()
    return found[:-1], found[1:] - found[:-1]


def normal(key: str, shape: tuple[int, ...], box: Box) -> Floats:
    """Standard normal entries at `box` of a region of `shape`.

    >>> x = normal("k", (4, 6), (range(4), range(6)))
    >>> bool((normal("k", (4, 6), (range(1, 3), range(2, 6))) == x[1:3, 2:6]).all())
    True
    """
    at, cell = places(shape, box), _cells(key, shape, box).reshape(-1)
    result = np.empty(at.size)
    for run in cut(at.size):
        result[run] = _inside(key, cell[run], at[run])
    return result.reshape([len(r) for r in box])


def normal_words(key: str, shape: tuple[int, ...], box: Box, rule: Rounding) -> Words:
    """`rule.exact` of what `normal` gives, bit by bit, mostly by looking it up."""
    cell = _cells(key, shape, box)
    words = np.asarray(np.take(rule.words, cell, mode="clip"))
    unsure = np.flatnonzero(words.reshape(-1) == UNSURE)
    if len(unsure):
        at = _at(unsure, shape, box)
        words.reshape(-1)[unsure] = rule.exact(_inside(key, cell.reshape(-1)[unsure], at))
    return words


def _at(numbers: NDArray[np.intp], shape: tuple[int, ...], box: Box) -> Bits:
    """The places in a region of a box's entries with these numbers."""
    if not box:
        return numbers.astype(np.uint64)
    if box[-1] == range(shape[-1]) and all(len(r) == 1 for r in box[:-2]):  # a run: it need not be cut up
        first = places(shape, tuple(r[:1] for r in box))
        return numbers.astype(np.uint64) + first
    row, column = np.divmod(numbers, len(box[-1]))
    rows = places(shape[:-1], box[:-1])[row]
    return rows * np.uint64(shape[-1]) + (column.astype(np.uint64) + np.uint64(box[-1].start))


def _inside(key: str, cell: Words, at: Bits) -> Floats:
    """The entries in these cells: each somewhere in its own. `at` is overwritten."""
    lower, width = _table()
    unit = (mixed_(at, seeds(key, 2)[1]) >> np.uint64(11)).astype(np.float64)
    unit += 0.5
    unit *= 2.0**-53
    unit *= np.take(width, cell, mode="clip")
    unit += np.take(lower, cell, mode="clip")
    return unit


def _cells(key: str, shape: tuple[int, ...], box: Box) -> Words:
    """The cell of each entry. `LANES` neighbours along the last dim share 64 bits, counted row by row."""
    if not box:
        return _cells(key, (1,), (range(1),)).reshape(())
    per_row, last = -(-shape[-1] // LANES), box[-1]
    groups = range(last.start // LANES, -(-last.stop // LANES))
    counted = (*shape[:-1], per_row)
    count = prod(map(len, box[:-1])) * len(groups)
    bits, seed = places(counted, (*box[:-1], groups)), seeds(key, 2)[0]
    for run in cut(count):
        mixed_(bits[run], seed)
    lanes = bits.astype("<u8", copy=False).view("<u2").reshape([*map(len, box[:-1]), len(groups) * LANES])
    first = last.start - groups.start * LANES
    return lanes[..., first : first + len(last)]
