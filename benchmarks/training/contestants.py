"""Who takes part: each contestant is data, a size to start from and growths at shares of the budget."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Growth:
    """To this size when this share of the budget is spent, by a method of `methods.METHODS` with `options`.

    After it the tuned rate is multiplied by `rate`; over `rewarm` steps it rises from nothing.
    """

    at: float
    size: str = "large"
    method: str = "grow"
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    rate: float = 1.0
    rewarm: int = 0


@dataclass(frozen=True)
class Contestant:
    """`rate` and `std` are factors on the tuned ones until the first growth. Of each `kind` of rival one is
    measured in the end."""

    name: str
    kind: str
    start: str
    growths: tuple[Growth, ...] = ()
    rate: float = 1.0
    std: float = 1.0

    @property
    def last_growth(self) -> float:
        return max((growth.at for growth in self.growths), default=0.0)


@dataclass(frozen=True)
class Tuned:
    """What scratch is tuned over: the rate, the std of new matrices, the share of a budget that is decay.

    `matrices`: what trains those of layers, where AdamW does not. `weight_decay`: where it is not the usual
    one (optimizing.py).
    """

    rate: float
    std: float
    decay: float = 0.2
    matrices: str | None = None
    weight_decay: float | None = None


TUNED = Tuned(rate=0.002, std=0.05, decay=0.4)  # what tuning scratch found, at the full budget
SCRATCH = Contestant("scratch", "scratch", "large")
LOWERED = Contestant(
    "scratch, 0.7 x the rate from 50 %", "scratch", "large", (Growth(0.5, method="stay", rate=0.7),)
)
ALONE = (Contestant("small alone", "alone", "small"), Contestant("middle alone", "alone", "middle"))


def once(
    name: str, start: str = "small", at: float = 0.125, kind: str = "grown", rate: float = 1.0, **growth: Any
) -> Contestant:
    """One growth, to the large model."""
    return Contestant(name, kind, start, (Growth(at, **growth),), rate)


def rival(name: str, kind: str, start: str, method: str, at: float = 0.125, **options: Any) -> Contestant:
    """A rival carries the optimizer's moments if told to; else its state is fresh and the rate warms up."""
    rewarm = 0 if options.get("carry") else 100
    return once(name, start, at, kind, method=method, options=options, rewarm=rewarm)


def paced(contestant: Contestant, rate: float = 0.7) -> Contestant:
    """The same with another rate after its last growth."""
    *before, last = contestant.growths
    growths = (*before, dataclasses.replace(last, rate=rate))
    name = f"{contestant.name}, large at {rate:g} x the rate"
    return dataclasses.replace(contestant, name=name, growths=growths)


def several(name: str, start: str, *steps: tuple[float, str]) -> Contestant:
    return Contestant(name, "grown", start, tuple(Growth(at, size) for at, size in steps))


TWICE = {"policy": {"ramp": 250, "ramp_from": 2.0}}  # new entries start at twice the rate
THRICE = {"policy": {"ramp": 1000, "ramp_from": 3.0}}
BASE = once("grown at 12.5 %")
QUARTER = once("grown at 25 %", at=0.25)
MIDDLE_QUARTER = once("from middle at 25 %", "middle", 0.25)
MIDDLE = once("from middle at 50 %", "middle", 0.5)
MIDDLE_TWICE = once("from middle at 50 %, new entries from 2 x", "middle", 0.5, options=TWICE)
DEPTH = once("depth alone, from 2, at 50 %", "shallow", 0.5)
LATEST = several("two growths, latest", "small", (0.08, "middle"), (0.5, "large"))
GROWN = (
    BASE,
    once("grown at 6 %", at=0.0625),
    QUARTER,
    once("grown at 50 %", at=0.5),
    # what fills the free blocks
    once("std 0.02", options={"init_std": 0.02}),
    once("std 0.05", options={"init_std": 0.05}),
    once("copies", options={"init": "copy"}),
    once("orthogonal", options={"init": "orthogonal"}),
    once("GradMax", options={"init": "gradmax"}),
    # what the optimizer holds for new entries, and how fast they start
    once("zero moments", options={"policy": {"moments": "zero"}}),
    once("fresh moments", options={"policy": {"moments": "fresh"}}, rewarm=100),
    once("ramp 100", options={"policy": {"ramp": 100}}),
    once("new entries from 2 x, 250 steps", options=TWICE),
    once("new entries from 4 x, 250 steps", options={"policy": {"ramp": 250, "ramp_from": 4.0}}),
    once("new entries from 3 x, 1000 steps", options=THRICE),
    # which axes grow, where layers go, and in how many steps
    once("layers spread", options={"layers_at": "even"}),
    once("layers first", options={"layers_at": "start"}),
    once("width alone", "narrow"),
    once("width alone, copies", "narrow", options={"init": "copy"}),
    once("width alone, at 25 %", "narrow", 0.25),
    once("depth alone, from 1", "flat"),
    once("depth alone, from 2", "shallow"),
    once("depth alone, from 2, copies", "shallow", options={"init": "copy"}),
    once("depth alone, from 2, at 25 %", "shallow", 0.25),
    several("two growths", "small", (0.06, "middle"), (0.18, "large")),
    several("two growths, from tiny", "tiny", (0.03, "small"), (0.125, "large")),
    several("three growths, from tiny", "tiny", (0.03, "small"), (0.09, "middle"), (0.2, "large")),
    several("width, then depth", "small", (0.1, "shallow"), (0.25, "large")),
    several("two growths, later", "small", (0.12, "middle"), (0.35, "large")),
    MIDDLE_QUARTER,
    MIDDLE,
    once("from middle at 65 %", "middle", 0.65),
    once("from middle at 50 %, orthogonal", "middle", 0.5, options={"init": "orthogonal"}),
    MIDDLE_TWICE,
    paced(MIDDLE),
    paced(MIDDLE, 0.5),
    paced(MIDDLE_TWICE),
    paced(once("from middle at 50 %, new entries from 3 x, 1000 steps", "middle", 0.5, options=THRICE)),
    paced(once("from middle at 60 %", "middle", 0.6)),
    paced(once("from middle at 35 %", "middle", 0.35)),
    paced(MIDDLE_QUARTER),
    once("from middle at 25 %, new entries from 2 x", "middle", 0.25, options=TWICE),
    paced(QUARTER),
    paced(DEPTH),
    paced(LATEST),
    DEPTH,
    LATEST,
    # what did well alone, together
    once("orthogonal at 25 %", at=0.25, options={"init": "orthogonal"}),
    once("new entries from 2 x, at 25 %", at=0.25, options=TWICE),
    once(
        "orthogonal, new entries from 2 x, at 25 %",
        at=0.25,
        options={"init": "orthogonal", **TWICE},
    ),
    # the rate, before and after
    once("small at 1.5 x the rate", rate=1.5),
    paced(BASE),
    paced(BASE, 1.4),
    once("from tiny", "tiny"),
)
STACKED = rival("stacked from 2 at 25 %, moments carried", "stacked", "shallow", "stack", 0.25, carry=True)
STACKED_LATE = rival(
    "stacked from 2 at 50 %, moments carried", "stacked", "shallow", "stack", 0.5, carry=True
)
NOISY = rival(
    "tiled with noise at 25 %", "tiled with noise", "narrow", "double", 0.25, noise=True, carry=True
)
RIVALS = (
    rival("stacked from 1", "stacked", "flat", "stack"),
    rival("stacked from 1, moments carried", "stacked", "flat", "stack", carry=True),
    rival("stacked from 2", "stacked", "shallow", "stack"),
    rival("stacked from 2, moments carried", "stacked", "shallow", "stack", carry=True),
    STACKED,
    STACKED_LATE,
    paced(STACKED),
    paced(STACKED_LATE),
    rival("tiled", "tiled", "narrow", "double"),
    rival("tiled, moments carried", "tiled", "narrow", "double", carry=True),
    rival("tiled with noise", "tiled with noise", "narrow", "double", noise=True),
    rival(
        "tiled with noise, moments carried", "tiled with noise", "narrow", "double", noise=True, carry=True
    ),
    NOISY,
    paced(NOISY),
    rival("split unequally", "split", "narrow", "double", split=True),
    rival("split unequally, moments carried", "split", "narrow", "double", split=True, carry=True),
    rival("padded with zeros", "padded", "small", "pad", carry=True),
)


def digest(*parts: Any) -> str:
    """A short name for data."""
    said = [plain(part) if dataclasses.is_dataclass(part) else part for part in parts]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def plain(data: Any) -> dict[str, Any]:
    """A dataclass as rows have it: without what is None."""

    def said(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in items if value is not None}

    return dataclasses.asdict(data, dict_factory=said)
