"""The slots of a grown model in the order in which it runs them, and the blocks that stand for all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from isogrow.laws.history import Classes
from isogrow.layouts.layout import Index, Slot
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.pieces import Block, origin
from isogrow.plans.plan import Plan


@dataclass(frozen=True)
class Walk:
    """How a grown model is gone through."""

    anatomy: Anatomy
    plan: Plan

    @cached_property
    def slots(self) -> list[Slot]:
        """The slots that this model has and that can grow, and the tied head that it does not store."""
        stored = {slot for slot, _ in self.anatomy.held if slot.grows}
        heads = any(slot.head and slot.consumed for slot in stored)
        return [
            slot
            for slot in self.anatomy.layout.table
            if (slot in stored and not slot.shared)
            or slot in self.anatomy.plain_norms
            or (self.anatomy.ties(slot) and slot.tied in self.anatomy.slots and self._fed(slot, heads))
        ]

    def order(self) -> Iterator[tuple[Slot, Index]]:
        """Blocks as they run: what shares an outermost index axis is gone through index by index."""
        for outer, slots in groupby(self.slots, lambda slot: (slot.index or ("",))[0]):
            run = list(slots)
            for index in self.representatives((outer,), ()) if outer else iter([()]):
                for slot in run:
                    for full in self.representatives(slot.index[1:], index):
                        if self.there(slot, full):
                            yield slot, full

    def representatives(self, axes: tuple[str, ...], index: Index) -> Iterator[Index]:
        """Indices that stand for all: of a run of layers with one history and slots, the first and the last;
        of heads with one history, the first."""
        sizes, classes = self.plan.target, Classes(self.plan)
        if not axes:
            yield index
            return
        if axes[0] in self._dense:
            for i in classes.of(axes[0], index):
                yield from self.representatives(axes[1:], (*index, (axes[0], i)))
            return
        count = sizes.of(axes[0], index)
        past = [(classes.history(axes[0], index, i), self._kind(axes[0], index, i)) for i in range(count)]
        edge = [i in (0, count - 1) or past[i - 1] != past[i] or past[i + 1] != past[i] for i in range(count)]
        for i in range(count):
            if edge[i] or sizes.sites:
                yield from self.representatives(axes[1:], (*index, (axes[0], i)))

    def _fed(self, slot: Slot, heads: bool) -> bool:
        """Whether a tied head that is not stored has something to read: an axis that is produced, or the
        residual where no head is stored that reads it instead."""
        wanted = set(slot.consumed) - self.anatomy.layout.residuals
        made = {axis for each in self.anatomy.slots.values() for axis in each.produced}
        return wanted <= made if wanted else not heads and self.anatomy.tied_head

    def there(self, slot: Slot, index: Index) -> bool:
        """Whether a slot acts at an index: it has a block where what the index extends is, shares one, or
        needs none."""
        before = origin(self.plan, Block(slot.name, index, ())).index
        return not slot.stored or bool(slot.tied) or (slot, before) in self.anatomy.held

    def _kind(self, axis: str, index: Index, i: int) -> frozenset[Slot]:
        """The slots that have entries in one block of an outermost index axis (a dense layer's, say)."""
        if index:
            return frozenset()
        past = list(Classes(self.plan).past(axis, index, i))
        return self._at.get((axis, past[-1][1] if past else i), frozenset())

    @cached_property
    def _dense(self) -> set[str]:
        """The axes along which some block has entries."""
        return {axis for slot in self.slots for axis in slot.axes}

    @cached_property
    def _at(self) -> dict[tuple[str, int], frozenset[Slot]]:
        """The slots that have entries at each position of each outermost index axis."""
        found: dict[tuple[str, int], set[Slot]] = {}
        for slot, index in (each for each in self.anatomy.held if each[1]):
            found.setdefault(index[0], set()).add(slot)
        return {at: frozenset(slots) for at, slots in found.items()}


def twin_axes(slot: Slot, other: Slot) -> dict[str, str]:
    """The axes of a tied slot, and what the slot that holds its entries calls them: a head reads what the
    embedding writes, and writes what that reads."""
    turned = bool(slot.consumed) and slot.produced != other.produced
    theirs = other.consumed + other.produced if turned else other.axes
    return dict(zip(slot.axes, theirs, strict=True))
