"""The one rule that reads engines' tables: what an engine would compute otherwise, or refuse, of a growth.

A growth is *announced* where it brings about what the engine can't do: a number that it fixes is another one
now, a size that it holds no longer fits. What was so before is not the growth's. A growth that is made *for*
an engine (`strict`) must also be one that the engine can hold at all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isclose
from typing import Any

from isogrow.engines.change import Change
from isogrow.engines.engine import (
    Coarse,
    Engine,
    Fixes,
    OldName,
    Period,
    Projections,
    Rounds,
    Row,
    Scale,
    Takes,
)
from isogrow.layouts.config import get
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Layout
from isogrow.plans.choices import Choices
from isogrow.plans.words import told

SIZES = "names sizes that do"


@dataclass(frozen=True)
class Complaint:
    """What an engine does with a growth: a sentence without its end, and what a growth made for it does."""

    engine: Engine
    row: Row
    why: str
    mend: str

    @property
    def mendable(self) -> bool:
        """Whether there may be sizes that do."""
        return not isinstance(self.row, Coarse)

    @property
    def sentence(self) -> str:
        """The whole sentence, for people who did not name the engine."""
        return f"{self.why}; --for {self.engine.name} {self.mend}"


def complaints(engine: Engine, change: Change, strict: bool = False) -> tuple[Complaint, ...]:
    """All that an engine would compute otherwise or refuse of a growth; nothing of a family that it can't
    load."""
    if not engine.takes(change.family):
        return ()
    found: list[Complaint] = []
    for row in engine.of(change.family):
        reads, mend = READERS[type(row)]
        why = reads(row, change, strict, engine.n)
        if why:
            found.append(Complaint(engine, row, f"{engine.called} {why}", mend(row)))
    return tuple(found)


def chosen(engine: Engine, layout: Layout) -> Choices:
    """What a growth of this family has to leave as it is for an engine."""
    rows = engine.of(layout.family)
    epsilons = {slot.norm.eps for slot in layout.table if slot.norm is not None}
    return Choices(
        tuple(row.key for row in rows if isinstance(row, Fixes) and row.key in epsilons),
        tuple((row.key, row.formula) for row in rows if isinstance(row, Period) and _by_place(row)),
        any(isinstance(row, OldName) for row in rows),
    )


def _by_place(row: Period) -> bool:
    """Whether a layer's place alone says which it is, and new ones may be of any: places can be chosen."""
    return not row.weighs and names(row.formula) <= {"i"}


def with_number(engine: Engine, n: int) -> Engine:
    """The engine with its own number: `tp=8`."""
    return replace(engine, n=n, name=f"{engine.name}={n}")


# One function a kind of row: what the engine does, as a sentence without its subject; "" where it does
# nothing otherwise.


def _fixes(row: Fixes, change: Change, strict: bool, n: int) -> str:
    was, now = change.before.value(row.key), change.after.value(row.key)
    if not row.shows or was is None or now is None or isclose(was, now, rel_tol=1e-12):
        return ""
    return (
        f"runs {change.family!r} with {row.key} {row.to:g} whatever the config says, which goes from {was:g}"
        f" to {now:g}"
    )


def _scale(row: Scale, change: Change, strict: bool, n: int) -> str:
    theirs = [float(evaluate(row.formula, side.facts)) for side in (change.before, change.after)]
    ours = [side.scale() for side in (change.before, change.after)]
    if isclose(theirs[1] / theirs[0], ours[1] / ours[0], rel_tol=1e-12):
        return ""
    formula = next(iter(change.before.layout.attentions)).scale
    return (
        f"scales the attention of {change.family!r} by {row.formula} whatever the config says, and that"
        f" changes otherwise than {formula}"
    )


def _period(row: Period, change: Change, strict: bool, n: int) -> str:
    for was, now in change.moved():
        sides = ((change.before, was), (change.after, now))
        before, after = (evaluate(row.formula, {**side.facts, "i": i}) for side, i in sides)
        if before != after:
            return (
                f"computes {row.key} of {change.family!r} from a layer's number: {before!r} for layer {was},"
                f" which becomes layer {now}, {after!r}"
            )
    for i, entry in enumerate(get(change.after.config, row.key) or () if row.weighs else ()):
        if (theirs := evaluate(row.formula, {**change.after.facts, "i": i})) != entry:
            return f"takes layer {i} of {change.family!r} by its number for {theirs!r}, and it is {entry!r}"
    return ""


def _old_name(row: OldName, change: Change, strict: bool, n: int) -> str:
    for rope in change.after.ropes:
        was, now = rope.base(change.before.config), rope.base(change.after.config)
        if get(change.after.config, rope.theta[-1]) is None and (strict or was != now):
            return f"reads the θ of {change.family!r} as {rope.theta[-1]} alone, which is not there: {now:g}"
    return ""


def _takes(row: Takes, change: Change, strict: bool, n: int) -> str:
    if change.after.holds(row.condition, n) or not (strict or change.before.holds(row.condition, n)):
        return ""
    facts = {name: value for name, value in {**change.after.facts, "n": n}.items() if isinstance(value, int)}
    condition, sizes = told(row.condition, facts)
    models = f"{change.family!r} models without {condition}"
    return f"{row.else_.format(models)}, here {sizes}"


def _projections(row: Projections, change: Change, strict: bool, n: int) -> str:
    vocab = change.after.facts.get("vocab")
    old = {slot for slot, width in change.before.widths() if width == change.before.facts.get("vocab")}
    hit = [slot for slot, width in change.after.widths() if width == vocab and (strict or slot not in old)]
    if not hit:
        return ""
    return f"takes {hit[0]} for the head where it is as wide as the vocabulary, here {vocab}"


def _rounds(row: Rounds, change: Change, strict: bool, n: int) -> str:
    was, now = (float(evaluate(row.formula, side.facts)) for side in (change.before, change.after))
    held = ROUNDINGS[row.to](now)
    if was == now or held == now:
        return ""
    words = sorted(names(row.formula))
    return (
        f"rounds {row.formula} of {change.family!r} to {row.to} in any dtype: {held:g} for {now:.7g} at"
        f" {words[0]}={change.after.facts[words[0]]}"
    )


def _coarse(row: Coarse, change: Change, strict: bool, n: int) -> str:
    grown = [axis for axis in row.axes if change.grows(axis)]
    if not grown:
        return ""
    return (
        f"computes {change.family!r} no more exactly than {row.error:g}, the small model too, which a growth"
        f" of {' and '.join(grown)} shows"
    )


def _bfloat16(value: float) -> float:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return struct.unpack("<f", struct.pack("<I", kept))[0]


ROUNDINGS: Mapping[str, Callable[[float], float]] = {
    "bfloat16": _bfloat16,
    "two decimals": lambda value: round(value, 2),
}


def _kept(row: Fixes) -> str:
    return SIZES if "theta" in row.key else "keeps it"


# By the kind of row: what reads it, and what a growth made for the engine does about it.
READERS: Mapping[type, tuple[Callable[[Any, Change, bool, int], str], Callable[[Any], str]]] = {
    Fixes: (_fixes, _kept),
    Scale: (_scale, lambda row: SIZES),
    Period: (_period, lambda row: "names places that do"),
    OldName: (_old_name, lambda row: "writes it there"),
    Takes: (_takes, lambda row: SIZES),
    Projections: (_projections, lambda row: SIZES),
    Rounds: (_rounds, lambda row: SIZES),
    Coarse: (_coarse, lambda row: "refuses that"),
}
