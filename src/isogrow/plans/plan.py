"""Plans: a growth as data. A plan is a list of steps; a step grows one axis from `old` to `new`.

A step says where the channels of the new axis come from (`places`), and for every slot that has the
axis what its entries are, by label (`rewrites`). Composing plans is appending their steps; a plan
prints, compares and round-trips through JSON, and names no storage, no dtype and no device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, combinations, pairwise
from typing import Any, Literal

from isogrow.errors import LawError, SizeError
from isogrow.layouts.layout import Index
from isogrow.plans.choices import Choices
from isogrow.plans.sizes import Sizes, key, unkey

OLD = "old"
KINDS = ("normal", "uniform", "copy", "orthogonal")
REPLAYED = ("box-muller",)  # what older plans are carried out with; nobody asks for it
LARGEST_STD = 1000.0

StdOf = Literal["sample", "all"]


@dataclass(frozen=True)
class Init:
    """How free entries are filled: the distribution, and its std ("match": that of the old tensor).

    A kind that is none of `KINDS` is the name of a function of the user's (`isogrow.plans.regions`).
    """

    kind: str = "normal"
    std: float | Literal["match"] = "match"

    def __post_init__(self) -> None:
        number = isinstance(self.std, int | float) and not isinstance(self.std, bool)
        if self.std != "match" and not (number and 0.0 < self.std <= LARGEST_STD):
            raise SizeError(f"init_std {self.std!r} is no std: give match, or a number above 0, up to 1000")


@dataclass(frozen=True)
class Old:
    """a * x + b, where x is the entry at the place's source: kept, scaled or copied."""

    a: float = 1.0
    b: float = 0.0


@dataclass(frozen=True)
class Constant:
    """The same value everywhere."""

    value: float


@dataclass(frozen=True)
class Free:
    """What the laws leave open. `center`: around the old tensor's mean (gains), not around zero.

    Entries with the same `stream` are the same numbers, times `sign`: r and -r cancel on copies.
    """

    init: Init = Init()
    center: bool = False
    sign: float = 1.0
    stream: str = ""


@dataclass(frozen=True)
class Mean:
    """a times the mean over the old channels, weighted by the slot `weights` if one is named."""

    weights: str = ""
    a: float = 1.0


Entry = Old | Constant | Free | Mean
Rewrite = Mapping[str, Entry]


@dataclass(frozen=True)
class Place:
    """New positions start, start + stride, ... (`count` of them) extend old ones from `source` on."""

    start: int
    count: int
    source: int
    label: str = OLD
    stride: int = 1

    @property
    def old(self) -> bool:
        """Whether these are the old channels themselves ("old", or "old3" for one that is told apart)."""
        return self.label.startswith(OLD)

    @cached_property
    def positions(self) -> range:
        return range(self.start, self.start + self.count * self.stride, self.stride)


def _tile(parts: Sequence[range], size: int) -> bool:
    """Whether progressions hold each of 0..size once, told from their ends."""
    some = sorted((part for part in parts if part), key=lambda part: part.start)
    if sum(map(len, some)) != size or any(part[0] < 0 or part[-1] >= size for part in some):
        return False
    if all(part.step == 1 for part in some):
        return all(one.stop == two.start for one, two in pairwise(some))
    return not any(_meet(one, two) for one, two in combinations(some, 2))


def _meet(one: range, two: range) -> bool:
    if one.step == two.step:
        return (one.start - two.start) % one.step == 0 and one[0] <= two[-1] and two[0] <= one[-1]
    few, many = sorted((one, two), key=len)
    return any(position in many for position in few)


@dataclass(frozen=True)
class Step:
    """One axis grows, at one site (an empty one: everywhere); `choices` are those that its rule was given."""

    expansion: str
    axis: str
    old: int
    new: int
    places: tuple[Place, ...]
    rewrites: Mapping[str, Rewrite]
    site: Index = ()
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    choices: Choices = Choices()

    def __post_init__(self) -> None:
        covered = [place.positions for place in self.places]
        assert _tile(covered, self.new), f"places of {self.axis} do not tile 0..{self.new}"
        kept = [range(place.source, place.source + place.count) for place in self.places if place.old]
        assert _tile(kept, self.old), f"places of {self.axis} do not keep 0..{self.old}"

    def at(self, index: Index) -> bool:
        """Whether this step touches blocks at this index."""
        if not self.site:
            return True
        found = dict(index)
        return all(found.get(axis, i) == i for axis, i in self.site)

    def entry(self, slot: str, label: str) -> Entry:
        """What the entries of `slot` are at places with this label."""
        rewrite = self.rewrites.get(slot, {})
        if label in rewrite:
            return rewrite[label]
        assert label.startswith(OLD), f"{self.expansion} does not say what {slot} is at {label!r}"
        return Old()

    def source(self, position: int) -> tuple[int, str]:
        """(old position, label) of a position on the new axis."""
        place = next(place for place in self.places if position in place.positions)
        return place.source + place.positions.index(position), place.label

    def blocks(self) -> dict[str, tuple[str, ...]]:
        """Slots by what their new entries are ("zero", "free", "mean", "copied"), and those scaled."""
        found: dict[str, dict[str, None]] = {}
        for slot, rewrite in self.rewrites.items():
            for label, entry in rewrite.items():
                kind = "" if label.startswith(OLD) and entry == Old() else word(entry, label)
                found.setdefault(kind, {})[slot] = None
        return {kind: tuple(slots) for kind, slots in sorted(found.items()) if kind}

    def key(self, sizes: Sizes) -> str:
        """Names this growth for the random numbers; no other growth of a plan has its name.

        A site's number may come again only after the axis that it counts along has grown, so the name
        says how long that axis is in these `sizes`.
        """
        counts = "".join(f"/{sizes.of(axis, self.site)}" for axis, _ in self.site)
        return f"{key(self.axis, self.site)}{counts}:{self.old}>{self.new}"


@dataclass(frozen=True)
class Plan:
    """Steps, and the sizes and config edits that they add up to.

    `std_of` says what of an old tensor the std that new entries match is made of: a sample of a large one
    (`isogrow.plans.taking.summed`), or all of it, as in plans of older versions.
    """

    family: str
    source: Sizes
    steps: tuple[Step, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seed: int = 0
    std_of: StdOf = "sample"

    @property
    def target(self) -> Sizes:
        """The sizes after the last step."""
        return self.stages[-1]

    @cached_property
    def stages(self) -> tuple[Sizes, ...]:
        """The sizes before the first step, and after each."""
        return tuple(accumulate(self.steps, grown, initial=self.source))

    def __str__(self) -> str:
        """A table: a line a step, and under it what becomes of each slot's new and old entries."""
        lines = [f"{self.family}, seed {self.seed}"]
        for step in self.steps:
            name = key(step.axis, step.site)
            lines.append(f"{step.expansion:20} {name:14} {step.old:>7} -> {step.new}")
            lines += [f"  {kind:12} {', '.join(slots)}" for kind, slots in step.blocks().items()]
        edits = ", ".join(f"{path} = {value}" for path, value in self.config.items())
        return "\n".join([*lines, f"config: {edits}"] if edits else lines)

    def then(self, other: Plan) -> Plan:
        """This plan, and after it `other`, which must start where this one ends."""
        if (self.family, self.target) != (other.family, other.source):
            raise LawError("the second plan does not start at the sizes where the first one ends")
        if self.std_of != other.std_of:
            raise LawError(
                f"one plan matches the std of {self.std_of} entries and the other that of {other.std_of}, as"
                " plans of different versions do: make both anew"
            )
        config = {**self.config, **other.config}
        return dataclasses.replace(self, steps=self.steps + other.steps, config=config)


def rewritten(plan: Plan, entry: Callable[[Step, str, str, Entry], Entry]) -> Plan:
    """The plan with entry(step, slot, label, entry) for each of its entries."""

    def entries(step: Step, slot: str, rewrite: Rewrite) -> Rewrite:
        return {label: entry(step, slot, label, old) for label, old in rewrite.items()}

    steps = tuple(
        dataclasses.replace(
            step, rewrites={slot: entries(step, slot, r) for slot, r in step.rewrites.items()}
        )
        for step in plan.steps
    )
    return dataclasses.replace(plan, steps=steps)


def word(entry: Entry, label: str) -> str:
    """What entries at a place with this label are, in a word or two."""
    if isinstance(entry, Old):
        return "copied" if not label.startswith(OLD) else f"x {entry.a:.4g}"
    if isinstance(entry, Constant):
        return "zero" if entry.value == 0.0 else f"= {entry.value:g}"
    return "free" if isinstance(entry, Free) else "mean"


def grown(sizes: Sizes, step: Step) -> Sizes:
    """The sizes after a step; sizes of a new layer (or head) are those of the one it extends."""
    values: dict[str, int] = {}
    for name, value in sizes.values.items():
        axis, site = unkey(name)
        axes = sizes.sites.get(axis, ())
        if step.axis not in axes or not step.at(tuple(zip(axes, site, strict=True))):
            values[name] = value
            continue
        place = axes.index(step.axis)
        for position in range(step.new):
            if step.source(position)[0] == site[place]:
                moved = (*site[:place], position, *site[place + 1 :])
                values[key(axis, tuple(zip(axes, moved, strict=True)))] = value
    values[key(step.axis, step.site)] = step.new
    return Sizes(values, sizes.sites)
