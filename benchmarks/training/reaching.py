"""Where a trunk first is so far that a decay from there has a loss: looked for among marks of it.

What the search costs is not counted, as it is not where a budget is looked for elsewhere in this benchmark.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.training.runs import Run, advance_, decayed, restore_, state_of

STRIDE = 3  # marks, until two are found that enclose it


@dataclass(frozen=True)
class Found:
    """The first mark whose decay has the loss, or the last mark; the run before the decay, and after it."""

    mark: int
    loss: float
    before: Any
    after: Any

    @property
    def decay(self) -> int:
        """What the decay cost."""
        return self.after[1].spent - self.before[1].spent


def first(run: Run, places: Sequence[float], decay: float, target: float, near: int = 0) -> Found:
    """The first of these places, in operations, from which a decay over `decay` of them has the loss.

    The trunk is made once, no longer than the search needs. The search begins at the place `near`; between
    two places that enclose the loss it goes on where a straight line through theirs has it.
    """
    trunk: dict[int, Any] = {-1: _kept(run)}
    tried: dict[int, Found] = {}

    def reached(mark: int) -> bool:
        if mark not in tried:
            furthest = max(trunk)
            if furthest < mark:
                restore_(run, trunk[furthest])
            for further in range(furthest + 1, mark + 1):
                advance_(run, places[further])
                trunk[further] = _kept(run)
            restore_(run, trunk[mark])
            loss = decayed(run, run.spent + decay)
            tried[mark] = Found(mark, loss, trunk[mark], _kept(run))
        return tried[mark].loss <= target

    last = len(places) - 1
    low, high = -1, min(near, last)  # at `low` it is not reached
    while not reached(high):
        if high == last:
            return tried[last]
        low, high = high, min(high + STRIDE, last)
    while low < 0 < high:
        below = max(high - STRIDE, 0)
        low, high = (low, below) if reached(below) else (below, high)
    while high - low > 1:
        middle = _between(low, tried[low].loss - target, high, target - tried[high].loss)
        low, high = (low, middle) if reached(middle) else (middle, high)
    return tried[high]


def _between(low: int, lacking: float, high: int, beyond: float) -> int:
    """The mark between these two at which a straight line through their losses is at the target."""
    share = lacking / (lacking + beyond) if math.isfinite(lacking) else 0.5  # a run that broke
    return min(max(math.ceil(low + share * (high - low)), low + 1), high - 1)


def _kept(run: Run) -> Any:
    return state_of(run), dataclasses.replace(run, growths=list(run.growths))
