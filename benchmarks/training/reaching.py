"""Where a trunk first is so far that a decay from there has a loss: by bisection on marks of it.

What the search costs is not counted, as it is not where a budget is looked for elsewhere in this benchmark.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks.training.runs import Run, advance_, decayed, restore_, state_of


def marked(run: Run, places: Sequence[float]) -> list[Any]:
    """The trunk's state at each of these numbers of operations."""
    kept: list[Any] = []
    for place in places:
        advance_(run, place)
        kept.append((state_of(run), dataclasses.replace(run, growths=list(run.growths))))
    return kept


def first(run: Run, kept: Sequence[Any], decay: float, target: float) -> tuple[int, float, int]:
    """The first mark from which a decay has the loss, that loss and the decay's operations; else the last."""
    low, high, tried = 0, len(kept) - 1, dict[int, tuple[float, int]]()

    def at(mark: int) -> float:
        restore_(run, kept[mark])
        start = run.spent
        tried[mark] = decayed(run, start + decay), run.spent - start
        return tried[mark][0]

    if at(high) <= target:
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if at(middle) <= target else (middle + 1, high)
    return high, *tried[high]
