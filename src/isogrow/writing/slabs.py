"""Slabs: a grown tensor in runs of consecutive entries, each filled on its own.

A file is written front to back without ever holding a large tensor. A slab fixes the outer factors of a
pattern, takes a range of the next one and all of those within:

    (kv_heads group head_dim) <- hidden      kv_heads = 2, group in 3..5, head_dim, hidden whole

so that what it holds lies together in storage, and is a box of each of the tensor's blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from torch import Tensor

from isogrow.anatomy import Stored
from isogrow.arithmetic import Filler, blocked, chunks, slices
from isogrow.pattern import Dim, Factor, Pattern, Sum
from isogrow.pieces import Block, Box
from isogrow.sizes import Sizes

Ranges = Mapping[str, range]


@dataclass(frozen=True)
class Slab:
    """Consecutive entries of a stored tensor.

    `pattern` is the tensor's own with its factors numbered ("f0", "f1", ...), since a size may stand
    in it twice; `ranges` says how much of each is held, and `part` which part, if it is only one.
    """

    pattern: Pattern
    ranges: Ranges
    part: str | None = None

    @property
    def count(self) -> int:
        """The number of entries."""
        return prod(self.pattern.shape(self.length))

    def length(self, factor: str) -> int:
        return len(self.ranges[factor])


def slabs(stored: Stored, sizes: Sizes, limit: int) -> Iterator[Slab]:
    """A stored tensor's slabs of at most `limit` entries (or one entry), in storage order."""
    pattern, axes = _numbered(stored.line.parsed)

    def extent(axis: str) -> int:
        return int(axis) if axis.isdigit() else sizes.of(axis, stored.index)

    whole = {factor: range(extent(axis)) for factor, axis in axes.items()}
    return _cut(Slab(pattern, whole), limit)


def fill_slab_(out: Tensor, slab: Slab, stored: Stored, filler: Filler, sizes: Sizes) -> None:
    """Fill `out`, the slab's entries one after the other."""
    own = stored.line.parsed
    index_axes = dict(zip(slab.pattern.index, own.index, strict=True))
    for part, block in stored.blocks(sizes):
        if slab.part not in (None, part):
            continue
        at = {factor: dict(block.index)[axis] for factor, axis in index_axes.items()}
        if all(i in slab.ranges[factor] for factor, i in at.items()):
            _fill_block_(out, slab, "" if slab.part is not None else part, block, at, filler)


def _fill_block_(
    out: Tensor, slab: Slab, part: str, block: Block, at: Mapping[str, int], filler: Filler
) -> None:
    local = {factor: slab.ranges[factor].index(i) for factor, i in at.items()}
    target = blocked(out, slab.pattern.view(part, local, slab.length))
    box = tuple(slab.ranges[factor] for factor in slab.pattern.axes(part))
    order = tuple(sorted(range(target.dim()), key=lambda d: -target.stride(d)))
    for some in chunks(box, order, filler.limit):
        filler.fill_box_(target[slices(_within(some, box))], block, some)


def _within(some: Box, box: Box) -> Box:
    return tuple(
        range(r.start - whole.start, r.stop - whole.start) for r, whole in zip(some, box, strict=True)
    )


def _cut(slab: Slab, limit: int) -> Iterator[Slab]:
    factor = next((f for f in _factors(slab.pattern) if _divisible(slab, f)), None)
    if slab.count <= limit or factor is None:
        yield slab
        return
    if isinstance(factor, Sum):
        for name, axes in factor.parts:
            yield from _cut(Slab(_only(slab.pattern, factor, axes), slab.ranges, name), limit)
        return
    held = slab.ranges[factor]
    rows = max(1, limit * len(held) // slab.count)
    for start in range(held.start, held.stop, rows):
        ranges = {**slab.ranges, factor: range(start, min(start + rows, held.stop))}
        yield from _cut(replace(slab, ranges=ranges), limit)


def _divisible(slab: Slab, factor: Factor) -> bool:
    return isinstance(factor, Sum) or slab.length(factor) > 1


def _factors(pattern: Pattern) -> Iterator[Factor]:
    return (factor for dim in pattern.dims for factor in dim.factors)


def _only(pattern: Pattern, total: Sum, axes: tuple[str, ...]) -> Pattern:
    """The pattern of one part alone."""

    def dim(old: Dim) -> Dim:
        factors = [axes if factor is total else (factor,) for factor in old.factors]
        return replace(old, factors=tuple(f for group in factors for f in group))

    return replace(pattern, left=tuple(map(dim, pattern.left)), right=tuple(map(dim, pattern.right)))


def _numbered(pattern: Pattern) -> tuple[Pattern, dict[str, str]]:
    """The pattern with its factors numbered in storage order, and what each of them is."""
    axes: dict[str, str] = {}

    def number(axis: str) -> str:
        factor = f"f{len(axes)}"
        axes[factor] = axis
        return factor

    def total(old: Sum) -> Sum:
        return Sum(tuple((name, tuple(map(number, factors))) for name, factors in old.parts))

    def dim(old: Dim) -> Dim:
        factors = (total(f) if isinstance(f, Sum) else number(f) for f in old.factors)
        return replace(old, factors=tuple(factors))

    left = tuple(map(dim, pattern.left))
    right = tuple(map(dim, pattern.right))
    return Pattern(left, pattern.arrow, right), axes
