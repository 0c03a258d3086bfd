"""Where a trunk first is so far that a decay from there has a loss: looked for among marks of it.

What the search costs is not counted, as it is not where a budget is looked for elsewhere in this benchmark.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.training.runs import Run, advance_, decayed, restore_, state_of

STRIDE = 4  # marks, until two are found that enclose it


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

    The trunk is made no longer than the search needs, which begins at the place `near`.
    """
    trunk: dict[int, Any] = {-1: _kept(run)}
    tried: dict[int, Found] = {}

    def reached(mark: int) -> bool:
        if mark not in tried:
            if mark not in trunk:
                restore_(run, trunk[max(other for other in trunk if other < mark)])
                advance_(run, places[mark])
                trunk[mark] = _kept(run)
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
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return tried[high]


def _kept(run: Run) -> Any:
    return state_of(run), dataclasses.replace(run, growths=list(run.growths))
