"""Small models that second stages start from: one of each kind is made and kept for the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.training.contestants import Contestant, Growth, Tuned, digest
from benchmarks.training.family import budget_of
from benchmarks.training.runs import Run, advance_, begun, finished, keep, take_
from benchmarks.training.scale import scale
from benchmarks.training.versions import versions


@dataclass(frozen=True)
class Second:
    """A small model that has learned `learned` bytes for each parameter, `decayed` at the end or not, made
    larger by a method of `methods.METHODS`; after it the tuned rate is multiplied by `rate`, and rises from
    nothing over `rewarm` steps."""

    name: str
    start: str
    size: str
    learned: float
    decayed: bool = False
    method: str = "grow"
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    rate: float = 1.0
    rewarm: int = 0


def small_of(second: Second, tuned: Tuned, seed: int, cache: Path | None = None) -> Run:
    """The small model as it is there, before it grows; with a folder from there, if it was made before."""
    growth = Growth(0.0, second.size, second.method, second.options, second.rate, second.rewarm)
    contestant = Contestant(second.name, "second", second.start, (growth,))
    budget = budget_of(second.start, second.learned, tuned.matrices)
    run = begun(contestant, tuned, seed, budget)
    of = scale().sizes[second.start], second.learned, second.decayed, tuned, seed
    path = cache / f"small-{digest(*of, versions())}.pt" if cache else None
    if path and path.exists():
        take_(run, path)
        return run
    (finished if second.decayed else advance_)(run, budget)
    if path:
        keep(run, path)
    return run
