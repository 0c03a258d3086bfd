"""Where GradMax has a choice: new units that a free weight makes and a switch reads, as a plan says it.

A unit is a position on the axes that the two share (a channel of `ffn`; a value channel of a head), at one
index (layer, expert). It counts if its row of the free weight is free and all that reads it is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogrow.layouts.layout import Index
from isogrow.layouts.slots import bias_of
from isogrow.numbers.filling import Stats, center_and_std
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.boxes import slices
from isogrow.plans.pieces import Block, Draw, Fill, pieces, whole
from isogrow.plans.plan import Plan

Floats = NDArray[np.float64]
Places = tuple[NDArray[np.intp], ...]
Blocks = Mapping[tuple[str, Index], Block]


@dataclass(frozen=True, eq=False)
class Site:
    """New units of one block.

    `free` is the block of their rows (`bias` that of its bias), `switch` the zero one that reads them;
    `units` are their places on `shared`, the axes that both have. Units of one group (`groups` numbers them)
    are alike in all else, so that the same matrix takes their rows to their switches' gradients. `stds` are
    those of the rows' entries.
    """

    free: Block
    switch: Block
    bias: Block | None
    shared: tuple[str, ...]
    units: Places
    groups: NDArray[np.intp]
    stds: Floats

    @property
    def count(self) -> int:
        return len(self.groups)

    @property
    def dim(self) -> int:
        """How many entries a unit's row has."""
        return self.stds.shape[1]


def candidates(grown: Anatomy, plan: Plan, stats: Stats) -> dict[str, tuple[tuple[Site, ...], ...]]:
    """For each slot that may be a switch, the free slots that it may be the switch of: each as its sites.

    `grown` is the grown model's anatomy, and `stats` are those that its free entries match.
    """
    blocks: Blocks = {
        (block.slot, block.index): block
        for stored in grown.stored
        for _, block in stored.blocks(plan.target)
        if block.slot in grown.slots
    }
    found: dict[str, tuple[tuple[Site, ...], ...]] = {}
    for switch in grown.slots:
        readers = tuple(block for (slot, _), block in blocks.items() if slot == switch)
        made = (
            tuple(_sites(grown, plan, stats, blocks, slot, readers)) for slot in _producers(grown, switch)
        )
        if own := tuple(sites for sites in made if sites):
            found[switch] = own
    return found


def _producers(grown: Anatomy, switch: str) -> Iterator[str]:
    """Weights (no biases, no gains) that write along axes which the switch reads, the residual apart."""
    own = grown.slots[switch]
    read = set(own.consumed)
    if own.norm is not None or grown.layout.on_residual(read):
        return
    for name, slot in grown.slots.items():
        made = set(slot.produced)
        plain = slot.norm is None and not slot.gates and bool(slot.consumed)
        if plain and made and made <= read and slot.index == own.index:
            yield name


def _sites(
    grown: Anatomy, plan: Plan, stats: Stats, blocks: Blocks, slot: str, readers: tuple[Block, ...]
) -> Iterator[Site]:
    shared = grown.slots[slot].produced
    for switch in readers:
        free = blocks.get((slot, switch.index))
        if free is None:
            continue
        stds, zero = _free(plan, free, stats), _zero(plan, switch)
        first = tuple(switch.axes.index(axis) for axis in shared)
        rest = tuple(d for d in range(zero.ndim) if d not in first)
        closed = zero.transpose(*first, *rest).reshape(*stds.shape[: len(shared)], -1).all(axis=-1)
        stds = stds.reshape(*closed.shape, -1)
        units = np.nonzero(closed & (stds > 0.0).all(axis=-1))
        if len(units[0]):
            groups = _groups(grown, slot, switch.slot, shared, units)
            bias = blocks.get((bias_of(slot), switch.index))
            assert bias is None or bias.axes == shared
            yield Site(free, switch, bias, shared, units, groups, stds[units])


def _free(plan: Plan, block: Block, stats: Stats) -> Floats:
    """The std of each entry that is drawn, and no other one with it; 0 for the rest."""
    found = np.zeros(block.shape(plan.target))
    drawn = [(p, p.value) for p in pieces(plan, block, whole(found.shape)) if isinstance(p.value, Draw)]
    times = {draw.key: np.zeros(draw.shape, dtype=np.intp) for _, draw in drawn}
    for _, draw in drawn:
        times[draw.key][slices(draw.box)] += 1
    for piece, draw in drawn:
        alone = times[draw.key][slices(draw.box)] == 1
        found[slices(piece.out)] = alone * abs(piece.a) * center_and_std(draw, stats)[1]
    return found


def _zero(plan: Plan, block: Block) -> NDArray[np.bool_]:
    """Which entries are zero by the plan."""
    found = np.zeros(block.shape(plan.target), dtype=bool)
    for piece in pieces(plan, block, whole(found.shape)):
        found[slices(piece.out)] = piece.value == Fill(0.0)
    return found


def _groups(
    grown: Anatomy, free: str, switch: str, shared: tuple[str, ...], units: Places
) -> NDArray[np.intp]:
    """Units differ in what other slots have along the shared axes: gates for each channel, queries for each
    head. Those that agree there are of one group."""
    others = grown.slots.keys() - {free, bias_of(free), switch}
    told = {axis for slot in others for axis in _axes(grown, slot)}
    places = zip(*units, strict=True)
    at = [tuple(i for axis, i in zip(shared, place, strict=True) if axis in told) for place in places]
    numbers = {place: number for number, place in enumerate(dict.fromkeys(at))}
    return np.array([numbers[place] for place in at], dtype=np.intp)


def _axes(grown: Anatomy, slot: str) -> tuple[str, ...]:
    return (*grown.slots[slot].index, *grown.slots[slot].axes)
