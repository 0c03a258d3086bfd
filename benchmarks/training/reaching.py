"""The shortest stage that ends with a loss: looked for among stages that are ever longer.

A stage is a part of a trunk, which all of them share, and a decay. Where every decay begins at once there is
no trunk, and each stage is run whole.

What the search costs is not counted, as it is not where a budget is looked for elsewhere in this benchmark.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.training.runs import Run, advance_, decayed, restore_, state_of

STRIDE = 3  # stages, until two are found that enclose it


@dataclass(frozen=True)
class Found:
    """The first stage that has the loss, or the last one; the run before its decay, and after it."""

    mark: int
    loss: float
    before: Any
    after: Any

    @property
    def decay(self) -> int:
        """What the decay cost."""
        return self.after[1].spent - self.before[1].spent


def first(run: Run, stages: Sequence[tuple[float, float]], target: float, near: int = 0) -> Found:
    """The first of these stages that ends with the loss; each says where its decay begins and where it ends.

    Places are in operations, and no stage is before the one ahead of it. The trunk is made once, no longer
    than the search needs. The search begins at the stage `near`; between two that enclose the loss it goes
    on where a straight line through theirs has it.
    """
    trunk: dict[float, Any] = {run.spent: _kept(run)}
    tried: dict[int, Found] = {}

    def reached(mark: int) -> bool:
        begin, end = stages[mark]
        if mark not in tried:
            furthest = max(trunk)
            if furthest < begin:
                restore_(run, trunk[furthest])
            for further in sorted({place for place, _ in stages if furthest < place <= begin}):
                advance_(run, further)
                trunk[further] = _kept(run)
            restore_(run, trunk[begin])
            loss = decayed(run, run.spent + end - begin)
            tried[mark] = Found(mark, loss, trunk[begin], _kept(run))
        return tried[mark].loss <= target

    last = len(stages) - 1
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


def spans(
    start: float, marks: Sequence[float], decay: float | None, budget: float
) -> list[tuple[float, float]]:
    """Stages from `start` on: each goes on for its mark, a share of the budget, and decays over `decay` of
    the budget.

    Without a `decay` all of a stage is the decay.
    """
    if decay is None:
        return [(start, start + mark * budget) for mark in marks]
    return [(start + mark * budget, start + (mark + decay) * budget) for mark in marks]


def _between(low: int, lacking: float, high: int, beyond: float) -> int:
    """The mark between these two at which a straight line through their losses is at the target."""
    share = lacking / (lacking + beyond) if math.isfinite(lacking) else 0.5  # a run that broke
    return min(max(math.ceil(low + share * (high - low)), low + 1), high - 1)


def _kept(run: Run) -> Any:
    return state_of(run), dataclasses.replace(run, growths=list(run.growths))
