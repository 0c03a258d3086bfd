"""What an entry of the grown model is, in terms of the old one: the composition of a plan's steps.

`pieces` cuts any box of any grown block into pieces that are each of one kind: old entries times a
scale, a constant, free entries with their own coordinates, or a mean. It reads no tensor, so each
interpreter can ask for exactly the part that it holds: a chunk, a shard, a whole block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from isogrow.errors import LawError
from isogrow.layouts.layout import Index
from isogrow.plans.plan import OLD, Constant, Entry, Free, Init, Mean, Old, Plan, Step
from isogrow.plans.sizes import Sizes

Box = tuple[range, ...]


@dataclass(frozen=True)
class Block:
    """One slot at one index, with its dense logical axes: produced first, then consumed."""

    slot: str
    index: Index
    axes: tuple[str, ...]

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        return tuple(int(a) if a.isdigit() else sizes.of(a, self.index) for a in self.axes)


@dataclass(frozen=True)
class OldBox:
    """A box of the old model's block."""

    block: Block
    box: Box


@dataclass(frozen=True)
class Fill:
    """One value."""

    value: float


@dataclass(frozen=True)
class Draw:
    """Free entries: a box of a region of `shape`, numbered by `key`, like the old block `like`.

    The region's std and mean (if matched) are those of `like` under x -> like_a * x + like_b. `index` is the
    grown block's, and `axis` is what grows.
    """

    init: Init
    center: bool
    key: str
    shape: tuple[int, ...]
    box: Box
    like: Block
    like_a: float
    like_b: float
    index: Index
    axis: str


@dataclass(frozen=True)
class Average:
    """The mean over dim `dim` of `box` of the block after the first `steps` steps."""

    block: Block
    steps: int
    box: Box
    dim: int
    weights: str


@dataclass(frozen=True)
class Piece:
    """a * value + b, at positions `out` of the box that was asked for."""

    out: Box
    value: OldBox | Fill | Draw | Average
    a: float = 1.0
    b: float = 0.0


def whole(shape: tuple[int, ...]) -> Box:
    """The box that is all of a block."""
    return tuple(range(size) for size in shape)


def pieces(plan: Plan, block: Block, box: Box, steps: int | None = None) -> Iterator[Piece]:
    """The pieces of `box` (contiguous) of `block` after the first `steps` steps (default: all).

    Together they cover the box once; `out` counts from the box's own corner.
    """
    count = len(plan.steps) if steps is None else steps
    return _pull(plan, plan.stages, count, block, box)


def _pull(plan: Plan, sizes: tuple[Sizes, ...], n: int, block: Block, box: Box) -> Iterator[Piece]:
    if n == 0:
        yield Piece(tuple(range(len(r)) for r in box), OldBox(block, box))
        return
    step = plan.steps[n - 1]
    if step.axis in dict(block.index) and step.at(block.index):
        yield from _index_step(plan, sizes, n, block, box)
    elif step.axis in block.axes and step.at(block.index):
        yield from _dense_step(plan, sizes, n, block, box)
    else:
        entry = _as_whole(step, block)
        for piece in _pull(plan, sizes, n - 1, block, box):
            yield piece if entry == Old() else _affine(piece, entry)


def _as_whole(step: Step, block: Block) -> Old:
    """What a step does to a block without its axis: where a norm shares an ε that the step scales, the
    bias of the norm's input is scaled too."""
    entry = step.rewrites.get(block.slot, {}).get(OLD, Old()) if step.at(block.index) else Old()
    if not isinstance(entry, Old):
        raise LawError(f"{step.expansion} can't make all of {block.slot} {entry}: it keeps what is there")
    return entry


def _index_step(plan: Plan, sizes: tuple[Sizes, ...], n: int, block: Block, box: Box) -> Iterator[Piece]:
    """The axis is in the block's index: the whole block is old, or the whole block is new."""
    step = plan.steps[n - 1]
    source, label = step.source(dict(block.index)[step.axis])
    entry = step.entry(block.slot, label)
    before = moved(block, step.axis, source)
    out = tuple(range(len(r)) for r in box)
    if isinstance(entry, Old):
        for piece in _pull(plan, sizes, n - 1, before, box):
            yield _affine(piece, entry)
        return
    yield _leaf(plan, sizes, n, entry, block, out, block.shape(sizes[n]), box, 0, "")


def _dense_step(plan: Plan, sizes: tuple[Sizes, ...], n: int, block: Block, box: Box) -> Iterator[Piece]:
    """The axis is a dim of the block: each place of the step is a slab of it."""
    step = plan.steps[n - 1]
    dim = block.axes.index(step.axis)
    for place in step.places:
        inside = _overlap(place.positions, box[dim])
        if not inside:
            continue
        first = place.positions.index(inside[0])
        local = range(first, first + len(inside))
        at = range(inside[0] - box[dim].start, inside[-1] - box[dim].start + 1, place.stride)
        entry = step.entry(block.slot, place.label)
        out = tuple(at if d == dim else range(len(r)) for d, r in enumerate(box))
        if isinstance(entry, Old):
            pulled = range(place.source + first, place.source + first + len(inside))
            inner = _with(box, dim, pulled)
            for piece in _pull(plan, sizes, n - 1, block, inner):
                moved_out = _with(piece.out, dim, _within(at, piece.out[dim]))
                yield _affine(dataclasses.replace(piece, out=moved_out), entry)
            continue
        shape = list(block.shape(sizes[n]))
        shape[dim] = place.count
        region = _with(box, dim, local)
        name = f"{place.label}@{place.start}"
        yield _leaf(plan, sizes, n, entry, block, out, tuple(shape), region, dim, name)


def _leaf(
    plan: Plan,
    sizes: tuple[Sizes, ...],
    n: int,
    entry: Entry,
    block: Block,
    out: Box,
    shape: tuple[int, ...],
    box: Box,
    dim: int,
    name: str,
) -> Piece:
    """A piece whose entries are new in step n: a constant, free entries or a mean."""
    if isinstance(entry, Constant):
        return Piece(out, Fill(entry.value))
    if isinstance(entry, Mean):
        full = _with(box, dim, range(plan.steps[n - 1].old))
        return Piece(out, Average(block, n - 1, full, dim, entry.weights), a=entry.a)
    assert isinstance(entry, Free)
    like, a, b = _origin(plan, n, block)
    index = ",".join(f"{axis}={i}" for axis, i in block.index)
    key = f"{plan.seed}/{plan.steps[n - 1].key(sizes[n])}/{block.slot}/{index}/{entry.stream or name}"
    axis = plan.steps[n - 1].axis
    draw = Draw(entry.init, entry.center, key, shape, box, like, a, b, block.index, axis)
    return Piece(out, draw, a=entry.sign)


def _origin(plan: Plan, n: int, block: Block) -> tuple[Block, float, float]:
    """The old model's block that this one extends, and the affine its old entries have had since."""
    chain: list[Old] = []
    for step in reversed(plan.steps[:n]):
        if not step.at(block.index):
            continue
        label = OLD
        if step.axis in dict(block.index):
            source, label = step.source(dict(block.index)[step.axis])
            block = moved(block, step.axis, source)
        entry = step.rewrites.get(block.slot, {}).get(label, Old())
        chain.append(entry if isinstance(entry, Old) else Old())
    a, b = 1.0, 0.0
    for entry in reversed(chain):
        a, b = entry.a * a, entry.a * b + entry.b
    return block, a, b


def origin(plan: Plan, block: Block) -> Block:
    """The block of the old model that a grown block is, or extends."""
    numbered = {axis for axis, _ in block.index}
    for step in reversed(plan.steps):
        if step.axis in numbered and step.at(block.index):
            block = moved(block, step.axis, step.source(dict(block.index)[step.axis])[0])
    return block


def added(plan: Plan, block: Block) -> bool:
    """Whether a grown block is one of a new layer (expert, ...), not an old one grown."""
    for step in reversed(plan.steps):
        if step.axis in dict(block.index) and step.at(block.index):
            source, label = step.source(dict(block.index)[step.axis])
            if not label.startswith(OLD):
                return True
            block = moved(block, step.axis, source)
    return False


def moved(block: Block, axis: str, position: int) -> Block:
    """The same slot at another position of an index axis."""
    index = tuple((name, position if name == axis else i) for name, i in block.index)
    return Block(block.slot, index, block.axes)


def _affine(piece: Piece, old: Old) -> Piece:
    if isinstance(piece.value, Fill):  # first: a kept -0.0 has always become 0.0 here, and its bits stay so
        return dataclasses.replace(piece, value=Fill(old.a * piece.value.value + old.b))
    if (old.a, old.b) == (1.0, 0.0):
        return piece
    return dataclasses.replace(piece, a=old.a * piece.a, b=old.a * piece.b + old.b)


def _with(box: Box, dim: int, r: range) -> Box:
    return tuple(r if d == dim else old for d, old in enumerate(box))


def _within(outer: range, inner: range) -> range:
    """`inner` counts along `outer`: the positions that it means."""
    return outer[inner.start : inner[-1] + 1 : inner.step]


def _overlap(positions: range, wanted: range) -> range:
    """The positions of a progression that lie in a contiguous range."""
    if not len(positions) or not len(wanted):
        return range(0)
    first = max(0, -(-(wanted.start - positions.start) // positions.step))
    last = min(len(positions) - 1, (wanted.stop - 1 - positions.start) // positions.step)
    return positions[first : last + 1] if first <= last else range(0)
