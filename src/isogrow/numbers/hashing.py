"""64 random bits for each place of a region: SplitMix64's output function applied to seed + counter.

It is counter-based, so any entry's bits are made alone. Few passes over memory, in runs that a cache holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

Box = tuple[range, ...]
Floats = NDArray[np.float64]
Bits = NDArray[np.uint64]

RUN = 1 << 14
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# shift, then multiply by; the last round multiplies by nothing
ROUNDS = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
LAST = np.uint64(31)


def seeds(key: str, count: int) -> Bits:
    """So many numbers that only this key has."""
    return np.frombuffer(hashlib.blake2b(key.encode(), digest_size=8 * count).digest(), dtype="<u8")


def places(shape: tuple[int, ...], box: Box) -> Bits:
    """The coordinate of every entry of the box in the whole region, flat.

    >>> places((3, 4), (range(1, 3), range(2)))
    array([4, 5, 8, 9], dtype=uint64)
    """
    place = np.zeros((), dtype=np.uint64)
    for d, r in enumerate(box):
        steps = np.arange(r.start, r.stop, dtype=np.uint64) * np.uint64(prod(shape[d + 1 :]))
        place = place[..., None] + steps
    return np.ascontiguousarray(place).reshape(-1)


def mixed_(place: Bits, seed: np.uint64) -> Bits:
    """SplitMix64's output function of these places, which are overwritten by it."""
    z = place
    z += np.uint64(1)
    z *= GOLDEN
    z += seed
    shifted = np.empty_like(z)
    for shift, factor in ROUNDS:
        z ^= np.right_shift(z, shift, out=shifted)
        z *= factor
    z ^= np.right_shift(z, LAST, out=shifted)
    return z


def cut(count: int) -> Iterator[slice]:
    """Runs of `RUN` entries."""
    return (slice(start, start + RUN) for start in range(0, count, RUN))
