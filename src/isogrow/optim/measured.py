"""What an optimizer keeps, measured on a twin of it: for classes that no table knows.

Three twins make the same steps on a few numbers: one on θ with gradients g, one on a θ with g / a, as the law
of the moments has them (docs/laws.md), and one on θ + b with g. A state tensor that is s in the first is

    s / a^k in the second, s in the third        a k-th power of the gradient
    a s in the second, s + b in the third        a *point*: θ itself at another time, or a mean of such

entry by entry. What is neither is not told, nor what stays 0, nor anything of a class whose twin can't step.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from isogrow.errors import in_a_line
from isogrow.optim.moments import POWERS

PARAMS = "params"
KNOWN = (
    "torch.optim.",
    "transformers.optimization.",
)  # whose state the tables of `moments` tell by its names
SHAPES = {0: (), 1: (8,), 2: (6, 8), 3: (5, 3, 4), 4: (5, 3, 4, 2)}  # by the number of dims
Kind = int | Literal["point", "number", "other"]
POINT: Literal["point"] = "point"
NUMBER: Literal["number"] = "number"
OTHER: Literal["other"] = "other"
STEPS, RATE = 4, 1e-9  # so small that θ stays where it is
A, B = 4.0, 2.0  # powers of two: float32 multiplies by them exactly
FROM = 64.0  # the size of gradients, beside which no optimizer's epsilon counts
ROUNDING = 1e-5  # of float32, over some steps
OWN = ("param_groups", "state", "step")  # a scheduler puts a wrapper around the old one's step
NOTHING = ("weight_decay", "weight_decay_rate", "wd", "l2", "initial_accumulator_value")  # settings made 0


@dataclass(frozen=True)
class Measured:
    """Names of what is kept: powers of the gradient, points, numbers that no scale changes, and `others`, of
    which no law is known; `fault` is what a twin's step raised that told nothing."""

    powers: Mapping[str, int] = field(default_factory=dict[str, int])
    points: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    fault: str = ""


# What was measured last of each optimizer, and of which settings.
SEEN: WeakKeyDictionary[Optimizer, tuple[str, Measured]] = WeakKeyDictionary()


def measured(optimizer: Optimizer) -> Measured:
    """What an optimizer keeps for its parameters; nothing for classes that the tables know.

    Neither the optimizer nor its parameters are touched, nor random numbers, nor hooks on optimizers. Asked
    again before another step, it answers from memory.
    """
    if f"{inspect.unwrap(type(optimizer).step).__module__}.".startswith(KNOWN):
        return Measured()
    settings = [{**group, PARAMS: [p.dim() for p in group[PARAMS]]} for group in optimizer.param_groups]
    known, found = SEEN.get(optimizer, ("", Measured()))
    if known != repr(settings):
        found = _measured(optimizer)
        SEEN[optimizer] = repr(settings), found
    return found


def _measured(optimizer: Optimizer) -> Measured:
    told, fault = dict[str, set[Kind]](), ""
    for group in optimizer.param_groups:
        for dims in sorted({p.dim() for p in group[PARAMS]} & SHAPES.keys()):
            seen, failed = _of_group(optimizer, group, dims)
            fault = fault or failed
            for name, found in seen.items():
                told.setdefault(name, set()).add(found)
    agreed = {name: next(iter(found)) if len(found) == 1 else OTHER for name, found in told.items()}
    points, numbers, others = (
        frozenset(name for name, found in agreed.items() if found == kind) for kind in (POINT, NUMBER, OTHER)
    )
    bases = [base for base in type(optimizer).__mro__ if f"{base.__module__}.".startswith(KNOWN)]
    if bases != [Optimizer]:  # one that adds to a class of the tables keeps what that keeps
        others -= POWERS.keys()
    powers = {name: kind for name, kind in agreed.items() if isinstance(kind, int)}
    return Measured(powers, points, numbers, others, fault)


def _of_group(optimizer: Optimizer, group: Mapping[str, Any], dims: int) -> tuple[dict[str, Kind], str]:
    """What a group's optimizer keeps for a parameter of so many dims, or why a twin's step failed."""
    device = next(p.device for p in group[PARAMS] if p.dim() == dims)
    there, kind = ([], "cuda") if device.type == "cpu" else ([device], device.type)
    with torch.random.fork_rng(there, device_type=kind), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own, fault = {key: value for key, value in group.items() if key in optimizer.defaults}, ""
        for said in (own, group):  # what is no default counts steps, or is a setting of this group alone
            try:
                kept = [_kept(optimizer, said, dims, *by, device) for by in ((1, 0), (A, 0), (1, B))]
                break
            except Exception as error:  # whatever a stranger's step wants that is not there
                fault = in_a_line(error)
        else:
            return {}, fault
    found: dict[str, Kind | None] = {
        name: _what(value, kept[1].get(name), kept[2].get(name), SHAPES[dims])
        for name, value in kept[0].items()
    }
    return {name: kind for name, kind in found.items() if kind is not None}, ""


def _kept(
    optimizer: Optimizer, group: Mapping[str, Any], dims: int, a: float, b: float, device: torch.device
) -> Mapping[str, Any]:
    """The state of a twin that has made its steps on a θ + b with gradients g / a."""
    torch.default_generator.manual_seed(0)  # the CPU's alone
    drawn = torch.Generator("cpu").manual_seed(0)

    def some() -> Tensor:
        return torch.randn(SHAPES[dims], dtype=torch.float32, generator=drawn, device="cpu")

    theta = nn.Parameter(some().mul_(a).add_(b).to(device))
    twin = _twin(optimizer, group, theta)
    if callable(getattr(twin, "train", None)):  # of those that take θ elsewhere to be evaluated
        twin.train()
    step = inspect.unwrap(
        type(twin).step
    )  # without what torch calls around each step, hooks of all optimizers
    for _ in range(STEPS):
        theta.grad = some().mul_(FROM).div_(a).to(device)
        with torch.no_grad():
            step(twin)
    return twin.state[theta]


def _twin(optimizer: Optimizer, group: Mapping[str, Any], theta: nn.Parameter) -> Any:
    """An optimizer of the same class that has made no step, for one parameter of a group; it decays nothing,
    since a decay is no part of a law, and starts from nothing."""
    made: Any = object.__new__(type(optimizer))
    own = {name: value for name, value in vars(optimizer).items() if name not in OWN}
    held = [
        each for value in own.values() for each in (value if isinstance(value, list | tuple) else (value,))
    ]
    memo: dict[int, Any] = {id(each): each for each in held if isinstance(each, nn.Module | nn.Parameter)}
    for name, value in own.items():
        hooks = isinstance(value, OrderedDict)
        made.__dict__[name] = OrderedDict() if hooks else copy.deepcopy(value, memo)
    said = {key: copy.deepcopy(value) for key, value in group.items() if key not in (PARAMS, "param_names")}
    said |= {key: 0.0 for key, value in said.items() if key in NOTHING and isinstance(value, float)}
    names = {"param_names": ["weight"]} if "param_names" in group else {}
    rate: Any = said.get("lr")
    rate = torch.full_like(rate, RATE) if isinstance(rate, Tensor) else RATE
    made.__dict__["param_groups"] = [{**said, **names, PARAMS: [theta], "lr": rate}]
    made.__dict__["state"] = type(optimizer.state)(dict)
    return made


def _what(first: Any, scaled: Any, moved: Any, shape: tuple[int, ...]) -> Kind | None:
    """What a state is, by what it is on θ, on a θ and on θ + b, for a θ of this shape; None if it stays 0."""
    if first is scaled is moved is None:  # what is kept in some settings alone
        return NUMBER
    if all(map(_is_number, (first, scaled, moved))):
        return NUMBER if float(first) == float(scaled) == float(moved) else OTHER
    if not all(_is_told(each, shape) for each in (first, scaled, moved)):
        return OTHER
    if not first.any():
        return None
    if _close(scaled, A * first) and _close(moved, first + B):
        return POINT
    k = round(math.log(float(first.double().norm() / scaled.double().norm().clamp_min(1e-300)), A))
    return k if _close(scaled, first / A**k) and _close(moved, first) else OTHER


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, Tensor) and not value.dim())


def _is_told(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether it is a tensor of this shape, of numbers that can be compared."""
    dense = isinstance(value, Tensor) and value.layout == torch.strided and value.is_floating_point()
    return dense and value.shape == shape and bool(value.isfinite().all())


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same in every entry, to float32's rounding over some steps."""
    return bool(((one - other).abs() <= ROUNDING * other.abs().max()).all())
