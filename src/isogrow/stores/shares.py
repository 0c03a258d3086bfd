"""Which rank writes what of an output: a pure function of how many bytes there are, so that nothing is said.

All that is to be written stands in a row, and each rank gets a stretch of it. So all but a few tensors are
one rank's alone: what such a tensor needs of the old model as a whole is made once, not on every rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """How `total` bytes in a row are shared by `world` ranks."""

    world: int
    total: int

    def owner(self, start: int, size: int) -> int:
        """Who writes these bytes, which nobody cuts: in whose stretch their middle lies.

        >>> [Share(2, 12).owner(start, 4) for start in (0, 4, 8)]
        [0, 1, 1]
        """
        return (2 * start + size) * self.world // (2 * self.total) if size else 0

    def owners(self, start: int, size: int) -> range:
        """Who may write parts of these bytes, however they are cut.

        >>> Share(3, 12).owners(2, 4)
        range(0, 2)
        """
        if not size:
            return range(1)
        return range(start * self.world // self.total, ((start + size) * self.world - 1) // self.total + 1)


def shared(world: int, sizes: Mapping[str, int]) -> tuple[Share, dict[str, int]]:
    """The share of what has these sizes, one after the other, and where each begins."""
    starts = accumulate(sizes.values(), initial=0)
    return Share(world, sum(sizes.values())), dict(zip(sizes, starts, strict=False))


def dealt(share: Share, sized: Iterable[tuple[int, T]], start: int = 0) -> Iterator[tuple[int, T]]:
    """Who writes each of what is not cut, of these sizes, from this byte on."""
    for size, each in sized:
        yield share.owner(start, size), each
        start += size
