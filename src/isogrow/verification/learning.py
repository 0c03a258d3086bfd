"""The checks that what is new in a grown model learns: all of it has gradient, and no two stay copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count

from isogrow.laws import horizon
from isogrow.layouts.layout import Index
from isogrow.verification.inputs import lesson, unrun
from isogrow.verification.liveness import Pass, training
from isogrow.verification.pair import Pair
from isogrow.verification.report import Check
from isogrow.verification.units import Unit, Units, counted, resting, silent_in, twins

LATER = 8  # training steps that zeros of the old model's own may take to open, at most
APART = 2  # training steps after everything lives, at most, by which new units must differ


def liveness(pair: Pair) -> tuple[Check, Check, Units]:
    """float64: all new channels have gradient by the step that the plan predicts, and then differ."""
    by = due(pair)
    found = lived(pair, by, training(pair.large, [lesson(pair)], steps=most(by)))
    alive = live(found.units, by, found.late)
    if not found.units.new and unrun(pair):
        alive = replace(alive, detail="what is new was run by nothing")
    return alive, apart(found.twins, found.steps), found.units


def due(pair: Pair) -> int:
    """The training step by which all that is new has had gradient, where the old model has no zeros."""
    return max(1, pair.learns_by or horizon(pair.before, pair.plan))


def most(by: int) -> int:
    """How many steps may be looked at, where all that is new is due by one."""
    return by + LATER + APART


@dataclass(frozen=True)
class Lived:
    """What training found: which new units have had gradient, which are copies of others (`twins`) after so
    many `steps`, and how many steps after the one that they were due by had to be looked at (`late`)."""

    units: Units
    twins: list[str]
    steps: int
    late: int


def lived(pair: Pair, by: int, passes: Iterable[Pass]) -> Lived:
    """Train until the new units have had gradient and differ, or never will.

    Zeros that the old model has itself (a layer that was just added to it writes nothing yet) open first, and
    what is behind them wakes a step later than the plan can tell. So where some units have had no gradient
    when they were due, steps are looked at for as long as each of them wakes anything at all: entries that
    have had gradient only become more, and once none does, all others are dead.
    """
    units, unrouted, silent = Units(), set[Index](), set[Unit]()
    found: list[str] = []
    steps, step, end, marked = count(1), 0, by, -1
    for each in passes:
        step = next(steps)  # `enumerate` would keep each pass until it has the next
        if step <= by:
            unrouted |= resting(pair, each.now)
            silent |= silent_in(pair, each.now, each.values)
        if step == end:
            units = counted(pair, each.seen, silent, unrouted)
            if units.dead and end < by + LATER and (more := each.seen.count()) > marked:
                end, marked = end + 1, more
        values = each.values
        del each  # which entries had gradient is as large as a weight, and the next step needs the room
        if step >= end and (not (found := twins(pair, values)) or step >= end + APART):
            break
    return Lived(units, found, step, end - by)


def live(units: Units, by: int, late: int = 0) -> Check:
    """Whether every new channel has had gradient by its step (or `late` ones after it), but for inactive
    ones."""
    if not units.new:
        return Check("liveness", None, detail="nothing new")
    share = units.live / max(1, units.new - units.inactive)
    dead = [f"{g.dead} of {g.new} {g.axis} channels of {g.slot}" for g in units.dead]
    detail = f"{units.new - units.inactive:,} channels by step {by + late}"
    detail += ", behind zeros that the old model has itself" if late else ""
    detail += f", {units.inactive:,} inactive" if units.inactive else ""
    asleep = [
        f"{g.new - g.live} of {g.new} new {g.axis} channels of {g.slot} (of old ones {g.old - g.old_live} of"
        f" {g.old})"
        for g in units.asleep
    ]
    if dead or asleep:
        detail = f"no gradient: {'; '.join(dead or asleep)}"
    return Check("liveness", not (dead or asleep), share, 1.0, detail)


def apart(found: Sequence[str], steps: int) -> Check:
    """Whether no new channels are copies of others (`found`) after so many steps."""
    detail = f"copies for ever: {', '.join(found)}" if found else f"no twins after {steps} steps"
    return Check("distinct", not found, float(len(found)), 0.0, detail)
