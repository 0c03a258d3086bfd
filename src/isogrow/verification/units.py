"""Which new channels have had gradient, and whether they differ: counted block by block, axis by axis.

A unit is a new channel where it stands: a ffn channel in one layer, a value channel in one head of one
layer; a channel of the residual is one unit through all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from torch import Tensor

from isogrow.laws import idle
from isogrow.laws.reading import unread
from isogrow.laws.twins import groups, unit_axes
from isogrow.layouts.layout import Index
from isogrow.plans.pieces import Block
from isogrow.stores.binding import viewer
from isogrow.verification.inputs import unreached
from isogrow.verification.liveness import distinct
from isogrow.verification.pair import Pair

SKETCH = 4
AT_ONCE = 1 << 22  # entries of a block that may have to be copied to be looked at unit by unit
AWAKE = 0.5  # new units are drawn like trained ones, so a share of the same order is switched on

AxisAt = tuple[str, Index]  # an axis, and the numbers of the blocks that all slots with the axis have
Unit = tuple[AxisAt, int, int]  # a place, which combination of the axes beside, a position on the axis
Viewer = Callable[[Block], Tensor]


@dataclass(frozen=True)
class Group:
    """The new units of one axis in one slot, over all its blocks, and beside them the old ones."""

    slot: str
    axis: str
    new: int
    live: int
    inactive: int
    old: int = 0
    old_live: int = 0

    @property
    def dead(self) -> int:
        return self.new - self.live - self.inactive

    @property
    def asleep(self) -> bool:
        """Whether far fewer new units have had gradient than of the old ones beside them: then it is not the
        activation function that keeps them out."""
        return self.live < AWAKE * self.new * (self.old_live / self.old if self.old else 1.0)


@dataclass
class Count:
    """How many units of a group are new, live or inactive of these; how many are old, and live of those."""

    new: int = 0
    live: int = 0
    inactive: int = 0
    old: int = 0
    old_live: int = 0


@dataclass(frozen=True)
class Units:
    """New units by slot and axis; `inactive` ones have weights, but some pass did not switch them on."""

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

    @property
    def asleep(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.asleep)


@dataclass(frozen=True)
class GrownBlock:
    """One block of the large model, and an axis of it that has new channels."""

    block: Block
    axis: str
    place: AxisAt
    beside: tuple[str, ...]
    new: tuple[int, ...]

    def rows(self, x: Tensor) -> Iterator[Tensor]:
        """A block's entries by unit, some of each at a time: (combinations of the axes beside, channels,
        entries)."""
        dims = [self.block.axes.index(axis) for axis in (*self.beside, self.axis)]
        moved = x.movedim(dims, list(range(len(dims))))
        count, first = prod(moved.shape[: len(dims) - 1]), len(dims)
        steps = (
            moved.split(max(1, AT_ONCE * moved.shape[first] // moved.numel()), first)
            if x.dim() > first
            else [moved]
        )
        yield from (part.reshape(count, moved.shape[first - 1], -1) for part in steps)

    def any(self, x: Tensor) -> list[list[bool]]:
        """Of each unit, in the same order, whether any entry is not zero; none is copied."""
        dims = [self.block.axes.index(axis) for axis in (*self.beside, self.axis)]
        rest = tuple(dim for dim in range(x.dim()) if dim not in dims)
        found = np.any(x.detach().cpu().numpy(), axis=rest)  # which stops at the first
        found = found.transpose([sorted(dims).index(dim) for dim in dims])
        return found.reshape(-1, found.shape[-1]).tolist()

    def fresh(self, x: Tensor) -> Tensor:
        """A block's entries in new channels alone, in the order of `new`."""
        dim, first, count = self.block.axes.index(self.axis), self.new[0], len(self.new)
        if self.new[-1] == first + count - 1:
            return x.narrow(dim, first, count)
        return x.index_select(dim, torch.tensor(self.new))


def counted(
    pair: Pair,
    seen: Mapping[str, Tensor],
    silent: Set[Unit] = frozenset(),
    unrouted: Set[Index] = frozenset(),
) -> Units:
    """Count the new units that have had gradient (`seen`), by slot and axis.

    A unit has had gradient if any of its entries has. One that has not is inactive if a pass did not switch
    it on (`silent`): the law tells by which pass a unit that is on in each of them has had gradient. So is
    everything in `unrouted` experts.
    """
    read = _reads(pair, seen)
    counts: dict[tuple[str, str], Count] = {}
    for grown in _grown(pair):
        count = counts.setdefault((grown.block.slot, grown.axis), Count())
        for beside, row in enumerate(grown.any(read(grown.block))):
            alive = [row[p] for p in grown.new]
            count.old += len(row) - len(alive)
            count.old_live += sum(row) - sum(alive)
            asleep = [grown.block.index in unrouted or (grown.place, beside, p) in silent for p in grown.new]
            count.new += len(alive)
            count.live += sum(alive)
            count.inactive += sum(s and not a for s, a in zip(asleep, alive, strict=True))
    return Units(
        tuple(
            Group(slot, axis, c.new, c.live, c.inactive, c.old, c.old_live)
            for (slot, axis), c in counts.items()
        )
    )


def twins(pair: Pair, values: Mapping[str, Tensor]) -> list[str]:
    """Axes on which a new unit is, in every tensor, equal to another one beside it, and where first."""
    weigh = _reads(pair, values)
    sketches: dict[AxisAt, list[Tensor]] = {}
    fresh: dict[AxisAt, set[int]] = {}
    for grown in _grown(pair):
        sketches.setdefault(grown.place, []).append(_sketch(grown.rows(weigh(grown.block))))
        fresh.setdefault(grown.place, set()).update(grown.new)
    found: dict[str, list[Index]] = {}
    for place, parts in sketches.items():
        for rows in torch.cat(parts, dim=2):
            apart = distinct(rows, dim=0)
            if not all(apart[p] for p in fresh[place]) and place[1] not in found.setdefault(place[0], []):
                found[place[0]].append(place[1])
    return [_where(axis, places) for axis, places in found.items() if places]


def _where(axis: str, places: list[Index]) -> str:
    first = "".join(f" of {name} {i}" for name, i in places[0])
    return f"{axis}{first}" + (f" and {len(places) - 1} more" if len(places) > 1 else "")


def _reads(pair: Pair, tensors: Mapping[str, Tensor]) -> Viewer:
    return viewer(pair.after, lambda name: tensors[name])


def _grown(pair: Pair) -> Iterator[GrownBlock]:
    """Every block of the large model with each of its axes that has new channels."""
    missed = unreached(pair)
    skip = idle(pair.before) | {name for name, slot in pair.before.slots.items() if slot.stem in missed}
    beyond = unread(pair.before, pair.plan)
    units: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for stored in pair.after.stored:
        for _, block in stored.blocks(pair.plan.target):
            if block.slot not in pair.after.slots or block.slot in skip or beyond(block.index):
                continue
            numbers = _numbers(pair, block.slot)
            for axis in block.axes:
                new = (
                    []
                    if axis.isdigit() or axis in pair.beyond or axis in numbers
                    else pair.new_positions(axis, block.index)
                )
                if not new:
                    continue
                if (axis, block.slot) not in units:
                    for slots in groups(pair.after, axis, skip):
                        units |= dict.fromkeys(
                            ((axis, slot) for slot in slots), unit_axes(pair.after, slots, axis)
                        )
                shared, beside = units[axis, block.slot]
                at = tuple((name, i) for name, i in block.index if name in shared)
                yield GrownBlock(block, axis, (axis, at), beside, tuple(new))


def _numbers(pair: Pair, slot: str) -> tuple[str, ...]:
    """The axis of tokens that an embedding is looked up by: a row has gradient where its token is in a text,
    and a padding's never. What it gives has units of its own."""
    consumed = pair.after.slots[slot].consumed
    return consumed if set(consumed) <= pair.after.layout.fixed else ()


def resting(pair: Pair, now: Mapping[str, Tensor]) -> set[Index]:
    """The indices of experts (blocks side by side in a layer) that got no token in a pass: nothing in them
    had gradient, old entries included, and something in others had."""
    read = _reads(pair, now)
    alive: dict[Index, bool] = {}
    for stored in pair.after.stored:
        for _, block in stored.blocks(pair.plan.target):
            if len(block.index) > 1:
                alive[block.index] = alive.get(block.index, False) or bool(read(block).any())
    busy = {index[:-1] for index, routed in alive.items() if routed}
    return {index for index, routed in alive.items() if not routed and index[:-1] in busy}


def silent_in(pair: Pair, now: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> set[Unit]:
    """New units (a ReLU that no token switched on) that had gradient in no slot in one pass (`now`), although
    none of what produces them is all zero: then their activation was zero."""
    read, weigh = _reads(pair, now), _reads(pair, values)
    touched: dict[Unit, bool] = {}
    weights: dict[Unit, dict[str, bool]] = {}
    contracted = {attention.axis for attention in pair.before.layout.attentions}
    for grown in _grown(pair):
        slot = pair.after.slots[grown.block.slot]
        stem = f"{slot.stem}{dict(grown.block.index)}"
        made = grown.axis in slot.produced and not slot.gain and grown.axis not in contracted
        live = grown.any(grown.fresh(read(grown.block)))
        heavy = grown.any(grown.fresh(weigh(grown.block))) if made else live
        for beside, (lives, weighs) in enumerate(zip(live, heavy, strict=True)):
            for p, lit, loaded in zip(grown.new, lives, weighs, strict=True):
                unit = (grown.place, beside, p)
                touched[unit] = touched.get(unit, False) or lit
                if made:
                    made_of = weights.setdefault(unit, {})
                    made_of[stem] = made_of.get(stem, False) or loaded
    return {
        unit for unit, live in touched.items() if not live and all(weights.get(unit, {"": False}).values())
    }


def _sketch(parts: Iterable[Tensor]) -> Tensor:
    """A few random projections of each unit's entries: equal units have equal ones."""
    generator = torch.Generator().manual_seed(SKETCH)
    return torch.stack([_projected(rows.double(), generator) for rows in parts]).sum(0)


def _projected(rows: Tensor, generator: torch.Generator) -> Tensor:
    directions = torch.randn(rows.shape[2], SKETCH, generator=generator, dtype=torch.float64)
    if rows.stride(2) > rows.stride(1):  # as they lie, which is many times as fast
        return (directions.t() @ rows.transpose(1, 2)).transpose(1, 2)
    return rows @ directions
