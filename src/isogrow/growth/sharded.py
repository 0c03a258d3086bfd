"""A running sharded job, grown without gathering: FSDP2, HSDP, tensor parallelism, and both together.

The grown model is built without numbers, the user's own function shards it, and each rank fills the parts that
it then has (`isogrow.interpreters.sharded`). A refusal on one rank is one on all: they ask each other before
any of them waits for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from isogrow.errors import CheckpointError, SizeError, StateError
from isogrow.growth.adopting import carry_checkpointing_
from isogrow.growth.models import build_of
from isogrow.interpreters.module import numberless_module
from isogrow.interpreters.sharded.exchanging import Count, Exchange
from isogrow.interpreters.sharded.growing import Target, check_ranges, grow_parts_
from isogrow.interpreters.sharded.moments import Together
from isogrow.interpreters.sharded.ranks import Fault, Ranks, kept
from isogrow.numbers.filling import Stats
from isogrow.numbers.local import box_of, is_sharded, local_of, parts_of
from isogrow.optim.moments import FACTORED, Policy
from isogrow.optim.state import grow_optimizer
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.moving import Holdings, Regions
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import Box
from isogrow.plans.plan import Plan
from isogrow.plans.regions import Fitting
from isogrow.plans.serial import digest
from isogrow.stores.binding import check_ties, outputs

Shard = Callable[[Any], object]
ROWS = ("Muon",)  # optimizers that need at least a row of each matrix on every rank


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


# ── what is asked first, of this rank alone ──


def spread_out(model: nn.Module) -> bool:
    """Whether a model is sharded, though some of its parameters may be gathered at the moment."""
    return any(is_sharded(x) for x in model.parameters()) or any(_fully_sharded(model))


def check_whole(model: nn.Module) -> None:
    """Refuse to grow a sharded model where it stands (`StateError`)."""
    if spread_out(model):
        raise StateError(
            f"{type(model).__name__} is spread over ranks, and its parts can't take other sizes where they are:"
            " call isogrow.grow_training(model, optimizer=…, shard=…) with the function that shards the model,"
            " and go on with the model and the optimizer that it returns"
        )


def check_sharded(model: nn.Module, shard: object, init: object) -> None:
    """Refuse what can't be had of a sharded model (`StateError`, `SizeError`); parameters that a forward pass
    has gathered become parts again."""
    if shard is None:
        raise StateError(
            f"{type(model).__name__} is spread over ranks: give shard=, the function that shards the model"
            " (def shard(model): fully_shard(model)), which is called with the grown one"
        )
    if not callable(shard):
        raise StateError(f"shard={shard!r:.60} is no function: give the one that shards the model")
    if isinstance(init, Fitting):
        raise SizeError(
            f"init {init.name!r} looks at the model while it runs, and a sharded one is grown without running"
            " it: grow by another initializer"
        )
    for part in _fully_sharded(model):
        cast("Any", part).reshard()


def _fully_sharded(model: nn.Module) -> Iterator[nn.Module]:
    for part in model.modules():
        if any(kind.__name__ == "FSDPModule" for kind in type(part).__mro__):
            yield part


def check_states(optimizers: Sequence[Optimizer], model: nn.Module) -> None:
    """Refuse state tensors that are not spread as their parameters are (`StateError`)."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    for p, name, state in (
        (p, names[p], s) for each in optimizers for p, s in each.state.items() if p in names
    ):
        factored = next((key for key in (*FACTORED, *FACTORED.values()) if key in state), None)
        if factored is not None and is_sharded(p):
            raise StateError(
                f"the optimizer keeps {factored} of {name}, means of rows or columns of which no rank has all:"
                " grow the model alone, without optimizer=, and make a new optimizer for it"
            )
        for key, x in state.items():
            alike = is_sharded(x) == is_sharded(p) and (not is_sharded(p) or _placed(x) == _placed(p))
            if isinstance(x, Tensor) and x.dim() and x.numel() > 1 and not alike:
                raise StateError(
                    f"{key} of {name} does not lie over the ranks as {name} does: make the optimizer after the"
                    " model is sharded, from its parameters"
                )


def _placed(x: Any) -> tuple[object, ...]:
    return (x.device_mesh, *x.placements)


def _said(job: Job, optimizers: Sequence[Optimizer], policy: Policy) -> str:
    """All that has to be the same on every rank."""
    states = [[sorted(map(str, state)) for state in each.state.values()] for each in optimizers]
    groups = [[len(group["params"]) for group in each.param_groups] for each in optimizers]
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
    grown = grown_model(model, job)
    made = grown_optimizers(optimizers, model, grown, job, policy)
    average = None if ema is None else grown_average(ema, grown, job)
    for each in optimizers if release else ():
        for p in (p for group in each.param_groups for p in group["params"]):
            each.state.pop(p, None)
    return grown.model, made, average


# ── the grown model ──


def grown_model(model: nn.Module, job: Job, given: Stats | None = None) -> Grown:
    """The grown model, sharded, each rank's parts filled; `model` is left as it is."""
    old, names = _tensors(model), job.sources
    with job.ranks.together():
        large = _sharded(model, job)
        new = _tensors(large)
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


def check_numbers(model: nn.Module, anatomy: Anatomy) -> None:
    """Refuse parameters without numbers, on several devices, or tied ones that differ (`CheckpointError`)."""
    tensors = _tensors(model)
    local = {each.source: local_of(tensors[each.source]) for each in anatomy.stored}
    empty = next((name for name, x in local.items() if x.is_meta), None)
    if empty is not None:
        raise CheckpointError(
            f"{empty} is on the meta device, where tensors have no numbers: load the weights, then grow"
        )
    devices = sorted({str(local_of(x).device) for x in model.parameters()})
    if len(devices) > 1:
        raise CheckpointError(
            f"this rank's parameters lie on {devices[0]} and on {devices[1]}: put all of them on one device,"
            " then grow"
        )
    check_ties(anatomy, lambda name: local[name])


def _fill(
    new: Mapping[str, Tensor], regions: Mapping[str, Regions], job: Job, old: Exchange, given: Stats | None
) -> Stats:
    targets = [Target(each, local_of(new[each.name]), regions[each.name]) for each in job.made]
    stats = grow_parts_(targets, job.plan, old, given)
    job.ranks.settle(old.fault)
    if any(x.dtype == torch.float16 for x in old.local.values()):
        with job.ranks.together():
            check_ranges(targets, job.anatomy, job.plan, old)
    return stats


def _by_name(boxes: Sequence[Mapping[str, Box]]) -> dict[str, dict[int, Box]]:
    """What every rank has of each tensor, from what each rank said of its own."""
    return {name: {rank: own[name] for rank, own in enumerate(boxes)} for name in boxes[0]}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of a model by every name that they have."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _sharded(model: nn.Module, job: Job) -> nn.Module:
    """The grown model as the user's function shards it, with room for this rank's parts."""
    large = numberless_module(model, job.anatomy, job.plan, build_of(model))
    carry_checkpointing_(model, large)
    buffers = {name: x.detach().clone() for name, x in large.named_buffers()}
    shapes = {name: tuple(x.shape) for name, x in large.named_parameters()}
    large = _by_user(large, job.shard)
    for name, x in large.named_parameters():
        if shapes.get(name) != tuple(x.shape):
            raise StateError(
                f"after shard= {name} is {list(x.shape)}, and before it {list(shapes.get(name, ()))}: the function"
                " may spread parameters over ranks, and change nothing else"
            )
        _check_cuts(name, x)
    _make_room_(large, model)
    with torch.no_grad():
        for name, x in large.named_buffers():
            if name in buffers:
                local_of(x).copy_(buffers[name])
    return large


def _by_user(large: nn.Module, shard: Shard) -> nn.Module:
    try:
        found = shard(large)
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise StateError(
            f"shard= can't shard the grown model: {said}; choose sizes that it can, or change the function"
        ) from error
    return found if isinstance(found, nn.Module) else large


def _check_cuts(name: str, x: Tensor) -> None:
    """Refuse a dim other than the first that its mesh cuts into parts that differ."""
    for dim, count in parts_of(x).items():
        size = x.shape[dim]
        if dim and size % count:
            below, above = size - size % count, size - size % count + count
            raise SizeError(
                f"{name} would be {list(x.shape)}, and its dim {dim} is cut into {count} parts, which have to be"
                f" alike: choose sizes that make it {below} or {above}"
            )


def _make_room_(large: nn.Module, model: nn.Module) -> None:
    """This rank's parts get memory where the old model's are; what was one tensor stays one."""
    first: dict[int, str] = {}
    twins = {
        name: first.setdefault(id(x), name) for name, x in large.named_parameters(remove_duplicate=False)
    }
    homes = [[local_of(x).device for x in each] for each in (model.parameters(), model.buffers())]
    place, side = (next(iter(home), torch.device("cpu")) for home in homes)

    def room(x: Tensor) -> Tensor:
        if x.is_meta:
            return torch.empty_like(x, device=place)
        return x if isinstance(x, nn.Parameter) else x.to(side)

    large._apply(room)  # as `to_empty` does it, which would take the buffers' numbers too
    found = dict(large.named_parameters(remove_duplicate=False))
    for name, home in twins.items():
        if found[name] is not found[home]:
            part, _, own = name.rpartition(".")
            setattr(large.get_submodule(part), own, found[home])


# ── what trains it ──


def grown_optimizers(
    optimizers: Sequence[Optimizer], model: nn.Module, grown: Grown, job: Job, policy: Policy
) -> list[Optimizer]:
    """Optimizers of the grown model, each rank's parts of their state filled."""
    fault = Fault()
    exchange = Exchange(job.ranks, grown.old.held, grown.old.local, job.count, fault)
    with kept(fault):
        check_rows(optimizers, grown.model)
    job.ranks.settle(fault)
    made: list[Optimizer] = []
    for each in optimizers:
        together = Together(job.anatomy, job.plan, _tensors(grown.model), grown.regions, exchange)
        with job.ranks.together():
            made.append(
                grow_optimizer(each, model, grown.model, job.anatomy, job.plan, policy, make=together)
            )
        together.fill_()
    job.ranks.settle(fault)
    return made


def check_rows(optimizers: Sequence[Optimizer], large: nn.Module) -> None:
    """Refuse matrices that have fewer rows than there are ranks to hold them, where that can't be trained."""
    needy = next((type(each).__name__ for each in optimizers if type(each).__name__ in ROWS), None)
    for name, x in large.named_parameters() if needy else ():
        parts = parts_of(x).get(0, 1)
        if x.dim() == 2 and x.shape[0] < parts:
            raise StateError(
                f"{name} would have {x.shape[0]} rows over {parts} ranks, and {needy} needs a row on each: shard"
                " it over fewer ranks, or train it by another optimizer"
            )


# ── a running average ──


def grown_average(ema: Any, grown: Grown, job: Job) -> Any:
    """A grown running average: a sharded model of the same class, or a dict of tensors by the model's names;
    its free entries match what those of the grown model match."""
    given = Stats(grown.stats.matched)
    with job.ranks.together():
        tensors: Mapping[str, Tensor] = _tensors(ema) if isinstance(ema, nn.Module) else ema
        lacking = set(job.sources) - tensors.keys()
        if lacking:
            raise StateError(f"the average lacks {min(lacking)}: give one with the model's own names")
    if isinstance(ema, nn.Module):
        return grown_model(ema, job, given).model
    large = _tensors(grown.model)
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
