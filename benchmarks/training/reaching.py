"""How long a stage must be to end with a loss: looked for among stages that are ever longer.

A stage is a part of a trunk, which all of them share, and a decay. Where every decay begins at once there is
no trunk, and each stage is run whole.

What the search costs is not counted, as it is not where a budget is looked for elsewhere in this benchmark.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.training.runs import CLOSE, Run, advance_, decayed, restore_, state_of

STRIDE = 3  # stages, at most, between two that enclose it


@dataclass(frozen=True)
class Found:
    """A stage that has the loss, or the last one; the run before its decay, and after it.

    `beyond`: by how many operations it is longer than a stage that just has it, read off a straight line to a
    stage at most STRIDE before it that has it not; 0 where the first stage has it, which may be too long.
    `tried`: the loss of each stage that the search looked at, by its mark.
    """

    mark: int
    loss: float
    before: Any
    after: Any
    beyond: float = 0.0
    tried: Mapping[int, float] = field(default_factory=dict[int, float])

    @property
    def decay(self) -> int:
        """What the decay cost."""
        return self.after[1].spent - self.before[1].spent


def first(run: Run, stages: Sequence[tuple[float, float]], target: float, near: int = 0) -> Found:
    """Where these stages first end with the loss; each says where its decay begins and where it ends.

    Places are in operations, and no stage is before the one ahead of it. The trunk is made once, no longer
    than the search needs. The search begins at the stage `near`, and ends with two that enclose the loss:
    where a longer stage may end with a higher loss, `near` says which two. What is far from the loss goes on
    along the line through the last two; as losses fall ever more slowly, that is not too far.
    """
    trunk: dict[float, Any] = {run.spent: _kept(run)}
    tried: dict[int, Found] = {}
    losses: dict[int, float] = {}

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
            losses[mark] = loss
            tried[mark] = Found(mark, loss, trunk[begin], _kept(run), tried=losses)
        return tried[mark].loss <= target

    last = len(stages) - 1
    low, high = -1, min(near, last)  # at `low` it is not reached
    while not reached(high):
        if high == last:
            return tried[last]
        low, high = high, min(max(high + STRIDE, _expected(stages, losses, target)), last)
    while high > 0 if low < 0 else high - low > STRIDE:
        below = max(high - STRIDE, 0)
        low, high = (low, below) if reached(below) else (below, high)
    if low < 0:
        return tried[high]
    lacking, over = tried[low].loss - target, target - tried[high].loss
    share = over / (lacking + over) if math.isfinite(lacking) else 0.0  # a run that broke tells nothing
    return dataclasses.replace(tried[high], beyond=share * (stages[high][1] - stages[low][1]))


def _expected(stages: Sequence[tuple[float, float]], losses: Mapping[int, float], target: float) -> int:
    """The first stage that has the loss on the line through the two longest that were tried; 0 where there
    is none."""
    *_, one, two = (-1, *sorted(losses))
    fell = losses[one] - losses[two] if one >= 0 else 0.0
    if not fell > 0 or not math.isfinite(fell):
        return 0
    (_, before), (_, after) = stages[one], stages[two]
    wanted = after + (losses[two] - target) * (after - before) / fell
    return next((mark for mark, (_, end) in enumerate(stages) if end * CLOSE >= wanted), len(stages) - 1)


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


def _kept(run: Run) -> Any:
    return state_of(run), dataclasses.replace(run, growths=list(run.growths))
