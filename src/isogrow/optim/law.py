"""What a parameter's state grows to: each state tensor by the plan of its power, each number as it is.

A new tensor starts as in a new run (step 0, all zero but for what its group says); what is new inside an old
one follows the `Policy`. Powers are told by the caller, measured (`measured`), or known by their names
(`moments`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from isogrow.errors import StateError
from isogrow.numbers.statistics import statistics
from isogrow.optim.coded import decoded, encoded, is_coded
from isogrow.optim.measured import Measured
from isogrow.optim.moments import (
    COLUMNS,
    FACTORED,
    NUMBERS,
    POINTS,
    POWERS,
    STARTS,
    UNGROWN,
    Policy,
    carried,
    displaced,
)
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.parts import made_of
from isogrow.plans.pieces import Block, OldBox, added, whole
from isogrow.plans.plan import Plan
from isogrow.stores.binding import fill_region_, reader, source_of
from isogrow.stores.store import StateDict

State = dict[str, Any]


class Make(Protocol):
    """How the state tensors of grown parameters come to be: here and now, or on many ranks together."""

    def grown(self, name: str, old: Tensor, stored: Stored, plan: Plan) -> Tensor:
        """What becomes of `old`, which is called `name`, by a plan of its power."""
        ...

    def full(self, old: Tensor, stored: Stored, value: float) -> Tensor:
        """A tensor of one value, of the dtype and the device of `old`."""
        ...


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


class Law:
    """One growth of state tensors: the plan under each power of the gradient, made once."""

    def __init__(
        self,
        anatomy: Anatomy,
        plan: Plan,
        policy: Policy,
        make: Make | None = None,
        kept: Measured | None = None,
    ) -> None:
        self.anatomy, self.plan, self.policy = anatomy, plan, policy
        self.make: Make = make or Whole(anatomy)
        self.kept = kept or Measured()
        self.plans: dict[int, Plan] = {}
        self.between = displaced(plan)
        self.shapes = {stored.source: stored.header.shape for stored in anatomy.stored}

    def check(self, state: Mapping[str, Any], source: str) -> None:
        """Refuse a state that can't be grown, before any is."""
        state = decoded(state)
        self._check_known(state)
        whole_shape = self.shapes[source]
        for name, value in state.items():
            if name in FACTORED:
                self._check_shape(name, value, whole_shape[:-1], source)
                if FACTORED[name] not in state:
                    raise StateError(f"{source} has {name} without {FACTORED[name]}: give a state with both")
            elif name in COLUMNS:
                self._check_shape(name, value, (*whole_shape[:-2], *whole_shape[-1:]), source)
            elif self._is_point(name) or self._power(name, state) is not None:
                self._check_shape(name, value, whole_shape, source)
            elif not self._is_number(name, value) and self.policy.unknown == "refuse":
                raise StateError(_unknown(name, value, source, whole_shape, self.kept.fault))

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

    def _power(self, name: str, state: Mapping[str, Any]) -> int | None:
        """As a caller says, as it was measured, or by its name."""
        if name in self.policy.powers or not (name in self.kept.powers or name in self.kept.others):
            return self.policy.power(name, state)
        return self.kept.powers.get(name)

    def _is_point(self, name: str) -> bool:
        return name in self.kept.points and name not in self.policy.powers

    def _is_number(self, name: str, value: Any) -> bool:
        return name in NUMBERS or (name in self.kept.numbers and _is_one_number(value))

    def grown(
        self,
        state: Mapping[str, Any],
        source: str,
        stored: Stored,
        group: Mapping[str, Any],
        theta: Tensor | None = None,
    ) -> State:
        """The state of a grown tensor of a group, from that of the tensor `source` that it is, or extends.

        `theta` is that tensor. Points are what they are from it, to which `settle_` adds what it grew to.
        """
        if is_coded(state):
            return encoded(self.grown(decoded(state), source, stored, group, theta), state)
        made: State = {}
        absent = added(self.plan, _first(stored))  # a tensor that was not there before
        new = absent or self.policy.moments == "fresh"
        shape = stored.header.shape
        for name, value in state.items():
            if self._is_number(name, value):
                made[name] = _number(value, NUMBERS.get(name) if new else None)
            elif self._is_point(name):
                assert theta is not None
                away = (value - theta).to(value.dtype)
                if absent:
                    made[name] = self.make.full(away, stored, 0.0)
                else:  # a place, not a moment, so whatever becomes of moments
                    made[name] = self.make.grown(name, away, stored, self.between)
            elif name in FACTORED and new:
                row, column = value, state[FACTORED[name]]
                made[name], made[FACTORED[name]] = _means(row.new_zeros(()).expand(shape), row, column)
            elif name in FACTORED:
                made[name], made[FACTORED[name]] = self._factored(name, state, source, stored)
            elif name not in COLUMNS:
                power = self._power(name, state)
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


def _unknown(name: str, value: Any, source: str, shape: tuple[int, ...], fault: str) -> str:
    """What is said of a name that is not in the table: a power is a mend only for what has the shape."""
    if name in POINTS:
        return (
            f"the optimizer keeps {name!r} for {source}, a point beside the parameter, whose law is found"
            " where the optimizer itself is given and can step: grow in memory (isogrow.grow_training),"
            " or the model alone, and make a new optimizer for it"
        )
    fits = isinstance(value, Tensor) and tuple(value.shape) == shape and bool(shape)
    power = (
        "name the power of the gradient that it holds"
        f" (in Python: policy=isogrow.Policy(powers={{{name!r}: {POWERS.get(name, 1)}}})), "
        if fits
        else ""
    )
    tried = (
        f" (a step of such an optimizer on a few numbers, to measure it, raised {fault:.160})"
        if fault
        else ""
    )
    return (
        f"the optimizer keeps {name!r} for {source}, and no law says how that grows{tried}: {power}drop it if"
        " the optimizer does without (in Python: policy=isogrow.Policy(unknown='drop')), or grow the model"
        " alone and make a new optimizer for it"
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
