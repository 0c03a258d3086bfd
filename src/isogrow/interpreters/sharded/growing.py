"""Growing tensors that are spread over ranks, old and new: each rank fills the parts that it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isogrow.interpreters.sharded import exchanging
from isogrow.interpreters.sharded.dealing import means_together, sums_together
from isogrow.interpreters.sharded.exchanging import Exchange
from isogrow.numbers.filling import Read, Stats
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import counted_from, slices
from isogrow.plans.dealing import course
from isogrow.plans.moving import Regions, Unit, filling
from isogrow.plans.pieces import Box
from isogrow.plans.plan import Plan
from isogrow.stores.binding import check_range, fill_region_, source_of


@dataclass(frozen=True)
class Target:
    """A grown tensor: this rank's part of it, and the region that each rank has."""

    stored: Stored
    local: Tensor
    regions: Regions


def grow_parts_(targets: Sequence[Target], plan: Plan, old: Exchange, given: Stats | None = None) -> Stats:
    """Fill this rank's parts of grown tensors, as every rank does with its own at the same time.

    Law: what all ranks' parts are together equals what one process makes, bit by bit. What goes wrong on
    this rank is noted in `old.fault`. Returns the statistics but for means, which are the same on all ranks.
    """
    stats = given or Stats()
    asked = course(targets, plan, exchanging.ROUND, stats.means.keys())
    stats = sums_together(asked, plan, old, stats)
    for some, means in asked.lots:
        _fill_(some, plan, old, means_together(means, plan, old, stats))
    return stats


def _fill_(targets: Sequence[Target], plan: Plan, old: Exchange, stats: Stats) -> None:
    me = old.ranks.me

    def fill(work: tuple[Target, Box], read: Read) -> None:
        target, part = work
        inside = target.local[slices(counted_from(target.regions[me], part))]
        fill_region_(inside, target.stored, part, plan, read, stats)

    old.carry_out(_units(targets, plan), fill)


def _units(targets: Sequence[Target], plan: Plan) -> Iterator[Unit[tuple[Target, Box]]]:
    for target in targets:
        width = target.local.element_size()
        for unit in filling(target.stored, target.regions, plan, width, exchanging.ROUND):
            work = {rank: (target, part) for rank, part in unit.work.items()}
            yield Unit(work, unit.needs)


def check_ranges(targets: Sequence[Target], anatomy: Anatomy, plan: Plan, old: Exchange) -> None:
    """Refuse numbers that float16 made infinite, in any rank's part (`check_range`)."""
    half = {name: x for name, x in old.local.items() if x.dtype == torch.float16}
    if not half:
        return
    before: set[str] = set().union(
        *old.ranks.gathered({name for name, x in half.items() if bool(torch.isinf(x).any())})
    )
    with old.ranks.together():
        for target in targets:
            if source_of(anatomy, plan, target.stored) not in before:
                check_range(target.local, target.stored.name, lambda: torch.zeros(1))
