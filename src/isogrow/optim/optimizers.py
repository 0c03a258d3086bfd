"""What trains a model, as a growth is given it: one optimizer or several, and their schedulers.

A growth takes an old optimizer's state as it goes, so whatever can be refused is refused before it starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from isogrow.errors import StateError
from isogrow.optim.measured import measured
from isogrow.optim.moments import Policy
from isogrow.optim.pacing import check_pace
from isogrow.optim.scheduler import rebind, scheduled
from isogrow.optim.state import check_optimizer
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import Plan

OWN = frozenset({"param_groups", "state"})


def optimizers_of(given: Any) -> tuple[Optimizer, ...]:
    """The optimizers that are given: none, one, or a list or tuple of them."""
    found = _several(given)
    for each in found:
        if not isinstance(each, Optimizer):
            raise StateError(
                f"optimizer= was given {type(each).__name__}: give an optimizer, or a list of all that train"
                " the model"
            )
    if len({id(each) for each in found}) < len(found):
        raise StateError("an optimizer is given twice: give each once")
    if given is not None and not found:
        raise StateError("optimizer= is an empty list: give those that train the model, or leave it out")
    return found


def handed_back(
    optimizer: Any, scheduler: Any, old: Sequence[Optimizer], grown: Sequence[Optimizer]
) -> tuple[Any, Any]:
    """Grown optimizers, and the schedulers bound to them: one for one, a tuple for a tuple, else a list; None
    for what was not given."""
    owned = [(each, scheduled(each, old)) for each in _several(scheduler)]
    moved = [rebind(each, old[at], grown[at]) for each, at in owned]
    return _as(optimizer, grown), _as(scheduler, moved)


def inside(optimizer: Optimizer) -> Optimizer:
    """The optimizer that holds the groups and the state: this one, or what it wraps and shows as its own.

    Raises `StateError` where two could: one that holds another beside groups or a state of its own.
    """
    own = vars(optimizer).keys() >= OWN
    held = [value for value in vars(optimizer).values() if isinstance(value, Optimizer)]
    if own and not held:
        return optimizer
    if len(held) == 1 and all(getattr(held[0], name) is getattr(optimizer, name) for name in OWN) and not own:
        return inside(held[0])
    kind = type(optimizer).__name__
    raise StateError(
        f"{kind} is made around another optimizer, and which of the two is to grow can't be seen: grow the"
        f" model alone, without optimizer=, and make a new {kind} for it"
    )


def check_anew(optimizers: Sequence[Optimizer], scheduler: Any) -> None:
    """Refuse what can't be made anew: wrappers (who made one knows how), schedulers of other optimizers."""
    for each in optimizers:
        if inside(each) is not each:
            raise StateError(
                f"{type(each).__name__} wraps another optimizer: grow the one inside, and wrap it again, or"
                " grow in place by isogrow.grow_"
            )
    for each in _several(scheduler):
        scheduled(each, optimizers)


def check_trained(
    optimizers: Sequence[Optimizer], model: nn.Module, anatomy: Anatomy, plan: Plan, policy: Policy
) -> None:
    """Refuse, before anything grows, optimizers that can't or that leave a part of the model to nobody.

    Parameters that want gradients and are in none of `optimizers` would be replaced behind the back of
    whatever trains them, and stop learning without a word.
    """
    for each in optimizers:
        check_pace(each, policy)
        _check_attributes(each, model)
        _check_points(each, policy)
        check_optimizer(each, model, anatomy, plan, policy)
    held = {p for each in optimizers for group in each.param_groups for p in group["params"]}
    lost = [name for name, p in model.named_parameters() if p.requires_grad and p not in held]
    if optimizers and lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise StateError(
            f"no optimizer that was given holds {lost[0]}{more}, and nothing would train what it grows to:"
            " give all optimizers in a list (optimizer=[…]), or set requires_grad to False for what is frozen"
        )


def _several(given: Any) -> tuple[Any, ...]:
    if given is None:
        return ()
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _as(given: Any, made: Sequence[Any]) -> Any:
    if given is None:
        return None
    if not isinstance(given, list | tuple):
        return made[0]
    return tuple(made) if isinstance(given, tuple) else list(made)


def _check_points(optimizer: Optimizer, policy: Policy) -> None:
    """Refuse to pace parameters alone where an optimizer moves other points beside them."""
    points = measured(optimizer).points if policy.paced else ()
    if points:
        raise StateError(
            f"{type(optimizer).__name__} keeps {', '.join(sorted(points))}, which moves with the parameters,"
            " and ramp, old_rate, new_rate and follow would pace these alone: leave them out of policy"
        )


def _check_attributes(optimizer: Optimizer, model: nn.Module) -> None:
    """Refuse an optimizer that keeps parameters beside its groups (LBFGS), or a model of them: there they
    would not grow."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    for attribute, value in vars(optimizer).items():
        found = [x for x in _tensors(value, set()) if x in names] if attribute not in OWN else []
        if found:
            kind = type(optimizer).__name__
            raise StateError(
                f"{kind} keeps {names[found[0]]} in {attribute!r} beside its groups, where it would stay the"
                f" old one: grow the model alone, without optimizer=, and make a new {kind} for it"
            )


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """The tensors in a value: itself, or in what it holds, to any depth."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif isinstance(value, Mapping | list | tuple | set | frozenset) and id(value) not in seen:
        seen.add(id(value))
        each: Any = (*value.keys(), *value.values()) if isinstance(value, Mapping) else value
        for x in each:
            yield from _tensors(x, seen)
