"""A running sharded job, grown without gathering: FSDP2, HSDP, tensor parallelism, and both together.

The grown model is built without numbers, the user's own function shards it, and each rank fills the parts
that it then has (`isogrow.interpreters.sharded`). A refusal on one rank is one on all: they ask each other
before any of them waits for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from isogrow.errors import SizeError, StateError
from isogrow.growth.shardable import (
    check_numbers,
    check_numbers_of_groups,
    check_rows,
    check_states,
)
from isogrow.growth.sharding import Shard, sharded_anew, tensors_of
from isogrow.interpreters.module import averaged_anew, check_average
from isogrow.interpreters.sharded.exchanging import Count, Exchange
from isogrow.interpreters.sharded.growing import Target, check_ranges, grow_parts_
from isogrow.interpreters.sharded.moments import Together
from isogrow.interpreters.sharded.ranks import Fault, Ranks
from isogrow.numbers.filling import Stats
from isogrow.numbers.local import box_of, local_of
from isogrow.optim.measured import measured
from isogrow.optim.moments import Policy
from isogrow.optim.state import grow_optimizer, settle_
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.moving import Holdings, Regions
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import Box
from isogrow.plans.plan import Plan
from isogrow.plans.serial import digest
from isogrow.stores.binding import outputs
from isogrow.stores.writers import odd_one


@dataclass(frozen=True)
class Job:
    """One growth, the same on all ranks."""

    ranks: Ranks
    anatomy: Anatomy
    plan: Plan
    shard: Shard
    count: Count = field(default_factory=Count)

    @property
    def made(self) -> list[Stored]:
        """The grown tensors that have entries of their own."""
        return [stored for stored in outputs(self.anatomy, self.plan) if not is_tied(self.anatomy, stored)]

    @property
    def sources(self) -> list[str]:
        """The old ones."""
        return [each.source for each in self.anatomy.stored if not is_tied(self.anatomy, each)]


@dataclass(frozen=True)
class Grown:
    """A grown model, and how its tensors and the old ones lie over the ranks."""

    model: nn.Module
    old: Exchange
    regions: Mapping[str, Regions]
    stats: Stats


# ── all of it ──


def _said(job: Job, optimizers: Sequence[Optimizer], policy: Policy) -> str:
    """All that has to be the same on every rank."""
    states = [[sorted(map(str, state)) for state in each.state.values()] for each in optimizers]
    groups = [[(len(group["params"]), sorted(group)) for group in each.param_groups] for each in optimizers]
    return repr((digest(job.plan), policy, [type(each).__name__ for each in optimizers], groups, states))


def grow_together(
    job: Job, model: nn.Module, optimizers: Sequence[Optimizer], ema: Any, policy: Policy, release: bool
) -> tuple[nn.Module, list[Optimizer], Any]:
    """The grown model, its optimizers and its average (None: none), each rank with its parts of them.

    Until all ranks have theirs nothing that is given changes. Raises on every rank what one refuses.
    """
    with job.ranks.together():
        check_states(optimizers, model)
    job.ranks.check_alike("request", _said(job, optimizers, policy))
    check_numbers_of_groups(optimizers, job.ranks)
    grown = grown_model(model, job, optimizers)
    made = grown_optimizers(optimizers, model, grown, job, policy)
    average = None if ema is None else grown_average(ema, grown, job)
    for each in optimizers if release else ():
        for p in (p for group in each.param_groups for p in group["params"]):
            each.state.pop(p, None)
    return grown.model, made, average


# ── the grown model ──


def grown_model(
    model: nn.Module, job: Job, optimizers: Sequence[Optimizer] = (), given: Stats | None = None
) -> Grown:
    """The grown model, sharded, each rank's parts filled; `model` is left as it is."""
    old, names = tensors_of(model), job.sources
    with job.ranks.together():
        large = sharded_anew(model, job.anatomy, job.plan, job.shard)
        check_rows(optimizers, large)
        new = tensors_of(large)
        local = {name: local_of(old[name]) for name in names}
        check_numbers(model, job.anatomy)
        mine = (
            {name: box_of(old[name]) for name in names},
            {each.name: box_of(new[each.name]) for each in job.made},
        )
    held, regions = (_by_name(each) for each in zip(*job.ranks.gathered(mine), strict=True))
    exchange = Exchange(job.ranks, Holdings(job.anatomy, held), local, job.count)
    stats = _fill(new, regions, job, exchange, given)
    return Grown(large.train(model.training), exchange, regions, stats)


def _fill(
    new: Mapping[str, Tensor], regions: Mapping[str, Regions], job: Job, old: Exchange, given: Stats | None
) -> Stats:
    targets = [Target(each, local_of(new[each.name]), regions[each.name]) for each in job.made]
    stats = grow_parts_(targets, job.plan, old, given)
    job.ranks.settle(old.fault)
    _check_drawn_alike(stats, job)
    check_ranges(targets, job.anatomy, job.plan, old)
    return stats


def _check_drawn_alike(stats: Stats, job: Job) -> None:
    """Refuse a user's function that makes other numbers of one region on one rank than on another."""
    other = odd_one(job.ranks.gathered(stats.digests)) if stats.digests else None
    if other is not None:
        raise SizeError(
            f"init gives other numbers on rank {other} than on rank 0, and parts of them would not fit"
            " together: let it draw from region.seed alone, and from nothing that differs between ranks"
        )


def _by_name(boxes: Sequence[Mapping[str, Box]]) -> dict[str, dict[int, Box]]:
    """What every rank has of each tensor, from what each rank said of its own."""
    return {name: {rank: own[name] for rank, own in enumerate(boxes)} for name in boxes[0]}


# ── what trains it ──


def grown_optimizers(
    optimizers: Sequence[Optimizer], model: nn.Module, grown: Grown, job: Job, policy: Policy
) -> list[Optimizer]:
    """Optimizers of the grown model, each rank's parts of their state filled."""
    fault = Fault()
    exchange = Exchange(job.ranks, grown.old.held, grown.old.local, job.count, fault)
    made: list[Optimizer] = []
    for each in optimizers:
        together = Together(job.anatomy, job.plan, tensors_of(grown.model), grown.regions, exchange)
        with job.ranks.together():
            made.append(
                grow_optimizer(each, model, grown.model, job.anatomy, job.plan, policy, make=together)
            )
        together.fill_()
        settle_(made[-1], grown.model, measured(each), policy)
    job.ranks.settle(fault)
    return made


# ── a running average ──


def grown_average(ema: Any, grown: Grown, job: Job) -> Any:
    """A grown running average: a sharded model of the same class, torch's `AveragedModel` around one, or a
    dict of tensors by the model's names; its free entries match what those of the grown model match."""
    if isinstance(ema, AveragedModel):
        return averaged_anew(ema, grown_average(ema.module, grown, job))
    given = Stats(grown.stats.matched)
    with job.ranks.together():
        tensors: Mapping[str, Tensor] = tensors_of(ema) if isinstance(ema, nn.Module) else ema
        lacking = set(job.sources) - tensors.keys()
        if lacking:
            raise StateError(f"the average lacks {min(lacking)}: give one with the model's own names")
        if isinstance(ema, nn.Module):
            check_average(ema, job.anatomy)
    if isinstance(ema, nn.Module):
        return grown_model(ema, job, given=given).model
    large = tensors_of(grown.model)
    with job.ranks.together():
        local = {name: local_of(tensors[name]) for name in job.sources}
        for name in job.sources:
            if tuple(local[name].shape) != tuple(grown.old.local[name].shape):
                raise StateError(
                    f"the average's {name} does not lie over the ranks as the model's does: shard it so"
                )
        new = {
            s.name: torch.empty_like(large[s.name], dtype=tensors[s.source].dtype, requires_grad=False)
            for s in job.made
        }
    _fill(new, grown.regions, job, Exchange(job.ranks, grown.old.held, local, job.count), given)
    twins = {id(x): name for name, x in large.items() if name in new}
    named = {name: twins[id(x)] for name, x in large.items() if id(x) in twins}
    return {name: new[home] for name, home in named.items() if name == home or name in tensors}
