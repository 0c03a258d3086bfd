"""The Python API: `grow` a model that is in memory, `grow_checkpoint` a folder.

small = AutoModelForCausalLM.from_pretrained(...)
large = isogrow.grow(small, hidden=768, ffn="x2", layers="+4")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from torch import Tensor, nn
from torch.optim import Optimizer

from isogrow.adopting import adopt_, adopt_optimizer_, carry_checkpointing_, check_parts
from isogrow.anatomy import Anatomy, match
from isogrow.errors import SizeError, StateError
from isogrow.expansions import Expansion, Size
from isogrow.families import layout_of
from isogrow.interpreters.checkpoint import grow_checkpoint as write_checkpoint
from isogrow.interpreters.module import first_pass, grow_average, grow_module
from isogrow.interpreters.optimizer import grow_optimizer
from isogrow.laws import check
from isogrow.models import anatomy_of, build_of, remember
from isogrow.moments import Policy
from isogrow.optimizers import check_anew, check_trained, handed_back, inside, optimizers_of
from isogrow.owners import check_free, check_given
from isogrow.pacing import Pace
from isogrow.pacing import pace as pace_updates
from isogrow.plan import Init, Plan
from isogrow.planning import check_fits, check_led
from isogrow.planning import expansions as in_order
from isogrow.planning import plan as make_plan
from isogrow.regions import Fitting, Initializer, check_plan, fitting, naming
from isogrow.replicas import renew_
from isogrow.resuming import Groups, resumable
from isogrow.sources import open_checkpoint

Model = TypeVar("Model", bound=nn.Module)
Optim = TypeVar("Optim", bound=Optimizer | Sequence[Optimizer])
Scheduler = TypeVar("Scheduler")
Ema = TypeVar("Ema", nn.Module, dict[str, Tensor])
Kind = str | Initializer | Fitting
Std = float | Literal["match"]
Place = str | tuple[int, ...]

# What `grow` takes and `grow_` does not, and the way to what is wanted.
NOT_IN_PLACE = {
    "ema": "call isogrow.grow(model, ema=…) with the same request and seed first, and keep the average that"
    " it returns, which fits the model that grow_ makes",
    "scheduler": "the optimizer stays the object that the scheduler holds, so it goes on; leave it out",
    "release": "the old state is always given up as it grows; leave it out",
}


@overload
def grow(
    model: Model, *expansions: Expansion, optimizer: Optim, scheduler: Scheduler, ema: Ema, **request: Any
) -> tuple[Model, Optim, Scheduler, Ema]: ...
@overload
def grow(
    model: Model,
    *expansions: Expansion,
    optimizer: Optim,
    scheduler: Scheduler,
    ema: None = None,
    **request: Any,
) -> tuple[Model, Optim, Scheduler]: ...
@overload
def grow(
    model: Model, *expansions: Expansion, optimizer: Optim, scheduler: None = None, ema: Ema, **request: Any
) -> tuple[Model, Optim, Ema]: ...
@overload
def grow(
    model: Model,
    *expansions: Expansion,
    optimizer: Optim,
    scheduler: None = None,
    ema: None = None,
    **request: Any,
) -> tuple[Model, Optim]: ...
@overload
def grow(
    model: Model,
    *expansions: Expansion,
    optimizer: None = None,
    scheduler: None = None,
    ema: Ema,
    **request: Any,
) -> tuple[Model, Ema]: ...
@overload
def grow(
    model: Model,
    *expansions: Expansion,
    optimizer: None = None,
    scheduler: None = None,
    ema: None = None,
    policy: None = None,
    release: Literal[False] = False,
    layers_at: Place = "end",
    init: Kind = "normal",
    init_std: Std = "match",
    seed: int = 0,
    plan: Plan | None = None,
    allow_dead: bool = False,
    **sizes: Size,
) -> Model: ...
def grow(
    model: nn.Module,
    *expansions: Expansion,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    scheduler: Any = None,
    ema: Any = None,
    policy: Policy | None = None,
    release: bool = False,
    layers_at: Place = "end",
    init: Kind = "normal",
    init_std: Std = "match",
    seed: int = 0,
    plan: Plan | None = None,
    allow_dead: bool = False,
    **sizes: Size,
) -> Any:
    """A larger model of the same class that computes the same function; `model` is left as it is.

    Sizes by name (`hidden=768, ffn="x2", layers="+4"`), or expansions in the order given, or a `plan`.
    New weights that the laws leave free are drawn by `init` with `init_std`: "normal", "uniform", "copy",
    "orthogonal", or a function of one's own, of an `isogrow.Region` that is to be filled.

    With any of `optimizer`, its `scheduler` and a running average `ema` (a model, or a state dict) the result
    is a tuple, in this order, of the model and the same things for it. Where several optimizers train the
    model (or have schedulers), give a list or a tuple of all: another one with the same order is returned.
    What new entries get says `policy`. With `release` old optimizers give up their state as it is grown.
    Gradients are not carried: grow between a step and the next backward pass.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> small = LlamaForCausalLM(config).eval()
    >>> large = grow(small, hidden=32, ffn="x2", layers="+1")
    >>> ids = torch.arange(9)[None]
    >>> bool(torch.allclose(small(ids).logits, large(ids).logits, atol=1e-5))
    True
    >>> optimizer = torch.optim.AdamW(small.parameters(), lr=1e-3)
    >>> large, optimizer = grow(small, optimizer=optimizer, ffn="x2")
    """
    check_given(model)
    _check_optimized(optimizer, scheduler is not None or policy is not None or release)
    trained, policy = optimizers_of(optimizer), policy or Policy()
    check_anew(trained, scheduler)
    anatomy = anatomy_of(model)
    wanted = _some(_wanted(expansions, sizes, layers_at, plan), plan)
    with naming(init) as kind:
        plan = _planned(anatomy, wanted, Init(kind, init_std), seed, allow_dead, plan)
        check_trained(trained, model, anatomy, plan, policy)
        with fitting(init, model, plan):
            large, averages = _made(model, ema, anatomy, plan)
    remember(large, anatomy, plan)
    found: list[Any] = [large]
    if trained:
        grown = [grow_optimizer(each, model, large, anatomy, plan, policy, release) for each in trained]
        _pace_all(large, grown, plan, policy)
        found += handed_back(optimizer, scheduler, trained, grown)
    found += averages
    return tuple(found) if len(found) > 1 else large


def _made(model: nn.Module, ema: Any, anatomy: Anatomy, plan: Plan) -> tuple[nn.Module, list[Any]]:
    """The grown model, and its average if there is one: free entries of both match the model's old ones."""
    build, stats = build_of(model), first_pass(model.state_dict(), anatomy, plan)
    large = grow_module(model, anatomy, plan, build, stats)
    carry_checkpointing_(model, large)
    return large, [] if ema is None else [grow_average(ema, anatomy, plan, build, stats)]


def pace(model: nn.Module, optimizer: Optimizer, plan: Plan, policy: Policy) -> Pace:
    """Go on pacing the updates of a model that was grown by `plan`: `grow` does it by itself, and a run that
    is resumed does it when the optimizer's state is loaded, which holds how many steps have been made.

    Raises `StateError` where the policy asks the optimizer for what it can't do, `SizeError` for a plan of
    another model.
    """
    anatomy = anatomy_of(model)
    check_led(anatomy, plan)
    return pace_updates(inside(optimizer), model, anatomy, plan, policy)


def _pace_all(model: nn.Module, optimizers: Sequence[Optimizer], plan: Plan, policy: Policy) -> None:
    for each in optimizers if policy.paced and plan.steps else ():
        pace(model, each, plan, policy)


def grow_(
    model: nn.Module,
    *expansions: Expansion,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    policy: Policy | None = None,
    layers_at: Place = "end",
    init: Kind = "normal",
    init_std: Std = "match",
    seed: int = 0,
    plan: Plan | None = None,
    allow_dead: bool = False,
    **sizes: Size,
) -> Plan:
    """Grow a model, and the optimizers that train it, where they stand; the plan is returned.

    All stay the objects that a training run holds: schedulers, gradient scalers, loops, callbacks and
    wrappers that keep the model itself go on with them. The request is as in `grow`. Of a wrapper that shows
    another optimizer's groups and state as its own (accelerate's) the one inside grows: it stays the same
    object, so there is but one thing that can be meant. A DistributedDataParallel around the model goes on
    with the grown parameters: then every process has to grow, by the same request. Gradients are not
    carried, and what has been accumulated is lost: grow between a step and the next backward pass. A growth
    by nothing leaves all as it is.

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
    for name in NOT_IN_PLACE.keys() & sizes.keys():
        raise StateError(f"grow_ takes no {name}: {NOT_IN_PLACE[name]}")
    check_given(model)
    trained = optimizers_of([inside(each) for each in optimizers_of(optimizer)] or None)
    anatomy, policy = anatomy_of(model), policy or Policy()
    wanted = _wanted(expansions, sizes, layers_at, plan)
    check_parts(model)
    replicas = check_free(model)
    with naming(init) as kind:
        plan = _planned(anatomy, wanted, Init(kind, init_std), seed, allow_dead, plan)
        check_trained(trained, model, anatomy, plan, policy)
        if not plan.steps:
            return plan
        with fitting(init, model, plan):
            large = grow_module(model, anatomy, plan, build_of(model))
    grown = [grow_optimizer(each, model, large, anatomy, plan, policy, release=True) for each in trained]
    adopt_(model, large)
    for each in replicas:
        renew_(each)
    remember(model, anatomy, plan)
    for each, made in zip(trained, grown, strict=True):
        adopt_optimizer_(each, made)
    _pace_all(model, trained, plan, policy)
    return plan


def grow_checkpoint(
    src: str | Path,
    out: str | Path,
    *expansions: Expansion,
    layers_at: Place = "end",
    init: Kind = "normal",
    init_std: Std = "match",
    seed: int = 0,
    plan: Plan | None = None,
    allow_dead: bool = False,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    resume: bool = False,
    hash_files: bool = False,
    keep_failed: bool = False,
    revision: str | None = None,
    optimizer: str = "grow",
    policy: Policy | None = None,
    groups: Groups | None = None,
    progress: Callable[[int, int], None] | None = None,
    verify: Callable[[Path], str] | None = None,
    **sizes: Size,
) -> Plan:
    """Grow the checkpoint `src` (a folder or a Hub id) into the new folder `out`; the plan is returned.

    Sizes, `init` and `plan` are as in `grow`; the rest is as in `isogrow.interpreters.checkpoint`. Nothing is
    held in memory but a part of one tensor at a time.

    An `optimizer.pt` that Hugging Face's Trainer left there is grown too (and held in memory for that, as
    Trainer does), and the rest of the run's state travels, so `train(resume_from_checkpoint=out)` goes on;
    `policy` and `groups` are as in `grow_optimizer_state`. `optimizer="drop"` writes the model alone. Raises
    `StateError` for a state that can't be grown.
    """
    checkpoint = open_checkpoint(src, revision)
    anatomy = match(layout_of(checkpoint.config), checkpoint.config, checkpoint.headers)
    wanted = _some(_wanted(expansions, sizes, layers_at, plan), plan)
    _check_blind(init)
    with naming(init) as kind:
        plan = _planned(anatomy, wanted, Init(kind, init_std), seed, allow_dead, plan)
        state = resumable(checkpoint, plan, optimizer, policy, groups)
        write_checkpoint(
            checkpoint,
            anatomy,
            plan,
            out,
            dtype=dtype,
            max_shard_size=max_shard_size,
            overwrite=overwrite,
            resume=resume,
            hash_files=hash_files,
            keep_failed=keep_failed,
            progress=progress,
            verify=verify,
            optimizer=state,
        )
    return plan


def _check_optimized(optimizer: object, needed: bool) -> None:
    if needed and optimizer is None:
        raise StateError("a scheduler, a policy or release is given without an optimizer: give optimizer=")


def _check_blind(init: Kind) -> None:
    if isinstance(init, Fitting):
        raise SizeError(
            f"init {init.name!r} looks at the model while it runs, and a checkpoint is grown without running"
            " it: load the model, grow it with isogrow.grow, and save it"
        )


def _some(wanted: tuple[Expansion, ...], plan: Plan | None) -> tuple[Expansion, ...]:
    """Something: a new model or folder that is the old one is hardly meant."""
    if not wanted and plan is None:
        raise SizeError("nothing is asked for: give sizes (ffn='x2', layers='+1'), expansions, or a plan")
    return wanted


def _wanted(
    given: tuple[Expansion, ...], sizes: Mapping[str, Size], at: Place, plan: object
) -> tuple[Expansion, ...]:
    """The expansions that are asked for. Raises `SizeError` for what is none, and for a plan that is none."""
    stray = [each for each in given if not isinstance(each, Expansion)]  # pyright: ignore[reportUnnecessaryIsInstance]
    if stray:
        raise SizeError(
            f"{stray[0]!r:.60} is no expansion: give sizes by name (ffn='x2'), or expansions"
            " (isogrow.MlpExpansion('x2'))"
        )
    if plan is not None and not isinstance(plan, Plan):
        raise SizeError(
            f"plan is a {type(plan).__name__}, not an isogrow.Plan: read one from its JSON by"
            " isogrow.serial.from_json, or give sizes"
        )
    return (*given, *in_order(sizes, at))


def _planned(
    anatomy: Anatomy,
    wanted: tuple[Expansion, ...],
    init: Init,
    seed: int,
    allow_dead: bool,
    plan: Plan | None,
) -> Plan:
    """The plan that is asked for, or the one that is given, if it is for this model."""
    if plan is None:
        return make_plan(anatomy, wanted, init, seed, allow_dead)
    if wanted:
        raise SizeError("both a plan and sizes are given: give one of them")
    check_fits(anatomy, plan)
    check_plan(plan)
    check(anatomy, plan, allow_dead)
    return plan
