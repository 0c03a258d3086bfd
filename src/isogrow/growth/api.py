"""The Python API of models in memory: `grow`, `grow_`, `grow_training` and `plan` (of a folder, too).

    small = AutoModelForCausalLM.from_pretrained(...)
    large = isogrow.grow(small, hidden=768, ffn="x2", layers="+4")

All of them take the same request (`isogrow.planning.request`): sizes by name, or expansions in the order
given, or `to` a sibling's config, or a `plan`; and how new weights are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, Unpack, cast

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from isogrow.errors import SizeError, StateError
from isogrow.growth.adopting import adopt_, adopt_optimizer_, check_parts
from isogrow.growth.as_built import carry_settings_, check_as_built
from isogrow.growth.models import anatomy_of, build_of, remember
from isogrow.growth.opening import Opened, opened
from isogrow.growth.owners import check_free, check_given
from isogrow.growth.rehoming import as_root, check_rehomed, rehome_
from isogrow.growth.replicas import renew_
from isogrow.growth.shardable import check_sharded, spread_out
from isogrow.growth.sharded import Job, grow_together
from isogrow.growth.sharding import Shard
from isogrow.growth.taken import check_taken
from isogrow.interpreters.module import first_pass, grow_average, grow_module
from isogrow.interpreters.sharded.ranks import Ranks
from isogrow.layouts.config import Config
from isogrow.optim.moments import Policy
from isogrow.optim.optimizers import check_anew, check_trained, handed_back, inside, optimizers_of
from isogrow.optim.pacing import Pace
from isogrow.optim.pacing import pace as pace_updates
from isogrow.optim.state import check_holds, grow_optimizer
from isogrow.planning.planner import check_led
from isogrow.planning.request import Kind, Request, Said, requested
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import Expansion
from isogrow.plans.plan import Plan
from isogrow.plans.regions import fitting, naming
from isogrow.quiet import on_cpu

Model = TypeVar("Model", bound=nn.Module)
Optim = TypeVar("Optim", bound=Optimizer | Sequence[Optimizer] | None)
Scheduler = TypeVar("Scheduler")
Ema = TypeVar("Ema", bound=nn.Module | dict[str, Tensor] | None)


class Training(NamedTuple, Generic[Model, Optim, Scheduler, Ema]):
    """A model and what trains it; None is what was not given."""

    model: Model
    optimizer: Optim
    scheduler: Scheduler
    ema: Ema


def grow(model: Model, *expansions: Expansion, shard: Shard | None = None, **request: Unpack[Said]) -> Model:
    """A larger model of the same class that computes the same function; `model` is left as it is.

    The request is sizes by name (`hidden=768, ffn="x2", layers="+4"`), or expansions in the order given, or
    `to`: a larger sibling's config (its path, or a dict), or a `plan` (or its file, or a grown folder).
    `layers_at` says where new layers go. New weights that the laws leave free are drawn by `init` with
    `init_std` from `seed`: "normal", "uniform", "copy", "orthogonal", or a function of one's own, of an
    `isogrow.Region` that is to be filled. `shard` is as in `grow_training`.

    Raises `FamilyError` for what is no model that is known, `SizeError` for sizes that can't be had,
    `LawError` for a growth that would change the function or whose new part could never learn.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> small = LlamaForCausalLM(config).eval()
    >>> large = grow(small, hidden=32, ffn="x2", layers="+1")
    >>> ids = torch.arange(9)[None]
    >>> bool(torch.allclose(small(ids).logits, large(ids).logits, atol=1e-5))
    True
    """
    with _agreed(_ranks(model, shard)):
        check_taken("grow", request)
    return grow_training(model, *expansions, shard=shard, **request).model


@on_cpu()
def grow_training(
    model: Model,
    *expansions: Expansion,
    optimizer: Optim = None,
    scheduler: Scheduler = None,
    ema: Ema = None,
    policy: Policy | None = None,
    release: bool = False,
    shard: Shard | None = None,
    **request: Unpack[Said],
) -> Training[Model, Optim, Scheduler, Ema]:
    """A larger model, and the same for what trains it; all that is given is left as it is.

    That is an `optimizer`, its `scheduler`, a running average `ema` of the model (a model, or a state dict).
    Where several optimizers train the model (or have schedulers), give a list or a tuple of all: another one
    with the same order is returned. What new entries get says `policy`. With `release` old optimizers give
    up their state as it is grown. Gradients are not carried: grow between a step and the next backward pass.
    The request is as in `grow`.

    A model that is spread over ranks (its parameters are DTensors) grows without being gathered: `shard` is
    the function that shards it, `shard(model)`, and is called with the grown model while its parameters are
    on the meta device. Every rank has to make the same call, and what one refuses all do (docs/sharding.md).

    Raises what `grow` does, and `StateError` for optimizers and schedulers that can't grow.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> small = LlamaForCausalLM(config)
    >>> optimizer = torch.optim.AdamW(small.parameters(), lr=1e-3)
    >>> grown = grow_training(small, optimizer=optimizer, ffn="x2")
    >>> grown.model.config.intermediate_size, type(grown.optimizer).__name__, grown.scheduler
    (80, 'AdamW', None)
    """
    ranks = _ranks(model, shard)
    with _agreed(ranks):
        check_given(model)
        _check_optimized(optimizer, policy, scheduler is not None or release)
        _check_average(ema, model)
        asked = requested(expansions, request)
        if ranks is not None:
            check_sharded(model, shard, asked.kind)
        ready = _ready(model, asked, optimizer, scheduler, policy or Policy())
    with naming(asked.kind):
        if ranks is not None and shard is not None:
            job = Job(ranks, ready.anatomy, ready.plan, shard)
            large, grown, average = grow_together(job, model, ready.trained, ema, ready.policy, release)
        else:
            large, grown, average = _grown(model, ema, ready, asked.kind, release)
    remember(large, ready.anatomy, ready.plan)
    _pace_all(large, grown, ready.plan, ready.policy)
    made, moved = handed_back(optimizer, scheduler, ready.trained, grown)
    return Training(cast("Model", large), made, moved, average)


@dataclass(frozen=True)
class _Ready:
    """A growth of which all has been checked that can be before it starts."""

    anatomy: Anatomy
    plan: Plan
    trained: tuple[Optimizer, ...]
    policy: Policy


def _ready(model: nn.Module, asked: Request, optimizer: Any, scheduler: Any, policy: Policy) -> _Ready:
    trained = optimizers_of(optimizer)
    check_anew(trained, scheduler)
    anatomy = anatomy_of(model)
    with naming(asked.kind):
        plan = asked.plan(anatomy)
        check_trained(trained, model, anatomy, plan, policy)
    check_as_built(model, anatomy, build_of(model))
    return _Ready(anatomy, plan, trained, policy)


def _grown(
    model: nn.Module, ema: Any, ready: _Ready, kind: Kind, release: bool
) -> tuple[nn.Module, list[Optimizer], Any]:
    """The grown model, what trains it, and its average, all of them whole in this process."""
    anatomy, plan, policy = ready.anatomy, ready.plan, ready.policy
    with fitting(kind, model, plan):
        large, average = _made(model, ema, anatomy, plan)
    grown = [grow_optimizer(each, model, large, anatomy, plan, policy, release) for each in ready.trained]
    return large, grown, average


def _made(model: nn.Module, ema: Any, anatomy: Anatomy, plan: Plan) -> tuple[nn.Module, Any]:
    """The grown model, and its average if there is one: free entries of both match the model's old ones."""
    build, stats = build_of(model), first_pass(model.state_dict(), anatomy, plan)
    large = grow_module(model, anatomy, plan, build, stats)
    carry_settings_(model, large, anatomy, plan)
    return large, None if ema is None else grow_average(ema, anatomy, plan, build, stats)


@on_cpu()
def grow_(
    model: nn.Module,
    *expansions: Expansion,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    policy: Policy | None = None,
    shard: Shard | None = None,
    **request: Unpack[Said],
) -> Plan:
    """Grow a model, and the optimizers that train it, where they stand; the plan is returned.

    All stay the objects that a training run holds: schedulers, gradient scalers, loops, callbacks and
    wrappers that keep the model itself go on with them. The request is as in `grow`. Of a wrapper that shows
    another optimizer's groups and state as its own (accelerate's) the one inside grows: it stays the same
    object, so there is but one thing that can be meant. A DistributedDataParallel around the model goes on
    with the grown parameters: then every process has to grow, by the same request. Gradients are not
    carried, and what has been accumulated is lost: grow between a step and the next backward pass. A growth
    by nothing leaves all as it is. Of a model that is spread over ranks `shard` is as in `grow_training`.

    Raises `CheckpointError` where a part of the model holds hooks, which would be lost, and `StateError` for
    optimizers that can't grow, or that leave out parameters which want gradients; model and optimizers are
    then as they were.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> model = LlamaForCausalLM(config)
    >>> optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    >>> plan = grow_(model, optimizer=optimizer, ffn="x2")
    >>> model.config.intermediate_size
    80
    """
    ranks = _ranks(model, shard)
    if ranks is not None:
        return _grow_parts_(ranks, model, optimizer, expansions, request, policy, shard)
    trained, asked, policy = _said_in_place(model, optimizer, expansions, request, policy)
    anatomy = anatomy_of(model)
    check_parts(model)
    replicas = check_free(model)
    with naming(asked.kind):
        plan = asked.plan(anatomy)
        check_trained(trained, model, anatomy, plan, policy)
        if not plan.steps:
            return plan
        check_as_built(model, anatomy, build_of(model))
        with fitting(asked.kind, model, plan):
            large = grow_module(model, anatomy, plan, build_of(model))
            carry_settings_(model, large, anatomy, plan)
    grown = [grow_optimizer(each, model, large, anatomy, plan, policy, release=True) for each in trained]
    adopt_(model, large)
    for each in replicas:
        renew_(each)
    remember(model, anatomy, plan)
    for each, made in zip(trained, grown, strict=True):
        adopt_optimizer_(each, made)
    _pace_all(model, trained, plan, policy)
    return plan


def _said_in_place(
    model: nn.Module,
    optimizer: Any,
    expansions: tuple[Expansion, ...],
    request: Mapping[str, Any],
    policy: Policy | None,
) -> tuple[tuple[Optimizer, ...], Request, Policy]:
    """What `grow_` was given, once it is what can be given."""
    check_taken("grow_", request)
    check_given(model)
    _check_optimized(optimizer, policy)
    trained = optimizers_of([inside(each) for each in optimizers_of(optimizer)] or None)
    return trained, requested(expansions, request), policy or Policy()


def _grow_parts_(
    ranks: Ranks,
    model: nn.Module,
    optimizer: Any,
    expansions: tuple[Expansion, ...],
    request: Mapping[str, Any],
    policy: Policy | None,
    shard: Shard | None,
) -> Plan:
    """The same of a model that is spread over ranks: what is sharded anew moves into it."""
    with _agreed(ranks):
        trained, asked, policy = _said_in_place(model, optimizer, expansions, request, policy)
        check_sharded(model, shard, asked.kind)
        check_rehomed(model)
        check_parts(model)
        check_free(model)
        ready = _ready(model, asked, trained or None, None, policy)
    assert shard is not None
    plan = ready.plan
    if not plan.steps:
        return plan
    with naming(asked.kind):
        job = Job(ranks, ready.anatomy, plan, as_root(model, shard))
        large, grown, _ = grow_together(job, model, trained, None, policy, release=True)
    rehome_(model, large)
    remember(model, ready.anatomy, plan)
    for each, made in zip(trained, grown, strict=True):
        adopt_optimizer_(each, made)
    _pace_all(model, trained, plan, policy)
    return plan


def plan(
    model: nn.Module | str | Path | Opened,
    *expansions: Expansion,
    revision: str | None = None,
    config: Config | str | Path | None = None,
    **request: Unpack[Said],
) -> Plan:
    """The plan by which a model, or a folder or Hub id, would grow; both laws are checked, no weight is read.

    It prints as a table, `isogrow.grow(model, plan=…)` carries it out, and `isogrow plan --out` writes the
    same one to a file. The request is as in `grow`, and so is what is raised; `config` is as in
    `grow_checkpoint`.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> print(plan(LlamaForCausalLM(config), ffn="x2"))
    llama, seed 0
    MlpExpansion         ffn                 40 -> 80
      free         mlp.gate, mlp.up
      zero         mlp.down
    config: intermediate_size = 80
    """
    check_taken("plan", request)
    if not isinstance(model, nn.Module):
        anatomy = opened(model, revision, config).anatomy
    else:
        check_given(model)
        anatomy = anatomy_of(model)
    return requested(expansions, request).plan(anatomy)


def pace(model: nn.Module, optimizer: Optimizer, plan: Plan, policy: Policy) -> Pace:
    """Go on pacing the updates of a model that was grown by `plan`: `grow` does it by itself, and a run that
    is resumed does it when the optimizer's state is loaded, which holds how many steps have been made.

    Raises `StateError` where the policy asks the optimizer for what it can't do, `SizeError` for a plan of
    another model.
    """
    if not isinstance(plan, Plan):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SizeError(
            f"pace() is given {plan!r:.60} for a plan: give the one that grow_ returned, or"
            " isogrow.plan_of(model)"
        )
    check_given(model)
    _check_policy(policy)
    optimizers = optimizers_of(optimizer)
    if len(optimizers) != 1:
        raise StateError("pace() takes one optimizer: call it once for each that trains the model")
    anatomy = anatomy_of(model)
    check_led(anatomy, plan)
    (own,) = map(inside, optimizers)
    check_holds(own, model)
    return pace_updates(own, model, anatomy, plan, policy)


def _pace_all(model: nn.Module, optimizers: Sequence[Optimizer], plan: Plan, policy: Policy) -> None:
    for each in optimizers if policy.paced and plan.steps else ():
        pace(model, each, plan, policy)


def _ranks(model: object, shard: Shard | None) -> Ranks | None:
    """The ranks that grow a model together; None for one that this process has all of."""
    spread = shard is not None or (isinstance(model, nn.Module) and spread_out(model))
    return Ranks.all() if spread else None


def _agreed(ranks: Ranks | None) -> AbstractContextManager[None]:
    """What is refused inside is refused on all ranks: nothing may be before they are asked."""
    return nullcontext() if ranks is None else ranks.together()


def _check_average(ema: object, model: nn.Module) -> None:
    """Of an average's tensors by name, none may be lost without a word; what it lacks is told later."""
    if ema is None:
        return
    if not isinstance(ema, nn.Module | Mapping):
        raise StateError(f"ema is a {type(ema).__name__}: give the average as a model or as its state dict")
    given: Any = ema.module if isinstance(ema, AveragedModel) else ema
    module = isinstance(given, nn.Module)
    names = [name for name, _ in given.named_parameters()] if module else list(given)
    own = model.state_dict().keys() | dict(model.named_buffers()).keys()
    more = next((name for name in names if name not in own), None)
    if more is not None and not own.isdisjoint(names):
        mend = "give the average of this model" if module else "leave it out of ema="
        raise StateError(f"the average has {more}, and the model lacks it: {mend}")


def _check_optimized(optimizer: object, policy: object, needed: bool = False) -> None:
    if (needed or policy is not None) and optimizer is None:
        raise StateError("a scheduler, a policy or release is given without an optimizer: give optimizer=")
    _check_policy(policy)


def _check_policy(policy: object) -> None:
    if not isinstance(policy, Policy | None):
        raise StateError(f"policy is {policy!r:.60}: give an isogrow.Policy, like Policy(old_rate=0)")
