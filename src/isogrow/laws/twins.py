"""New units differ: no two channels of an axis may be alike in all that makes them up, or they stay alike for
ever, since they get the same gradient.

Steps compose, so this is asked of the whole plan: a copy whose readers are zero differs from its original,
but not from a second such copy, and in a new layer, where all readers are zero, not from its original.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, product

from isogrow.errors import LawError
from isogrow.laws.history import Classes, History
from isogrow.layouts.layout import Index
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.pieces import Block, Piece, pieces
from isogrow.plans.plan import Plan


@dataclass(frozen=True)
class Channel:
    """A channel: its position on an axis, at an index, at positions on the axes it lies beside in every slot
    (a value channel beside its head)."""

    axis: str
    position: int
    index: Index
    beside: tuple[tuple[str, int], ...]


def check_twins(anatomy: Anatomy, plan: Plan) -> None:
    """Raise `LawError` where two channels that were one, or copies of one, are alike in every slot.

    Relative positions that a whole stack shares are no unit by themselves: heads with equal ones may differ.
    """
    biases = {attention.bias for attention in anatomy.layout.attentions}
    for axis in dict.fromkeys(step.axis for step in plan.steps):
        if _exempt(anatomy, axis):
            continue
        units = (slots for slots in groups(anatomy, axis) if not biases.issuperset(slots))
        pairs = ((slots, pair) for slots in units for pair in _pairs(anatomy, plan, axis, slots))
        for slots, (one, two) in pairs:
            if all(_alike(anatomy, plan, slot, one, two) for slot in slots):
                where = "".join(f", {name} {i}" for name, i in (*one.index, *one.beside))
                raise LawError(
                    f"channels {one.position} and {two.position} of {axis}{where} would be copies of one"
                    f" channel in every weight, and stay copies for ever: grow {axis} in one step, or train"
                    " between the steps"
                )


def _exempt(anatomy: Anatomy, axis: str) -> bool:
    """Axes whose copies part of themselves: blocks one after the other see different inputs, an input's
    channels bring different numbers, an output's have targets of their own, and a tied decoder parts as soon
    as the embedding does."""
    layout = anatomy.layout
    index = {axis for slot in anatomy.all_slots.values() for axis in slot.index}
    read = {a for slot in anatomy.all_slots.values() for a in slot.consumed}
    made = {a for slot in anatomy.all_slots.values() for a in slot.produced}
    tied = {a for slot in layout.table if slot.tied and anatomy.ties(slot) for a in slot.consumed}
    follows = axis in layout.follows and axis in tied
    return axis in index or axis not in read & made or follows


def slots_of(anatomy: Anatomy, axis: str) -> list[str]:
    """The slots that hold entries of an axis' channels."""
    return [name for name, slot in anatomy.slots.items() if axis in slot.axes]


def groups(anatomy: Anatomy, axis: str, skip: Collection[str] = ()) -> list[list[str]]:
    """The slots that make up an axis' channels: all of them, but apart where they are numbered by other
    axes (each expert has channels of its own, and so has what all share)."""
    slots = [slot for slot in slots_of(anatomy, axis) if slot not in skip]
    dense = {a for slot in slots for a in anatomy.slots[slot].axes}
    found: dict[frozenset[str], list[str]] = {}
    for slot in slots:
        own = frozenset(anatomy.slots[slot].index) - dense
        found.setdefault(frozenset() if axis in anatomy.layout.residuals else own, []).append(slot)
    return list(found.values())


def _pairs(anatomy: Anatomy, plan: Plan, axis: str, slots: list[str]) -> Iterator[tuple[Channel, Channel]]:
    """Two channels for every two classes of channels of one origin, wherever the axis has units."""
    shared, lies = unit_axes(anatomy, slots, axis)
    copies: set[tuple[int, ...]] = set()
    for index in _indices(plan, shared):
        if not copies or plan.target.sites:
            copies = copies_of(plan, axis, index)
        for beside in _combos(plan, lies, index):
            for positions in copies:
                for one, two in combinations(positions, 2):
                    yield Channel(axis, one, index, beside), Channel(axis, two, index, beside)


def copies_of(plan: Plan, axis: str, index: Index) -> set[tuple[int, ...]]:
    """Positions of one origin and different histories; one example for every set of histories."""
    runs = Classes(plan).runs(axis, index)
    ends = sorted({end for run in runs for end in (run.origins.start, run.origins.stop)})
    found: dict[tuple[History, ...], tuple[int, ...]] = {}
    for origin in (end - 1 for end in ends[1:]):  # between two ends all origins have the same histories
        held = [(run.positions[run.origins.index(origin)], run) for run in runs if origin in run.origins]
        same: dict[History, int] = {}
        for position, run in sorted(held, key=lambda each: each[0]):
            same.setdefault(run.history, position)
        found[tuple(same)] = tuple(same.values())
    return set(found.values())


def unit_axes(anatomy: Anatomy, slots: list[str], axis: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What tells one unit of an axis from another besides its position: the index axes that all of its slots
    have, and the dense axes that lie on the same side as it in all of them (a value channel's head)."""
    common = [anatomy.slots[slot].index for slot in slots]
    shared = tuple(name for name in common[0] if all(name in own for own in common))

    def side(slot: str) -> frozenset[str]:
        own = anatomy.slots[slot]
        return frozenset(own.produced if axis in own.produced else own.consumed) - {axis}

    return shared, tuple(sorted(reduce(frozenset.intersection, map(side, slots))))


def _indices(plan: Plan, axes: tuple[str, ...], index: Index = ()) -> Iterator[Index]:
    """Indices that stand for all: one for each history (every one where sizes may differ)."""
    if not axes:
        yield index
        return
    every = range(plan.target.of(axes[0], index))
    for i in every if plan.target.sites else Classes(plan).of(axes[0], index):
        yield from _indices(plan, axes[1:], (*index, (axes[0], i)))


def _combos(plan: Plan, axes: tuple[str, ...], index: Index) -> Iterator[tuple[tuple[str, int], ...]]:
    lists = [[(axis, p) for p in ([0] if axis.isdigit() else Classes(plan).of(axis, index))] for axis in axes]
    yield from product(*lists)


def _alike(anatomy: Anatomy, plan: Plan, slot: str, one: Channel, two: Channel) -> bool:
    """Whether a slot's entries are the same for both, in every class of its other axes."""
    own = anatomy.slots[slot]
    rest = tuple(name for name in own.index if name not in dict(one.index))
    for index in _indices(plan, rest, one.index):
        block = Block(slot, _in_order(index, own.index), own.axes)
        fixed = dict(one.beside)
        others = tuple(axis for axis in block.axes if axis != one.axis and axis not in fixed)
        for combo in _combos(plan, others, index):
            at = {**fixed, **dict(combo)}
            first, second = (_entry(plan, block, {**at, unit.axis: unit.position}) for unit in (one, two))
            if (first.value, first.a, first.b) != (second.value, second.a, second.b):
                return False
    return True


def _in_order(index: Index, axes: tuple[str, ...]) -> Index:
    found = dict(index)
    return tuple((axis, found[axis]) for axis in axes)


def _entry(plan: Plan, block: Block, at: dict[str, int]) -> Piece:
    point = tuple(range(at[axis], at[axis] + 1) for axis in block.axes)
    (piece,) = pieces(plan, block, point)
    return piece
