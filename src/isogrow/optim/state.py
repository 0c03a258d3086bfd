"""Growing an optimizer's state by the plan that grew the model, tensor by tensor (docs/laws.md).

Groups keep their order and their hyper-parameters, and a new tensor joins the group of the one that it
extends; what becomes of each tensor's state says `law`.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from isogrow.errors import StateError
from isogrow.optim.law import Law, Make, State
from isogrow.optim.measured import Measured, measured
from isogrow.optim.moments import Policy
from isogrow.optim.pacing import COUNT, hand_on_, is_pace
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.parts import is_tied
from isogrow.plans.plan import Plan
from isogrow.stores.binding import outputs, source_of

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)
Order = tuple[Sequence[str], Sequence[str]]
Heirs = Mapping[str, Mapping[str, Stored]]


def grow_optimizer(
    optimizer: AnyOptimizer,
    small: nn.Module,
    large: nn.Module,
    anatomy: Anatomy,
    plan: Plan,
    policy: Policy,
    release: bool = False,
    make: Make | None = None,
) -> AnyOptimizer:
    """An optimizer of the same class for `large`, which `plan` made of `small`.

    `optimizer` is left as it is; with `release` it loses the state of each tensor as soon as that is grown.
    `make` is how state tensors are made, if not whole in this process; who gives it calls `settle_` once they
    are filled. Parameters that are none of `small`'s stay, with their state. Raises `StateError` for a state
    that no law says how to grow.
    """
    check_optimizer(optimizer, small, anatomy, plan, policy)
    old, new = (dict(model.named_parameters()) for model in (small, large))
    names: dict[Tensor, str] = {p: name for name, p in old.items()}
    family = _between(small, large, _heirs(anatomy, plan))
    groups: list[State] = []
    for group in optimizer.param_groups:
        members = {names.get(p, f"{id(p)}"): p for p in group["params"]}
        arranged = _arranged(tuple(members), family, (tuple(old), tuple(new)))
        params = [new.get(n, members.get(n)) for n in arranged]
        groups.append(_grown_group(group, params, _labels(group, tuple(members), arranged, family)))
    law = Law(anatomy, plan, policy, make, measured(optimizer))
    state: defaultdict[Any, Any] = defaultdict(dict, _beside(optimizer.state, Tensor))
    own: dict[Tensor, State] = {p: group for group in optimizer.param_groups for p in group["params"]}
    for p, group in own.items():
        found: State = optimizer.state.get(p, {})
        heirs = family.get(names.get(p, ""), {})
        if not heirs and found:
            state[p] = found
        for heir, stored in heirs.items() if found else ():
            state[new[heir]] = law.grown(found, names[p], stored, group, p.detach())
        if release:
            optimizer.state.pop(p, None)
    made = _like(optimizer, groups, state)
    if make is None:
        settle_(made, large, law.kept, policy)
    if not plan.steps:
        hand_on_(optimizer, made, {p: new[name] for p, name in names.items()})
    return made


def settle_(optimizer: Optimizer, large: nn.Module, kept: Measured, policy: Policy) -> None:
    """Make points of what `grow_optimizer` has for them: what they are from the grown parameters."""
    points = kept.points - policy.powers.keys()
    for p in large.parameters() if points else ():
        for name in points & optimizer.state.get(p, {}).keys():
            optimizer.state[p][name] += p.detach()


def check_optimizer(
    optimizer: Optimizer, small: nn.Module, anatomy: Anatomy, plan: Plan, policy: Policy
) -> None:
    """Refuse an optimizer of another model, or a state that no law says how to grow (`StateError`)."""
    check_holds(optimizer, small)
    names: dict[Tensor, str] = {p: name for name, p in small.named_parameters()}
    law = Law(anatomy, plan, policy, kept=measured(optimizer))
    for p, found in optimizer.state.items():
        if p in names:
            law.check(found, names[p])
    _check_beside(_beside(optimizer.state, Tensor))
    for i, group in enumerate(optimizer.param_groups):
        _check_copied(type(optimizer).__name__, i, group)


def check_holds(optimizer: Optimizer, model: nn.Module) -> None:
    """Refuse an optimizer that trains nothing of the model (`StateError`)."""
    own = set(model.parameters())
    if not any(p in own for group in optimizer.param_groups for p in group["params"]):
        raise StateError("the optimizer holds no parameter of this model: give the one that trains it")


def grow_optimizer_state(
    state: Mapping[str, Any],
    groups: Sequence[Sequence[str]],
    anatomy: Anatomy,
    plan: Plan,
    policy: Policy | None = None,
    order: Order = ((), ()),
    make: Make | None = None,
) -> dict[str, Any]:
    """The same for what `optimizer.state_dict()` gives, where parameters are numbers.

    `groups` are the parameters' names, group by group, in the order in which the optimizer was given them;
    `order` are all names of the small and of the grown model in the models' own order. A group that follows
    the first follows the second afterwards; in any other, a new parameter stands behind its origin. `make` is
    how state tensors are made, if not whole in this process.
    """
    check_optimizer_state(state, groups, anatomy, plan, policy)
    heirs, law = _heirs(anatomy, plan), Law(anatomy, plan, policy or Policy(), make)
    entries: dict[int, State] = {}
    made: list[State] = []
    count = 0
    for group, names in zip(state["param_groups"], groups, strict=True):
        arranged = _arranged(names, heirs, order)
        number = {name: count + i for i, name in enumerate(arranged)}
        count += len(arranged)
        for name, at in zip(names, group["params"], strict=True):
            for heir, stored in heirs[name].items() if state["state"].get(at) else ():
                entries[number[heir]] = law.grown(state["state"][at], name, stored, group)
        made.append(_grown_group(group, list(number.values()), arranged))
    own = {**dict(sorted(entries.items())), **_beside(state["state"], int)}
    return {**state, "state": own, "param_groups": made}


def check_optimizer_state(
    state: Mapping[str, Any],
    groups: Sequence[Sequence[str]],
    anatomy: Anatomy,
    plan: Plan,
    policy: Policy | None = None,
) -> None:
    """Refuse a state dict that is not of these parameters, or that no law says how to grow (`StateError`)."""
    given: list[State] = state["param_groups"]
    counts = [len(group["params"]) for group in given]
    if counts != [len(group) for group in groups]:
        raise StateError(
            f"the state has groups of {counts} parameters, and the names make groups of"
            f" {[len(group) for group in groups]}: name the parameters as the optimizer was given them"
            " (groups=)"
        )
    _check_beside(_beside(state["state"], int))
    law, own = Law(anatomy, plan, policy or Policy()), _heirs(anatomy, plan).keys()
    for group, names in zip(given, groups, strict=True):
        strange = sorted(set(names) - own)
        if strange:
            raise StateError(f"{strange[0]} is no parameter of this model: give the names of its own")
        for name, at, said in zip(names, group["params"], group.get("param_names", names), strict=True):
            if said != name:
                raise StateError(
                    f"the state has {said} where {name} was expected: give the names in its order"
                )
            law.check(state["state"].get(at, {}), name)


def _heirs(anatomy: Anatomy, plan: Plan) -> dict[str, dict[str, Stored]]:
    """Old tensor -> the grown ones that are it, or extend it, by name."""
    found: dict[str, dict[str, Stored]] = defaultdict(dict)
    for stored in outputs(anatomy, plan):
        if not is_tied(anatomy, stored):
            found[source_of(anatomy, plan, stored)][stored.name] = stored
    return found


def _between(small: nn.Module, large: nn.Module, heirs: Heirs) -> dict[str, dict[str, Stored]]:
    """The same, each parameter under its first name, where it has several."""
    first: list[dict[str, str]] = []
    for model in (small, large):
        names = {p: name for name, p in model.named_parameters()}
        all_names = model.named_parameters(remove_duplicate=False)
        first.append({name: names[p] for name, p in all_names})
    found: dict[str, dict[str, Stored]] = defaultdict(dict)
    for source, made in heirs.items():
        for name, stored in made.items():
            if source in first[0] and name in first[1]:
                found[first[0][source]].setdefault(first[1][name], stored)
    return found


def _arranged(group: Sequence[str], heirs: Heirs, order: Order) -> list[str]:
    """A group's parameters after the growth; those that are not of the model stay where they are.

    Where they stood in the model's order they do so again, as an optimizer that is made anew from the grown
    model's parameters will have them, and its state dict; otherwise new ones stand behind their origin.
    """
    before, after = ({name: i for i, name in enumerate(names)} for names in order)
    found: list[str] = []
    for own, run in groupby(group, key=lambda name: name in heirs):
        names = list(run)
        ranks = [before.get(name, -1) for name in names]
        made = [heir for name in names for heir in heirs[name]] if own else names
        found += (
            sorted(made, key=after.__getitem__)
            if own and -1 not in ranks and ranks == sorted(set(ranks))
            else made
        )
    return found


def _labels(
    group: Mapping[str, Any], names: Sequence[str], arranged: Sequence[str], heirs: Heirs
) -> list[str]:
    """What the optimizer calls its parameters after the growth: where the model is a part of another, its
    names have that part's before them, and those of others stay."""
    said: Sequence[str] = group.get("param_names", names)
    known = dict(zip(names, said, strict=True))
    before = {label.removesuffix(name) for name, label in known.items() if name in heirs}
    prefix = before.pop() if len(before) == 1 else ""
    return [known[name] if name in known and name not in heirs else f"{prefix}{name}" for name in arranged]


def _beside(state: Mapping[Any, Any], parameters: type) -> dict[Any, Any]:
    """What an optimizer keeps for all parameters: under keys that are none of them."""
    return {key: value for key, value in state.items() if not isinstance(key, parameters)}


def _check_beside(beside: Mapping[Any, Any]) -> None:
    """Refuse tensors that are kept for all parameters: what they are of can't be known (`StateError`)."""
    for key, value in beside.items():
        each: Any = value.values() if isinstance(value, Mapping) else (value,)
        if any(isinstance(x, Tensor) and x.dim() for x in each):
            raise StateError(
                f"the optimizer keeps a tensor under {key!r:.60}, which is no parameter, so no law says how"
                " that grows: grow the model alone, without optimizer=, and make a new optimizer for it"
            )


def _check_copied(kind: str, number: int, group: Mapping[str, Any]) -> None:
    """Refuse, before any state is taken, a group that the grown optimizer can't have a copy of."""
    for key in group.keys() - {"params"}:
        try:
            copy.deepcopy(group[key])
        except Exception as error:
            raise StateError(
                f"group {number} of {kind} holds {key}={group[key]!r:.60}, which can't be copied ({error}):"
                " take it out of the group, grow, and put it back"
            ) from error


def _grown_group(group: Mapping[str, Any], params: list[Any], names: list[str]) -> State:
    """A group with the same hyper-parameters; torch keeps the names of named parameters."""
    made = {key: copy.deepcopy(value) for key, value in group.items() if key not in ("params", COUNT)}
    return {**made, "params": params, **({"param_names": names} if "param_names" in group else {})}


def _like(optimizer: AnyOptimizer, groups: list[State], state: Mapping[Tensor, State]) -> AnyOptimizer:
    """An optimizer of the same class and attributes; its constructor might not take them all."""
    made = object.__new__(type(optimizer))
    for name, value in vars(optimizer).items():
        if isinstance(value, OrderedDict):  # hooks
            value = OrderedDict((key, hook) for key, hook in value.items() if not is_pace(hook))
        if name != "step":  # a scheduler's wrapper around the old optimizer's
            made.__dict__[name] = dict(value) if type(value) is dict else value
    made.__dict__.update(param_groups=groups, state=state)  # never through a wrapper's property
    assert made.param_groups is groups and made.state is state, f"{type(optimizer).__name__} is a wrapper"
    return made
