"""How long a rate falls to 0 at the end of some steps: a share of them, or a number."""

from __future__ import annotations


def falling(decay: float, steps: int) -> int:
    """Of so many steps, those over which the rate falls: below 1 `decay` is a share of them, else a number.

    >>> falling(0.2, 500), falling(0.2, 1), falling(30.0, 500), falling(0.0, 500)
    (100, 1, 30, 0)
    """
    if decay == 0:
        return 0
    return max(1, round(decay * steps)) if decay < 1 else int(decay)


def decay_fault(decay: float, shortest: int) -> str | None:
    """What is wrong with a decay of steps that are at least so many."""
    if decay >= 1 and decay != int(decay):
        return f"is {decay}: give a share of the stage's steps, below 1, or a whole number of steps"
    if decay >= 1 and decay > shortest:
        return (
            f"is {int(decay)} steps, and the stage may end after {shortest}: give a decay that is no longer"
            " than the stage, or a share of it, below 1"
        )
    return None
