"""The first pass of a sharded model: its fixed boxes are dealt to the ranks, and what these make of them is
put together in their order. So the numbers are those that one process makes, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

import torch
from torch import Tensor, distributed

from isogrow.errors import SizeError
from isogrow.interpreters.sharded.exchanging import Exchange
from isogrow.interpreters.sharded.ranks import kept as noted
from isogrow.numbers import statistics
from isogrow.numbers.filling import Read, Stats
from isogrow.numbers.statistics import asked_of, combined, kept, mean_of, unmade
from isogrow.numbers.totals import sums
from isogrow.plans.boxes import slices
from isogrow.plans.dealing import (
    SUMS,
    Course,
    Made,
    by_depth,
    dealt,
    mean_turns,
    parts_of,
    sum_turns,
    sums_of,
)
from isogrow.plans.moving import Unit
from isogrow.plans.pieces import Average, Block, Box
from isogrow.plans.plan import Plan
from isogrow.plans.taking import summed


def sums_together(asked: Course[Made], plan: Plan, old: Exchange, given: Stats) -> Stats:
    """What `isogrow.numbers.statistics.statistics` makes in one process but for means, and what is `given`;
    every rank has all of it.

    What goes wrong is noted in `old.fault`, and the statistics are then of no use.
    """
    matched = _matched([like for like in asked.matched if like not in given.matched], plan, old)
    stats = Stats({**given.matched, **matched}, given.means, given.digests)
    with noted(old.fault):
        stats = asked_of(asked.drawn, plan, _nowhere, stats)
    return stats


def means_together(means: Iterable[Average], plan: Plan, old: Exchange, stats: Stats) -> Stats:
    """The same with these means."""
    for some in by_depth(means):
        made = _averages(some, plan, old, stats)
        stats = Stats(stats.matched, {**stats.means, **made}, stats.digests)
    return stats


def _nowhere(block: Block, box: Box) -> Tensor:
    raise SizeError(
        f"init looks at region.old() of {block.slot}, and no rank has all of it: grow a sharded model by an"
        " initializer that makes its numbers from region.shape, .mean, .std and .seed"
    )


def _matched(likes: Sequence[Block], plan: Plan, old: Exchange) -> dict[Block, tuple[float, float]]:
    """Mean and std of old blocks."""
    shapes = {like: like.shape(plan.source) for like in likes}
    fixed = {like: list(summed(shape, statistics.FIXED, plan.std_of)) for like, shape in shapes.items()}
    made = torch.zeros(sum(map(len, fixed.values())), SUMS, dtype=torch.float64)

    def add(work: tuple[int, Block, Box], read: Read) -> None:
        made[work[0]] = torch.tensor(sums(read(*work[1:])), dtype=torch.float64)

    old.carry_out(_boxes_dealt(likes, plan, old), add)
    rows = iter(_put_together(made, old).tolist())
    found: dict[Block, tuple[float, float]] = {}
    with noted(old.fault):
        for like in likes:
            found[like] = combined(like, ((box, next(rows)) for box in fixed[like]))
    return found


def _boxes_dealt(likes: Sequence[Block], plan: Plan, old: Exchange) -> Iterator[Unit[tuple[int, Block, Box]]]:
    at = 0
    turns = sum_turns(likes, plan, statistics.FIXED)
    for like, turn in zip(likes, turns, strict=True):
        tasks = list(enumerate(sums_of(like, plan, statistics.FIXED), at))
        yield from dealt((((i, like, box), needs) for i, (box, needs) in tasks), old.held, turn)
        at += len(tasks)


def _averages(means: Sequence[Average], plan: Plan, old: Exchange, stats: Stats) -> dict[Average, Tensor]:
    """Means along a dim of blocks after so many steps, given those after fewer."""
    sizes = [prod(unmade(average).shape) for average in means]
    made = torch.zeros(sum(sizes), dtype=torch.float64)
    room = {
        average: flat.view(unmade(average).shape)
        for average, flat in zip(means, made.split(sizes), strict=True)
    }

    def add(work: tuple[Average, Box], read: Read) -> None:
        average, part = work
        room[average][slices(kept(average, part))] = mean_of(average, part, plan, read, stats)

    old.carry_out(_parts_dealt(means, plan, old), add)
    made.copy_(_put_together(made, old))
    return room


def _parts_dealt(means: Sequence[Average], plan: Plan, old: Exchange) -> Iterator[Unit[tuple[Average, Box]]]:
    turns = mean_turns(means, statistics.FIXED)
    for average, turn in zip(means, turns, strict=True):
        tasks = parts_of(average, plan, statistics.FIXED)
        yield from dealt((((average, part), needs) for part, needs in tasks), old.held, turn)


def _put_together(made: Tensor, old: Exchange) -> Tensor:
    """Each entry from the rank that made it; the others have zero bits there, so that none changes."""
    if not made.numel() or old.ranks.world == 1:
        return made
    home = next(iter(old.local.values())).device
    bits = made.view(torch.int64).to(old.ranks.device(home))
    distributed.all_reduce(bits)
    old.count.totals += bits.numel() * bits.element_size()
    return bits.to("cpu").view(torch.float64)
