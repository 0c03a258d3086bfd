"""Regions of stored tensors, and boxes of the blocks that lie in them, both ways: no tensor is read, and no
torch loaded.

A stored dim flattens factors, so a range of it is one box of them, or a few:

    (kv_heads group), 2 x 4: positions 2..6 are [0, 2..4] and [1, 0..3]

`boxes` goes from any region of a tensor to what it holds (a slab of a file, a rank's shard); `lying` goes
from a box of a block to where it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from isogrow.layouts.pattern import Dim, View
from isogrow.plans.anatomy import Stored
from isogrow.plans.parts import view_of
from isogrow.plans.pieces import Block, Box
from isogrow.plans.sizes import Sizes

# How a block is seen in the tensor that stores it.
See = Callable[[Stored, str, Block, Sizes], View]


@dataclass(frozen=True)
class Held:
    """What a region holds of a block: `box`, which `view` makes of the region's entries at `place`."""

    block: Block
    box: Box
    place: Box
    view: View


# ── boxes ──


def slices(box: Box) -> tuple[slice, ...]:
    """A box as an index."""
    return tuple(slice(r.start, r.stop, r.step) for r in box)


def chunks(box: Box, order: tuple[int, ...], limit: int) -> Iterator[Box]:
    """Boxes of at most `limit` entries (or one entry) that tile `box`, split along `order`'s first dims.

    In the order of storage each is a run of consecutive entries.
    """
    count = prod(map(len, box))
    if count <= limit or not order:
        yield box
        return
    dim = order[0]
    rows = max(1, limit * len(box[dim]) // count)
    for start in range(box[dim].start, box[dim].stop, rows):
        part = range(start, min(start + rows, box[dim].stop))
        yield from chunks(tuple(part if d == dim else r for d, r in enumerate(box)), order[1:], limit)


def contiguous(box: Box) -> Iterator[tuple[Box, Box]]:
    """(place, box) of boxes without gaps that are `box` together; `place` counts along it."""
    sides = [
        [(range(len(r)), r)] if r.step == 1 else [(range(i, i + 1), range(n, n + 1)) for i, n in enumerate(r)]
        for r in box
    ]
    for side in product(*sides):
        yield tuple(place for place, _ in side), tuple(r for _, r in side)


def overlap(box: Box, other: Box) -> Box | None:
    """What two boxes have in common, of which `other` has no gaps; None for nothing.

    >>> overlap((range(1, 9, 3), range(4)), (range(2, 6), range(3, 5)))
    (range(4, 7, 3), range(3, 4))
    """
    found: list[range] = []
    for r, o in zip(box, other, strict=True):
        common = r if r == o else _common(r, o)
        if not common:
            return None
        found.append(common)
    return tuple(found)


def _common(r: range, other: range) -> range:
    if r.step == 1:
        start = r.start if r.start > other.start else other.start
        stop = r.stop if r.stop < other.stop else other.stop
        return range(start, stop if stop > start else start)
    first = max(0, -(-(other.start - r.start) // r.step))
    return r[first : max(first, -(-(other.stop - r.start) // r.step))]


def counted_from(box: Box, part: Box) -> Box:
    """A part of a box, counted along the box; where the part leaves out entries, so does what is counted.

    >>> counted_from((range(1, 9, 3), range(4)), (range(4, 7, 3), range(1, 4, 2)))
    (range(1, 2), range(1, 4, 2))
    """
    return tuple(_counted(r, p) for r, p in zip(box, part, strict=True))


def _counted(r: range, part: range) -> range:
    step = max(1, part.step // r.step) if len(part) > 1 else 1
    start = (part.start - r.start) // r.step
    return range(start, start + (len(part) - 1) * step + 1 if part else start, step)


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many entries lie between neighbours along each dim, where the last varies fastest.

    >>> strides((3, 4, 5))
    (20, 5, 1)
    """
    return tuple(prod(shape[d + 1 :]) for d in range(len(shape)))


def runs(shape: tuple[int, ...], region: Box) -> Iterator[tuple[int, Box]]:
    """(offset, box) of a region's runs of consecutive entries in storage, in the order of storage.

    >>> list(runs((3, 4), (range(1, 3), range(4))))
    [(4, (range(1, 3), range(0, 4)))]
    >>> [offset for offset, _ in runs((3, 4), (range(1, 3), range(2)))]
    [4, 8]
    """
    last = max((d for d, r in enumerate(region) if r != range(shape[d])), default=0)
    for at in product(*region[:last]):
        box = (*(range(n, n + 1) for n in at), *region[last:])
        if all(box):
            yield sum(r.start * n for r, n in zip(box, strides(shape), strict=True)), box


# ── from a region to what it holds ──


def boxes(stored: Stored, region: Box, sizes: Sizes, see: See = view_of) -> Iterator[Held]:
    """All that a region of a stored tensor holds, each entry once; `see` is `remembered` for many regions.

    `region` has a range, with gaps or without, for each dim of the tensor. Law, where `x` is the tensor and
    `b` one of its blocks: `blocked(x[slices(region)][slices(held.place)], held.view)` equals
    `b[slices(held.box)]`.

    >>> from isogrow.plans.anatomy import Header
    >>> from isogrow.layouts.layout import Weight
    >>> (line,) = Weight("w", "-> (heads width)", "s").lines()
    >>> stored = Stored("w", line, (), Header((8,), "F32"))
    >>> for held in boxes(stored, (range(2, 6),), Sizes({"heads": 2, "width": 4})):
    ...     print(held.box, held.place)
    (range(0, 1), range(2, 4)) (range(0, 2),)
    (range(1, 2), range(0, 2)) (range(2, 4),)
    """
    pattern = stored.line.parsed
    counts = tuple(len(dim.factors) for dim in pattern.dims)
    dims = zip(region, pattern.dims, strict=True)
    numbers = [_numbers(r, stored, dim, sizes) for r, dim in dims if dim.index]
    for part, slot in stored.line.parts():
        for at in product(*numbers):
            block = Block(slot.name, (*stored.index, *zip(pattern.index, at, strict=True)), slot.axes)
            for found in within(see(stored, part, block, sizes), region, counts):
                yield Held(block, *found)


def _numbers(r: range, stored: Stored, dim: Dim, sizes: Sizes) -> range:
    """The numbers of the blocks that these positions of a dim lie in."""
    if not dim.inside or not r:
        return r
    inner = dim.length(lambda axis: sizes.of(axis, stored.index)) // sizes.of(str(dim.factors[0]))
    return range(r[0] // inner, r[-1] // inner + 1)


def remembered() -> See:
    """`view_of` of one tensor under one model's sizes, which asks once for each block."""
    seen: dict[Block, View] = {}

    def see(stored: Stored, part: str, block: Block, sizes: Sizes) -> View:
        if block not in seen:
            seen[block] = view_of(stored, part, block, sizes)
        return seen[block]

    return see


def within(view: View, region: Box, counts: Sequence[int]) -> Iterator[tuple[Box, Box, View]]:
    """(box, place, view) of what a region holds of the block that `view` sees in the tensor.

    `counts` says how many factors each dim flattens; `place` counts along the region.
    """
    sizes, sides = list(view.full), list[list[tuple[range, Box]]]()
    for r, count in zip(region, counts, strict=True):
        sides.append(list(_unfolded(r, tuple(sizes[:count]))))
        del sizes[:count]
    for side in product(*sides):
        place = tuple(run for run, _ in side)
        factors = tuple(r for _, ranges in side for r in ranges)
        for narrow, split in _narrowed(view, factors):
            if all(i in split[d] for d, i in view.select):
                yield _kept(view, split), place, _local(view, factors, narrow, split)


def _unfolded(r: range, sizes: tuple[int, ...]) -> Iterator[tuple[range, Box]]:
    """(run, box): boxes of the factors of these sizes that are the positions `r` of the dim which flattens
    them, each of them a run of `r`, one after the other."""
    if len(sizes) == 1:
        if r:
            yield range(len(r)), (r,)
        return
    inner, done = prod(sizes[1:]), 0
    while done < len(r):
        row, first = divmod(r[done], inner)
        count = min(len(r) - done, -(-(inner - first) // r.step))  # in this row
        further, odd = divmod(count * r.step, inner)
        alike = 1 if odd else (len(r) - done) // count
        rows = range(row, row + alike * further, further) if alike > 1 else range(row, row + 1)
        yield from _in_rows(rows, range(first, first + count * r.step, r.step), sizes[1:], done)
        done += alike * count


def _in_rows(rows: range, inside: range, sizes: tuple[int, ...], done: int) -> Iterator[tuple[range, Box]]:
    """The same for rows which all hold `inside`; what is no one box of a row is a run of each row alone."""
    found = list(_unfolded(inside, sizes))
    if len(found) == 1:
        yield range(done, done + len(rows) * len(inside)), (rows, *found[0][1])
        return
    for i, row in enumerate(rows):
        start = done + i * len(inside)
        for run, box in found:
            yield range(start + run.start, start + run.stop), (range(row, row + 1), *box)


def _narrowed(view: View, factors: Box) -> Iterator[tuple[tuple[int, int, int] | None, Box]]:
    """How a fused tensor's factors are narrowed to a part, and the ranges of the dims that the view splits
    them into: once where the tensor is not fused."""
    if view.narrow is None:
        yield None, factors
        return
    at, start, count = view.narrow
    sizes = view.split[at : at + len(view.split) - len(view.full) + 1]
    own = _common(factors[at], range(start, start + count))
    first = factors[at].index(own[0]) if own else 0
    for run, box in _unfolded(range(own.start - start, own.stop - start, own.step), sizes) if own else ():
        yield (at, first + run.start, len(run)), (*factors[:at], *box, *factors[at + 1 :])


def _kept(view: View, split: Box) -> Box:
    """The ranges of the block's own dims."""
    chosen = dict(view.select)
    kept = [r for d, r in enumerate(split) if d not in chosen]
    return tuple(kept[place] for place in view.order)


def _local(view: View, factors: Box, narrow: tuple[int, int, int] | None, split: Box) -> View:
    """The view of what the region has at a place."""
    select = tuple((d, split[d].index(i)) for d, i in view.select)
    return View(tuple(map(len, factors)), narrow, tuple(map(len, split)), select, view.order)


# ── from a box to where it lies ──


def lying(view: View, box: Box, counts: Sequence[int]) -> Iterator[Box]:
    """Where a box of a block lies in the tensor that stores it; each dim flattens `counts` factors."""
    factors, sides = list(_factors(view, _split(view, box))), list[list[range]]()
    for count in counts:
        sides.append(_flat(factors[:count]))
        del factors[:count]
    yield from product(*sides)


def _factors(view: View, ranges: list[tuple[range, int]]) -> Iterator[tuple[list[range], int]]:
    """The positions on each factor, and its size: a fused tensor's parts lie one after the other on one."""
    parts = len(view.split) - len(view.full) + 1  # axes of the part, where the tensor is fused
    for at, size in enumerate(view.full):
        if view.narrow is not None and view.narrow[0] == at:
            start, inner = view.narrow[1], _flat([([r], n) for r, n in ranges[:parts]])
            yield [range(r.start + start, r.stop + start, r.step) for r in inner], size
            ranges = ranges[parts:]
        else:
            yield [ranges[0][0]], size
            ranges = ranges[1:]


def _split(view: View, box: Box) -> list[tuple[range, int]]:
    """The range and the size of each dim that the view splits the tensor into, in storage order."""
    selected = dict(view.select)
    kept = [d for d in range(len(view.split)) if d not in selected]
    ranges = {kept[place]: box[d] for d, place in enumerate(view.order)}
    ranges |= {d: range(at, at + 1) for d, at in selected.items()}
    return [(ranges[d], size) for d, size in enumerate(view.split)]


def _flat(factors: Sequence[tuple[list[range], int]]) -> list[range]:
    """The positions on a dim that flattens these factors, the first of which varies slowest."""
    found = [range(1)]
    for ranges, size in factors:
        if len(ranges) == 1 and ranges[0] == range(size):
            found = [r for outer in found for r in _repeated(outer, size)]
        elif len(ranges) == 1 and len(ranges[0]) == 1:
            at = ranges[0].start
            found = [range(r.start * size + at, r[-1] * size + at + 1, r.step * size) for r in found]
        else:
            found = [
                range(at * size + r.start, at * size + r[-1] + 1, r.step)
                for outer in found
                for at in outer
                for r in ranges
            ]
    return found


def _repeated(outer: range, size: int) -> list[range]:
    """Whole runs of `size` at these positions."""
    if outer.step == 1:
        return [range(outer.start * size, outer.stop * size)]
    return [range(at * size, (at + 1) * size) for at in outer]
