"""Growing an optimizer's state by the plan that grew the model, tensor by tensor (docs/laws.md).

Groups keep their order and their hyper-parameters. A new tensor joins the group of the one that it extends
and starts as in a new run (step 0, all zero but for what its group says); what is new inside an old tensor
follows the `Policy`.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from isogrow.errors import StateError
from isogrow.numbers.statistics import statistics
from isogrow.optim.moments import FACTORED, NUMBERS, STARTS, UNGROWN, Policy, carried
from isogrow.optim.pacing import COUNT, hand_on_, is_pace
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.parts import is_tied, made_of
from isogrow.plans.pieces import Block, OldBox, added, whole
from isogrow.plans.plan import Plan
from isogrow.stores.binding import fill_region_, outputs, reader, source_of
from isogrow.stores.store import StateDict

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)
State = dict[str, Any]
Order = tuple[Sequence[str], Sequence[str]]
Heirs = Mapping[str, Mapping[str, Stored]]
COLUMNS = frozenset(FACTORED.values())


class Make(Protocol):
    """How the state tensors of grown parameters come to be: here and now, or on many ranks together."""

    def grown(self, name: str, old: Tensor, stored: Stored, plan: Plan) -> Tensor:
        """What becomes of `old`, which is called `name`, by a plan of its power."""
        ...

    def full(self, old: Tensor, stored: Stored, value: float) -> Tensor:
        """A tensor of one value, of the dtype and the device of `old`."""
        ...


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
    `make` is how state tensors are made, if not whole in this process.
    Parameters that are none of `small`'s stay, with their state. Raises `StateError` for a state that no
    law says how to grow.
    """
    check_optimizer(optimizer, small, anatomy, plan, policy)
    old, new = (dict(model.named_parameters()) for model in (small, large))
    names: dict[Tensor, str] = {p: name for name, p in old.items()}
    family = _between(small, large, _heirs(anatomy, plan))
    groups: list[State] = []
    for group in optimizer.param_groups:
        members = {names.get(p, f"{id(p)}"): p for p in group["params"]}
        arranged = _arranged(tuple(members), family, (tuple(old), tuple(new)))
        groups.append(_grown_group(group, [new.get(n, members.get(n)) for n in arranged], arranged))
    law = _Law(anatomy, plan, policy, make)
    state: defaultdict[Tensor, State] = defaultdict(dict)
    own: dict[Tensor, State] = {p: group for group in optimizer.param_groups for p in group["params"]}
    for p, group in own.items():
        found: State = optimizer.state.get(p, {})
        heirs = family.get(names.get(p, ""), {})
        if not heirs and found:
            state[p] = found
        for heir, stored in heirs.items() if found else ():
            state[new[heir]] = law.grown(found, names[p], stored, group)
        if release:
            optimizer.state.pop(p, None)
    made = _like(optimizer, groups, state)
    if not plan.steps:
        hand_on_(optimizer, made, {p: new[name] for p, name in names.items()})
    return made


def check_optimizer(
    optimizer: Optimizer, small: nn.Module, anatomy: Anatomy, plan: Plan, policy: Policy
) -> None:
    """Refuse an optimizer of another model, or a state that no law says how to grow (`StateError`)."""
    names: dict[Tensor, str] = {p: name for name, p in small.named_parameters()}
    if not any(p in names for group in optimizer.param_groups for p in group["params"]):
        raise StateError("the optimizer holds no parameter of this model: give the one that trains it")
    law = _Law(anatomy, plan, policy)
    for p, found in optimizer.state.items():
        if p in names:
            law.check(found, names[p])


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
    heirs, law = _heirs(anatomy, plan), _Law(anatomy, plan, policy or Policy(), make)
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
    return {**state, "state": dict(sorted(entries.items())), "param_groups": made}


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
    law, own = _Law(anatomy, plan, policy or Policy()), _heirs(anatomy, plan).keys()
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


@dataclass(frozen=True)
class Whole:
    """State tensors that are whole in this process."""

    anatomy: Anatomy

    def grown(self, name: str, old: Tensor, stored: Stored, plan: Plan) -> Tensor:
        made = torch.empty(stored.header.shape, dtype=old.dtype)
        own = old.detach().cpu().contiguous()
        source = source_of(self.anatomy, plan, stored)  # a grown tensor reads no other
        read = reader(self.anatomy, StateDict({source: own}))
        stats = statistics(plan, (block for _, block in stored.blocks(plan.target)), read)
        fill_region_(made, stored, whole(stored.header.shape), plan, read, stats)
        return made.to(old.device)

    def full(self, old: Tensor, stored: Stored, value: float) -> Tensor:
        return old.new_full(stored.header.shape, value)


class _Law:
    """One growth of state tensors: the plan under each power of the gradient, made once."""

    def __init__(self, anatomy: Anatomy, plan: Plan, policy: Policy, make: Make | None = None) -> None:
        self.anatomy, self.plan, self.policy = anatomy, plan, policy
        self.make: Make = make or Whole(anatomy)
        self.plans: dict[int, Plan] = {}
        self.shapes = {stored.source: stored.header.shape for stored in anatomy.stored}

    def check(self, state: Mapping[str, Any], source: str) -> None:
        """Refuse a state that can't be grown, before any is."""
        self._check_known(state)
        whole_shape = self.shapes[source]
        for name, value in state.items():
            if name in FACTORED:
                self._check_shape(name, value, whole_shape[:-1], source)
                if FACTORED[name] not in state:
                    raise StateError(f"{source} has {name} without {FACTORED[name]}: give a state with both")
            elif name in COLUMNS:
                self._check_shape(name, value, (*whole_shape[:-2], *whole_shape[-1:]), source)
            elif self.policy.power(name, state) is not None:
                self._check_shape(name, value, whole_shape, source)
            elif name not in NUMBERS and self.policy.unknown == "refuse":
                raise StateError(_unknown(name, value, source, whole_shape))

    def _check_known(self, state: Mapping[str, Any]) -> None:
        """Refuse what would not work without what no law grows, and a power of what is one number."""
        for kind, needed in UNGROWN.items():
            if needed <= state.keys() and not needed <= self.policy.powers.keys():
                raise StateError(
                    f"{kind} keeps {', '.join(sorted(needed))}, which no law grows and it can't do without:"
                    f" grow the model alone, without its optimizer, and make a new {kind} for it"
                )
        for name in self.policy.powers:
            if name in state and _is_one_number(state[name]):
                raise StateError(
                    f"powers names {name!r}, and the optimizer keeps one number under it, not a power of the"
                    " gradient: leave it out of powers"
                )

    def _check_shape(self, name: str, value: Any, wanted: tuple[int, ...], source: str) -> None:
        """Whether a tensor has this shape (but for dims of 1 that means keep)."""
        found = tuple(value.shape) if isinstance(value, Tensor) else ()
        if [n for n in found if n != 1] != [n for n in wanted if n != 1]:
            raise StateError(
                f"{name} of {source} is {list(found) or value}, and the parameter's shape is"
                f" {list(self.shapes[source])}: the state belongs to another model"
            )

    def grown(self, state: Mapping[str, Any], source: str, stored: Stored, group: Mapping[str, Any]) -> State:
        """The state of a grown tensor of a group, from that of the tensor `source` that it is, or extends."""
        made: State = {}
        new = self.policy.moments == "fresh" or added(self.plan, _first(stored))
        shape = stored.header.shape
        for name, value in state.items():
            if name in NUMBERS:
                made[name] = _number(value, NUMBERS[name] if new else None)
            elif name in FACTORED and new:
                row, column = value, state[FACTORED[name]]
                made[name], made[FACTORED[name]] = _means(row.new_zeros(()).expand(shape), row, column)
            elif name in FACTORED:
                made[name], made[FACTORED[name]] = self._factored(name, state, source, stored)
            elif name not in COLUMNS:
                power = self.policy.power(name, state)
                if power is not None and new:
                    made[name] = self.make.full(value, stored, group.get(STARTS.get(name, ""), 0.0))
                elif power is not None:
                    made[name] = self.make.grown(name, value, stored, self._plan(power))
        return made

    def _plan(self, power: int) -> Plan:
        if power not in self.plans:
            seeded = self.policy.moments == "seeded" and power == 2
            self.plans[power] = carried(self.anatomy, self.plan, power, seeded)
        return self.plans[power]

    def _factored(
        self, name: str, state: Mapping[str, Any], source: str, stored: Stored
    ) -> tuple[Tensor, Tensor]:
        """Row and column means of the grown product: v = row column / mean(row), as Adafactor has it."""
        row, column = state[name], state[FACTORED[name]]
        if self.shapes[source] == stored.header.shape and self._untouched(stored):
            return row.clone(), column.clone()
        v = _product(row, column, self.shapes[source])
        return _means(self.make.grown(name, v, stored, self._plan(2)), row, column)

    def _untouched(self, stored: Stored) -> bool:
        """Whether the plan leaves the entries of a tensor that did not grow as they are."""
        plan = self._plan(2)
        return all(isinstance(piece.value, OldBox) and piece.a == 1.0 for _, piece in made_of(stored, plan))


def _unknown(name: str, value: Any, source: str, shape: tuple[int, ...]) -> str:
    """What is said of a name that is not in the table: a power is a mend only for what has the shape."""
    fits = isinstance(value, Tensor) and tuple(value.shape) == shape and bool(shape)
    power = f"name the power of the gradient that it holds (powers={{{name!r}: 1}}), " if fits else ""
    return (
        f"the optimizer keeps {name!r} for {source}, and no law says how that grows: {power}drop it if the"
        " optimizer does without (unknown='drop'), or grow the model alone and make a new optimizer for it"
    )


def _is_one_number(value: Any) -> bool:
    return not isinstance(value, Tensor) or not value.dim()


def _first(stored: Stored) -> Block:
    return Block(stored.line.slot.name, stored.index, ())


def _number(value: Any, start: float | None) -> Any:
    """A number for the whole tensor: kept, or as it starts."""
    if isinstance(value, Tensor):
        return value.clone() if start is None else torch.full_like(value, start)
    return value if start is None else type(value)(start)


def _product(row: Tensor, column: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The second moment that row and column means stand for: the outer product over the rows' mean."""
    rows = row.reshape(*shape[:-1], 1).to(torch.promote_types(row.dtype, torch.float32))
    columns = column.reshape(*shape[:-2], 1, shape[-1])
    mean = rows.mean(-2, keepdim=True)
    return (rows / torch.where(mean == 0, torch.ones_like(mean), mean)) * columns


def _means(v: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column means of a second moment, with dims and dtypes as these have them."""
    kept = row.dim() == v.dim()
    return v.mean(-1, keepdim=kept).to(row.dtype), v.mean(-2, keepdim=kept).to(column.dtype)


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
