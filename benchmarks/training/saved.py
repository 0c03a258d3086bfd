"""What a contestant saved on a seed, and what that says over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Student's t at 97.5 %, by degrees of freedom.
STUDENT = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Reached:
    """Where a loss is reached: share of the budget, and seconds. Not `found`: the nearest that was tried."""

    share: float
    seconds: float
    found: bool = True


@dataclass(frozen=True)
class Interval:
    """A mean, and the half width of its 95 % interval."""

    mean: float
    half: float


def reached(losses: Mapping[str, float], seconds: Mapping[str, float], loss: float) -> Reached:
    """Where losses by share of the budget pass `loss`: linear in the logarithm of the share.

    >>> reached({"0.5": 2.0, "1.0": 1.0}, {"0.5": 10.0, "1.0": 20.0}, 1.5).share ** 2
    0.5
    """
    shares = sorted(losses, key=float)
    for low, high in zip(shares, shares[1:], strict=False):
        if losses[high] <= loss < losses[low]:
            part = (losses[low] - loss) / (losses[low] - losses[high])
            share = float(low) * (float(high) / float(low)) ** part
            between = (share - float(low)) / (float(high) - float(low))
            return Reached(share, seconds[low] + between * (seconds[high] - seconds[low]))
    end = shares[0] if losses[shares[0]] <= loss else shares[-1]
    return Reached(float(end), seconds[end], found=losses[end] == loss)


def said(values: Sequence[float], digits: str) -> str:
    """Their mean and its interval; of one the value alone."""
    return told(interval(values), digits) if len(values) > 1 else f"{values[0]:{digits}}"


def told(found: Interval, digits: str) -> str:
    """
    >>> told(Interval(7.02, 8.3), "+.1f")
    '+7.0 ± 8.3'
    """
    return f"{found.mean:{digits}} ± {found.half:{digits.lstrip('+')}}"


def interval(values: Sequence[float]) -> Interval:
    """Student's, over seeds."""
    n = len(values)
    spread = statistics.stdev(values) if n > 1 else math.inf
    return Interval(statistics.mean(values), STUDENT[n - 1] * spread / math.sqrt(n))
