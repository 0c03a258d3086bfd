"""Which new channels have had gradient, and whether they differ: counted block by block, axis by axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from isogrow.binding import reader
from isogrow.laws import idle
from isogrow.pieces import Block
from isogrow.sizes import key
from isogrow.verification.liveness import distinct
from isogrow.verification.pair import Pair

SKETCH = 4


@dataclass(frozen=True)
class Group:
    """The new channels of one axis in one slot, over all its blocks."""

    slot: str
    axis: str
    new: int
    live: int
    inactive: int

    @property
    def dead(self) -> int:
        return self.new - self.live - self.inactive


@dataclass
class Count:
    new: int = 0
    live: int = 0
    inactive: int = 0


@dataclass(frozen=True)
class Units:
    """New channels by slot and axis; `inactive` ones have weights but were never switched on."""

    groups: tuple[Group, ...] = field(default=())

    @property
    def new(self) -> int:
        return sum(group.new for group in self.groups)

    @property
    def live(self) -> int:
        return sum(group.live for group in self.groups)

    @property
    def inactive(self) -> int:
        return sum(group.inactive for group in self.groups)

    @property
    def dead(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.dead)


def counted(pair: Pair, seen: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Units:
    """Count the new channels that have had gradient (`seen`), by slot and axis.

    A channel has had gradient if any of its entries has. One that has not is inactive (a ReLU that
    no token switched on, an expert that got no token) if no slot that has the channel got any, and its
    producers are not all zero: then its activation was zero, and the law promises nothing.
    """
    read, weigh = _reads(pair, seen), _reads(pair, values)
    counts: dict[tuple[str, str], Count] = {}
    silent = _silent(pair, read, weigh)
    for block, axis, new in _grown(pair):
        live = _along(read(block), block, axis)[new]
        asleep = torch.tensor([(axis, block.index, p) in silent for p in new], dtype=torch.bool)
        count = counts.setdefault((block.slot, axis), Count())
        count.new += len(new)
        count.live += int(live.sum())
        count.inactive += int((asleep & ~live).sum())
    return Units(tuple(Group(s, a, c.new, c.live, c.inactive) for (s, a), c in counts.items()))


def twins(pair: Pair, values: Mapping[str, Tensor]) -> list[str]:
    """Axes on which a new channel is, in every tensor, equal to another channel."""
    weigh = _reads(pair, values)
    sketches: dict[tuple[str, str], list[Tensor]] = {}
    fresh: dict[tuple[str, str], set[int]] = {}
    for block, axis, new in _grown(pair):
        site = pair.plan.target.site(axis, block.index)
        name = (axis, key(axis, site))
        sketches.setdefault(name, []).append(_sketch(weigh(block), block, axis))
        fresh.setdefault(name, set()).update(new)
    found: list[str] = []
    for (_, name), parts in sketches.items():
        apart = distinct(torch.cat(parts, dim=1), dim=0)
        if not all(apart[p] for p in fresh[_, name]):
            found.append(name)
    return found


def _reads(pair: Pair, tensors: Mapping[str, Tensor]) -> Callable[[Block], Tensor]:
    return reader(pair.after, lambda name: tensors[name].contiguous())


def _grown(pair: Pair) -> Iterator[tuple[Block, str, list[int]]]:
    """Every block of the large model with each of its axes that has new channels."""
    skip = idle(pair.before)
    for stored in pair.after.stored:
        for _, block in stored.blocks(pair.plan.target):
            if block.slot not in pair.after.slots or block.slot in skip:
                continue
            for axis in block.axes:
                new = [] if axis.isdigit() else pair.new_positions(axis, block.index)
                if new:
                    yield block, axis, new


def _along(x: Tensor, block: Block, axis: str) -> Tensor:
    """For each channel on an axis whether any entry is true."""
    return x.movedim(block.axes.index(axis), 0).reshape(x.shape[block.axes.index(axis)], -1).any(dim=1)


def _silent(
    pair: Pair, read: Callable[[Block], Tensor], weigh: Callable[[Block], Tensor]
) -> set[tuple[str, tuple[tuple[str, int], ...], int]]:
    """New channels without gradient in any slot, whose producers have weights."""
    touched: dict[tuple[str, tuple[tuple[str, int], ...], int], bool] = {}
    weighted: set[tuple[str, tuple[tuple[str, int], ...], int]] = set()
    contracted = {attention.axis for attention in pair.before.layout.attentions}
    for block, axis, new in _grown(pair):
        weight, part = pair.after.slots[block.slot]
        live = _along(read(block), block, axis)
        made = axis in weight.parsed.produced(part) and axis not in contracted
        heavy = _along(weigh(block) != 0, block, axis) if made else None
        for p in new:
            name = (axis, block.index, p)
            touched[name] = touched.get(name, False) or bool(live[p])
            if heavy is not None and heavy[p]:
                weighted.add(name)
    return {name for name, live in touched.items() if not live and name in weighted}


def _sketch(x: Tensor, block: Block, axis: str) -> Tensor:
    """A few random projections of each channel's entries: equal channels have equal ones."""
    rows = x.movedim(block.axes.index(axis), 0).reshape(x.shape[block.axes.index(axis)], -1).double()
    generator = torch.Generator().manual_seed(rows.shape[1])
    return rows @ torch.randn(rows.shape[1], SKETCH, generator=generator, dtype=torch.float64)
