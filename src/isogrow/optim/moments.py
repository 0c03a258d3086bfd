"""What becomes of an optimizer's state when its model grows: the same plan with another law for a.

Where θ' = a θ + b keeps the function, L'(θ') = L(θ), so g' = g / a. A state tensor of the k-th power of the
gradient (k = 1: momentum, k = 2: Adam's second moment) is therefore carried as

    s' = s / a^k                                       (chain rule; entry by entry)

and b has no part in it. New entries have no past: what they get is a policy. Mean-filled and copied entries
change the gradients of old ones too; there the same s' is the best estimate, and no law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

from isogrow.errors import StateError
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import OLD, Constant, Entry, Mean, Old, Plan, Step, rewritten

# State tensors of a parameter's shape, by name: the power of the gradient that they hold.
POWERS: Mapping[str, int] = {
    "exp_avg": 1,  # Adam, AdamW, NAdam, RAdam, Adamax, Lion
    "exp_avg_sq": 2,
    "max_exp_avg_sq": 2,  # amsgrad
    "exp_inf": 1,  # Adamax
    "momentum_buffer": 1,  # SGD, Muon
    "square_avg": 2,  # RMSprop, Adadelta
    "grad_avg": 1,  # centered RMSprop
    "acc_delta": -2,  # Adadelta: squares of updates, which scale as θ does
    "sum": 2,  # Adagrad
    "variance": 2,  # Adafactor's vectors
}
# The same names beside another one: there they hold g / √v, which no scale changes.
BESIDE: Mapping[tuple[str, str], int] = {
    ("momentum_buffer", "square_avg"): 0,  # RMSprop
    ("exp_avg", "RMS"): 0,  # transformers' Adafactor
    ("state1", "state2"): 1,  # Adam of bitsandbytes; its other optimizers keep state1 alone
    ("state2", "state1"): 2,
}
# Row and column means of a second moment: the last dim's mean, and the one's before it.
FACTORED: Mapping[str, str] = {
    "row_var": "col_var",  # torch.optim.Adafactor
    "exp_avg_sq_row": "exp_avg_sq_col",  # transformers' Adafactor
}
COLUMNS = frozenset(FACTORED.values())
# Where a state tensor of a new parameter starts, if not at 0: at what a group of the optimizer says.
STARTS: Mapping[str, str] = {"sum": "initial_accumulator_value"}  # Adagrad
# What an optimizer can't do without and no power of the gradient describes: sizes of steps, averages of θ,
# a history of the whole model. Its name is known by what it keeps, so in a file too.
UNGROWN: Mapping[str, frozenset[str]] = {
    "ASGD": frozenset({"eta", "mu", "ax"}),
    "Rprop": frozenset({"prev", "step_size"}),
    "LBFGS": frozenset({"func_evals", "n_iter"}),
}
# Names that are known to be points of θ, so that nobody takes them for powers: a file does not tell which.
POINTS = frozenset(
    {"z", "x0", "p0", "slow_buffer", "la_param"}
)  # schedule-free, D-Adaptation, Prodigy, Lookahead
# What is one number for a whole tensor, and where it starts.
NUMBERS: Mapping[str, float] = {"step": 0.0, "mu_product": 1.0, "RMS": 0.0}


@dataclass(frozen=True)
class Policy:
    """What an optimizer holds for new entries, and how fast they start.

    `moments`: "seeded", second moments of new entries start at the mean of the old ones along the axis that
    grew (first moments at 0); "zero", all of new entries' start at 0; "fresh", all state is dropped, that of
    old entries too. benchmarks/policies.md has what each costs.
    `ramp`: over so many steps after the growth new entries' updates (weight decay is part of them) are
    multiplied by a factor that goes from `ramp_from` to 1: f + (1 - f) min(1, t / ramp) in the t-th step.
    From 0 they start gently, and `math.inf` freezes them; from more than 1 they catch up.
    `follow`: old entries step in the small model's coordinates, as in a run that had not grown.
    `new_rate`, `old_rate`: for `rates_for` steps after the growth (until the next one, if it is not said)
    updates of new and of old entries, weight decay included, are multiplied by these: a rate of their own.
    With `old_rate=0` only new entries are trained, and old ones keep their bits.
    `unknown`: a state tensor that no name in the table fits is refused, or dropped.
    `powers` adds names to the table: an optimizer of one's own.
    """

    moments: Literal["zero", "seeded", "fresh"] = "seeded"
    ramp: float = 0.0
    ramp_from: float = 0.0
    follow: bool = False
    new_rate: float = 1.0
    old_rate: float = 1.0
    rates_for: float = math.inf
    unknown: Literal["refuse", "drop"] = "refuse"
    powers: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self._check_kinds()
        for name, given, known in (
            ("moments", self.moments, ("zero", "seeded", "fresh")),
            ("unknown", self.unknown, ("refuse", "drop")),
        ):
            if given not in known:
                raise StateError(f"{name}={given!r} is not known: give {' or '.join(known)}")
        if not (_is_number(self.ramp) and self.ramp >= 0):
            raise StateError(f"ramp={self.ramp!r} is no number of steps: give 0 or more")
        if not (_is_number(self.ramp_from) and 0 <= self.ramp_from < math.inf):
            raise StateError(f"ramp_from={self.ramp_from!r} is no factor: give 0 or more")
        if self.ramp_from and not 0 < self.ramp < math.inf:
            raise StateError(f"ramp_from={self.ramp_from!r} needs a ramp: give the steps that it lasts")
        self._check_rates()

    def _check_rates(self) -> None:
        for name, rate in (("new_rate", self.new_rate), ("old_rate", self.old_rate)):
            if not (_is_number(rate) and 0 <= rate < math.inf):
                raise StateError(f"{name}={rate!r} is no factor: give 0 or more")
        if not (_is_number(self.rates_for) and self.rates_for > 0):
            raise StateError(f"rates_for={self.rates_for!r} is no number of steps: give more than 0")
        if self.rates_for < math.inf and self.new_rate == self.old_rate == 1.0:
            raise StateError(f"rates_for={self.rates_for!r} has no rates: give old_rate or new_rate")

    def _check_kinds(self) -> None:
        """What a caller may have given in place of powers and a yes or no."""
        follow: Any = self.follow
        powers: Any = self.powers
        if not isinstance(follow, bool):
            raise StateError(f"follow={follow!r} is neither yes nor no: give True or False")
        if not isinstance(powers, Mapping):
            raise StateError(
                f"powers={powers!r} names no powers: give a dict, {{name: power of the gradient}}"
            )
        for name, power in self.powers.items():
            if not _is_number(power) or not math.isfinite(power):
                raise StateError(
                    f"powers says {power!r} of {name!r}, which is no power of the gradient: give 1 for a mean"
                    " of gradients, 2 for one of their squares"
                )

    @property
    def paced(self) -> bool:
        """Whether updates are corrected after the growth."""
        return self.ramp > 0 or self.follow or (self.new_rate, self.old_rate) != (1.0, 1.0)

    def rate(self, step: int, new: bool = True) -> float:
        """What updates of new (or old) entries are multiplied by in this step after the growth (first: 1)."""
        own = (self.new_rate if new else self.old_rate) if step <= self.rates_for else 1.0
        if not new:
            return own
        done = min(1.0, step / self.ramp) if self.ramp else 1.0
        return own * (self.ramp_from + (1.0 - self.ramp_from) * done)

    def power(self, name: str, beside: Mapping[str, object]) -> int | None:
        """The power of the gradient that a state tensor of a parameter's shape holds; None if unknown."""
        if name in self.powers:
            return self.powers[name]
        found = (power for (own, other), power in BESIDE.items() if own == name and other in beside)
        return next(found, POWERS.get(name))


def _is_number(given: object) -> bool:
    return not isinstance(given, bool) and isinstance(given, Real)


def carried(anatomy: Anatomy, plan: Plan, power: int, seeded: bool = False) -> Plan:
    """The plan that grows a state tensor of this power: old entries take 1/a^k, new ones 0 or a mean."""

    def old(entry: Old) -> Old:
        return Old(entry.a**-power)

    def new(slot: str, step: Step, entry: Entry) -> Entry:
        if not seeded:
            return Constant(0.0)
        if isinstance(entry, Old):
            return old(entry)
        if step.axis in anatomy.all_slots[slot].index:
            return Old()
        kept = step.entry(slot, OLD)
        assert isinstance(kept, Old)
        return Mean(a=old(kept).a)

    return _rewritten(plan, old, new)


def displaced(plan: Plan) -> Plan:
    """The plan that grows a difference of two points of θ: linear, with nothing for what is new and free."""

    def new(slot: str, step: Step, entry: Entry) -> Entry:
        if isinstance(entry, Mean):
            return Mean(a=entry.a)
        return Old(entry.a) if isinstance(entry, Old) else Constant(0.0)

    return _rewritten(plan, lambda entry: Old(entry.a), new)


def marked(plan: Plan) -> Plan:
    """The plan whose new entries are all one constant: its pieces tell old from new."""
    return _rewritten(plan, lambda entry: entry, lambda slot, step, entry: Constant(0.0))


def _rewritten(plan: Plan, old: Callable[[Old], Entry], new: Callable[[str, Step, Entry], Entry]) -> Plan:
    def entry(step: Step, slot: str, label: str, entry: Entry) -> Entry:
        if not label.startswith(OLD):
            return new(slot, step, entry)
        assert isinstance(entry, Old), f"{step.expansion} makes old entries of {slot} {entry}"
        return old(entry)

    return rewritten(plan, entry)
