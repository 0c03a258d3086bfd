"""Growing a model that is in memory: its state dict, tensor by tensor, into a new model."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from isogrow.errors import CheckpointError, FamilyError, StateError
from isogrow.layouts.config import Config, edited, untagged
from isogrow.numbers.filling import Stats
from isogrow.numbers.statistics import statistics
from isogrow.plans.anatomy import Anatomy, Header, Stored
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import whole
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes
from isogrow.quiet import as_given, numberless, quiet
from isogrow.stores.binding import check_range, check_ties, fill_region_, outputs, reader, source_of
from isogrow.stores.store import StateDict, header_of

Build = Callable[[Config, Sizes], nn.Module]
Average = TypeVar("Average", nn.Module, dict[str, Tensor])


def headers(model: nn.Module) -> dict[str, Header]:
    """The names, shapes and dtypes of a model's state dict."""
    return {name: header_of(tensor) for name, tensor in model.state_dict().items()}


def grow_module(
    model: nn.Module,
    anatomy: Anatomy,
    plan: Plan,
    build: Build | None = None,
    stats: Stats | None = None,
) -> nn.Module:
    """A new model of the same class with the plan's sizes; `model` is left as it is.

    A Hugging Face model is made by its own class; any other by `build(config, sizes)`. Devices, dtypes,
    training mode and frozen parameters are carried over. `stats` are as in `grown_state`.
    """
    config = edited(anatomy.config, plan.config)
    state = grown_state(model.state_dict(), anatomy, plan, stats)
    large = (
        _loaded(build(config, plan.target), state) if build is not None else _pretrained(model, config, state)
    )
    _carry_(model, large, anatomy, plan)
    return large.train(model.training)


def numberless_module(
    model: nn.Module, anatomy: Anatomy, plan: Plan, build: Build | None = None
) -> nn.Module:
    """The same new model before it has numbers: parameters on the meta device, with the dtypes that they will
    have; buffers as its class makes them. What may be sharded is sharded in this state."""
    large = emptied(model, edited(anatomy.config, plan.config), plan.target, build)
    state, old = dict(large.state_dict(keep_vars=True)), model.state_dict()
    made = {stored.name: stored for stored in _made(anatomy, plan)}
    _complete(_lacking(state, made.keys()), made.keys() - state.keys())
    for name, stored in made.items():
        assert tuple(state[name].shape) == stored.header.shape, f"{name} is {list(state[name].shape)}"
        state[name].data = state[name].data.to(old[source_of(anatomy, plan, stored)].dtype)
    _carry_(model, large, anatomy, plan)
    return large


def emptied(model: nn.Module, config: Config, sizes: Sizes, build: Build | None = None) -> nn.Module:
    """What the model's class makes of a config, its parameters on the meta device."""
    if build is None:
        _check_made_of_config(own_class(model))
    with numberless(), quiet(), torch.random.fork_rng(devices=[]):
        return build(config, sizes) if build is not None else _empty(model, config)


def _check_made_of_config(kind: type[nn.Module]) -> None:
    """Refuse a class that can't be made of a config alone (`FamilyError`)."""
    others = list(inspect.signature(kind.__init__).parameters.values())[2:]  # behind self and config
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    lacking = next((p.name for p in others if p.kind in plain and p.default is p.empty), None)
    if lacking is not None:
        raise FamilyError(
            f"{kind.__name__} takes {lacking} beside its config, and the grown model is made of its config"
            f" alone: give {lacking} a default, or say how the class is made (isogrow.register(…, build=…))"
        )


def own_class(model: nn.Module) -> type[nn.Module]:
    """A model's class as it was written: `fully_shard` makes one of its own of it, an `FSDPModule` too."""
    kinds = type(model).__mro__
    return next(kind for kind in kinds if all(each.__name__ != "FSDPModule" for each in kind.__mro__))


def grow_average(
    average: Average, anatomy: Anatomy, plan: Plan, build: Build | None, stats: Stats
) -> Average:
    """A grown running average of a model: a model of its class, a torch `AveragedModel`, or a state dict.

    Free entries match what those of the grown model match (`stats`), so the two start from the same numbers;
    means are the average's own.
    """
    if isinstance(average, AveragedModel):
        own = grow_average(average.module, anatomy, plan, build, stats)
        return cast("Average", averaged_anew(average, own))
    if isinstance(average, nn.Module):
        check_average(average, anatomy)
        own = first_pass(average.state_dict(), anatomy, plan, Stats(stats.matched))
        return cast("Average", grow_module(average, anatomy, plan, build, own))
    given = cast("dict[str, Tensor]", average)
    check_average(given, anatomy)
    grown = grown_state(given, anatomy, plan, first_pass(given, anatomy, plan, Stats(stats.matched)))
    twins = [stored for stored in anatomy.stored if is_tied(anatomy, stored) and stored.name in given]
    for stored in (each for each in outputs(anatomy, plan) if each.name in grown):
        slots = {slot.name for slot in stored.line.slots}
        grown |= {twin.name: grown[stored.name] for twin in twins if twin.line.slot.tied in slots}
    return cast("Average", grown)


def check_average(average: nn.Module | Mapping[str, Tensor], anatomy: Anatomy) -> None:
    """Refuse an average that lacks tensors of this model, or has them of other sizes (`StateError`)."""
    given: Mapping[str, Tensor] = average.state_dict() if isinstance(average, nn.Module) else average
    for stored in anatomy.stored:
        found, name = given.get(stored.source), stored.source
        if found is None and not is_tied(anatomy, stored):
            raise StateError(
                f"the average lacks {name}: give one with the model's own names, or the module in a wrapper"
            )
        if found is not None and tuple(found.shape) != stored.header.shape:
            raise StateError(
                f"the average's {name} is {list(found.shape)}, and the model's {list(stored.header.shape)}:"
                " give the average of the model as it is"
            )


def averaged_anew(average: AveragedModel, grown: nn.Module) -> AveragedModel:
    """The same kind of average, as far on, around a grown model."""
    made: Any = copy.copy(average)
    made._modules = {"module": grown}
    made._buffers = {name: value.clone() for name, value in average.named_buffers(recurse=False)}
    return made


def first_pass(
    state: Mapping[str, Tensor], anatomy: Anatomy, plan: Plan, given: Stats | None = None
) -> Stats:
    """The statistics of a state dict that growing it takes; what is `given` is not made anew.

    Raises `CheckpointError` for a tensor on the meta device, and for tied tensors that differ.
    """
    empty = next((name for name, tensor in state.items() if tensor.is_meta), None)
    if empty is not None:
        raise CheckpointError(
            f"{empty} is on the meta device, where tensors have no numbers: load the weights, then grow"
        )
    store = StateDict(state)
    check_ties(anatomy, store)
    made = (block for stored in _made(anatomy, plan) for _, block in stored.blocks(plan.target))
    return statistics(plan, made, reader(anatomy, store), given)


def grown_state(
    state: Mapping[str, Tensor], anatomy: Anatomy, plan: Plan, stats: Stats | None = None
) -> dict[str, Tensor]:
    """The grown state dict, without tensors that are tied to another and without derived buffers.

    `stats` are what `first_pass` found; without them it is made here, and refuses what it refuses.
    """
    stats = stats or first_pass(state, anatomy, plan)
    read = reader(anatomy, StateDict(state))
    made: dict[str, Tensor] = {}
    for stored in _made(anatomy, plan):
        old = state[source_of(anatomy, plan, stored)]
        tensor = torch.empty(stored.header.shape, dtype=old.dtype)
        fill_region_(tensor, stored, whole(stored.header.shape), plan, read, stats)
        check_range(tensor, stored.name, lambda x=old: x)
        made[stored.name] = tensor.to(old.device)
    return made


def source_names(anatomy: Anatomy, plan: Plan) -> Iterator[tuple[str, str]]:
    """The grown model's tensors, each with the old one that it extends."""
    return ((stored.name, source_of(anatomy, plan, stored)) for stored in _made(anatomy, plan))


def _made(anatomy: Anatomy, plan: Plan) -> list[Stored]:
    """The grown model's tensors that have entries of their own."""
    return [stored for stored in outputs(anatomy, plan) if not is_tied(anatomy, stored)]


def _pretrained(model: nn.Module, config: Config, state: dict[str, Tensor]) -> nn.Module:
    """A Hugging Face model of the same class around these tensors (no copy, no random numbers)."""
    old: Any = model
    kind: Any = type(model)
    made = _config(model, config)
    with quiet(), as_given(), torch.random.fork_rng(devices=[]):
        large, info = kind.from_pretrained(
            None, config=made, state_dict=state, dtype=old.dtype, output_loading_info=True
        )
    missing = {name for name in info["missing_keys"] if not _removed_(old, large, name)}
    _complete(missing, set(info["unexpected_keys"]) | set(info["mismatched_keys"]))
    # Loading casts all parameters to one dtype, and leaves buffers in that of their class.
    for name, value in chain(large.named_parameters(), large.named_buffers()):
        if name in state and value.dtype != state[name].dtype:
            value.data = state[name]
    return _saved_alike(old, large)


def _empty(model: nn.Module, config: Config) -> nn.Module:
    """A Hugging Face model of the same class, as its class makes it."""
    old: Any = model
    kind: Any = own_class(model)
    large = kind._from_config(_config(model, config), dtype=old.dtype)
    names: list[str] = [name for name, _ in large.named_parameters()]
    for name in names:
        _removed_(old, large, name)
    return _saved_alike(old, large)


def _config(model: nn.Module, config: Config) -> Any:
    """The grown config as the model's own class has it."""
    old: Any = model
    made = type(old.config).from_dict(untagged(config))
    for own, given in _configs(made, old.config):
        own._attn_implementation = given._attn_implementation
        own._experts_implementation = given._experts_implementation
    return made


def _saved_alike(old: Any, large: Any) -> Any:
    """With what `save_pretrained` undoes: files of the grown model name experts as those of the old one."""
    large._weight_conversions = getattr(old, "_weight_conversions", None)
    if getattr(old, "generation_config", None) is not None:
        large.generation_config = copy.deepcopy(old.generation_config)
    return large


def _configs(made: Any, old: Any) -> Iterator[tuple[Any, Any]]:
    """A config and its parts' configs, each beside the old one; the whole first, since it sets those of its
    parts."""
    yield made, old
    for name in getattr(made, "sub_configs", {}):
        if getattr(made, name, None) is not None and getattr(old, name, None) is not None:
            yield from _configs(getattr(made, name), getattr(old, name))


def _removed_(old: Any, large: Any, name: str) -> bool:
    """Remove from `large` the part that holds a parameter, if `old` was built without it (a pooler, say)."""
    for part in name.split("."):
        if not hasattr(old, part) or not hasattr(large, part):
            return False
        if getattr(old, part) is None:
            setattr(large, part, None)
            return True
        old, large = getattr(old, part), getattr(large, part)
    return False


def _loaded(large: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """A model of one's own, its tensors copied in; tied ones follow through the sharing."""
    own = dict(large.state_dict(keep_vars=True))
    for name, tensor in state.items():
        if name in own:
            own[name].data = own[name].data.to(tensor.device, tensor.dtype)
    found = large.load_state_dict(state, strict=False)
    _complete(_lacking(own, state.keys()), set(found.unexpected_keys))
    return large


def _lacking(own: Mapping[str, Tensor], names: Collection[str]) -> set[str]:
    """The parameters, of all that a model has, that no name stands for; ties count as given."""
    given = {id(own[name]) for name in names if name in own}
    return {name for name, x in own.items() if isinstance(x, nn.Parameter) and id(x) not in given}


def _complete(missing: Collection[str], unexpected: Collection[str]) -> None:
    if missing or unexpected:
        raise CheckpointError(
            f"the grown model lacks {sorted(missing) or 'nothing'} and has no place for"
            f" {sorted(unexpected) or 'nothing'}: its layout and its class do not agree"
        )


def _carry_(model: nn.Module, large: nn.Module, anatomy: Anatomy, plan: Plan) -> None:
    """Frozen parameters stay frozen, and what extends them is frozen too."""
    old = dict(model.named_parameters(remove_duplicate=False))
    new = dict(large.named_parameters(remove_duplicate=False))
    for name, source in source_names(anatomy, plan):
        if source in old and name in new:
            new[name].requires_grad_(old[source].requires_grad)
