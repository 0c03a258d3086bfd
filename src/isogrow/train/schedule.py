"""When a run grows and how its rate runs, as functions of its own log: so a resumed run decides alike.

A run's log is a list of records by step: `{"step": 40, "loss": 2.1}`, at growths `{"step": 500,
"growth": 1}`, and `{"step": 900, "stage": 3}` where a stage begins without one. Nothing else is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isogrow.errors import SizeError
from isogrow.optim.moments import Policy
from isogrow.plans.expansions import Size
from isogrow.plans.plan import Init

LOSSES = 3  # that a slope is fitted to, at the least
History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plateau:
    """The loss falls by less than `below` a step, by a line fitted to the last `window` steps.

    Steps are counted from the growth before: no earlier than `at_least`, and at `at_most` in any case.
    """

    below: float
    at_most: int
    window: int = 100
    at_least: int = 0


@dataclass(frozen=True)
class Growth:
    """One growth of a run: after a step of the run (0: before the first), or on a plateau of its loss.

    Without sizes it grows nothing, and is the end of a stage alone.
    """

    sizes: Mapping[str, Size]
    at: int | Plateau
    layers_at: str | tuple[int, ...] = "end"
    init: Init = field(default_factory=Init)
    policy: Policy = field(default_factory=Policy)
    seed: int = 0


def grown(history: History) -> int:
    """How many of its growths a run has behind it, those of no size included."""
    return len(growths_of(history))


def growths_of(history: History) -> list[Mapping[str, Any]]:
    """The records of growths, those of no size included."""
    return [record for record in history if "growth" in record or "stage" in record]


def due(growths: Sequence[Growth], history: History, step: int) -> Growth | None:
    """The growth that is to be done after this step, if any."""
    done = grown(history)
    if done >= len(growths):
        return None
    growth = growths[done]
    if isinstance(growth.at, int):
        return growth if step >= growth.at else None
    return growth if _flat(growth.at, history, step) else None


def _flat(plateau: Plateau, history: History, step: int) -> bool:
    start = last_growth(history)
    if step - start >= plateau.at_most:
        return True
    since = max(start, step - plateau.window - 1)  # the step that has just ended is not logged yet
    losses = [(r["step"], r["loss"]) for r in history if "loss" in r and r["step"] > since]
    if step - start < max(plateau.at_least, plateau.window) or len(losses) < LOSSES:
        return False
    steps, values = np.array(losses, dtype=np.float64).T
    return bool(-np.polyfit(steps - steps[0], values, 1)[0] < plateau.below)


def last_growth(history: History) -> int:
    """The step after which the run last grew, or last ended a stage; 0 if it has not."""
    return max((int(record["step"]) for record in growths_of(history)), default=0)


def check_kinds(growths: Sequence[Growth]) -> None:
    """Raises `SizeError` for what is no sequence of growths, and for a growth of other things than it has."""
    if isinstance(growths, str | Growth) or not isinstance(growths, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SizeError(f"growths are given as {growths!r:.60}: give a list, [Growth(...)]")
    for number, growth in enumerate(growths, 1):
        if not isinstance(growth, Growth):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SizeError(
                f"growth {number} is {growth!r:.60}: give a Growth, like Growth({{'ffn': 'x2'}}, at=500)"
            )
        for name, kind in (("sizes", Mapping), ("init", Init), ("policy", Policy)):
            if not isinstance(getattr(growth, name), kind):
                raise SizeError(
                    f"growth {number} has {name}={getattr(growth, name)!r:.60}: give a"
                    f" {'dict of sizes by name' if kind is Mapping else f'isogrow.{kind.__name__}'}"
                )


def check(growths: Sequence[Growth], logged: int | None, steps: int = 0) -> None:
    """Raises `SizeError` for growths out of order, for one at a step that a run of so many `steps` (0: not
    known) does not have, and for a plateau that could never be seen.

    `logged`: the loss is logged every so many steps; None if it is not logged by steps.
    """
    last = 0
    for number, growth in enumerate(growths, 1):
        if isinstance(growth.at, Plateau):
            _check_plateau(growth.at, number, logged)
        elif not isinstance(growth.at, int) or isinstance(growth.at, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SizeError(
                f"growth {number} is at {growth.at!r}: give the number of a step, as an int, or a Plateau"
            )
        elif growth.at < 0:
            raise SizeError(
                f"growth {number} is at step {growth.at}: give 0, which is before the first step, or a later"
                " one"
            )
        elif growth.at < last:
            raise SizeError(
                f"growth {number} is at step {growth.at}, after one at step {last}: give growths in order"
            )
        elif 0 < steps < growth.at:
            raise SizeError(
                f"growth {number} is at step {growth.at}, and the run has {steps}: give an earlier step, or"
                " train longer"
            )
        else:
            last = growth.at


def _check_plateau(plateau: Plateau, number: int, logged: int | None) -> None:
    for name in ("at_most", "window", "at_least", "below"):
        value: object = getattr(plateau, name)
        kind, what = (int | float, "a number") if name == "below" else (int, "a number of steps, as an int")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise SizeError(f"growth {number} waits for a plateau with {name}={value!r:.60}: give {what}")
    seen = logged is not None and plateau.window >= LOSSES * logged
    if seen or max(plateau.at_least, plateau.window) >= plateau.at_most:  # by its number of steps alone
        return
    every = "not logged by steps" if logged is None else f"logged every {logged} steps"
    raise SizeError(
        f"growth {number} waits for a plateau of {plateau.window} steps, which takes {LOSSES} losses to see,"
        f" and the loss is {every}: make the window longer, or logging_steps shorter"
    )


def share(step: int, warmup: int, decay: int, end: int | None) -> float:
    """The part of the peak rate at a step (from 0): linear warmup, stable, linear decay to 0 at `end`.

    >>> [share(step, 2, 2, 6) for step in range(6)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.5]
    """
    if step < warmup:
        return (step + 1) / warmup
    if end is None or not decay or step < end - decay:
        return 1.0
    return max(0.0, (end - step) / decay)
