"""Small models that second stages start from: one of each kind is made, and kept in a folder for the others.

A process keeps none, if no folder is chosen.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.contestants import Contestant, Growth, Tuned, digest
from benchmarks.training.family import budget_of
from benchmarks.training.runs import Run, advance_, begun, finished, state_of
from benchmarks.training.scale import scale
from benchmarks.training.versions import versions

_chosen: list[Path | None] = [None]


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


def choose(folder: Path | None) -> None:
    """Keep here what this process makes, and take what another has kept."""
    _chosen[:] = [folder]


def small_of(second: Second, tuned: Tuned, seed: int, stage: str) -> Run:
    """The small model as it is there, before it grows."""
    growth = Growth(0.0, second.size, second.method, second.options, second.rate, second.rewarm)
    contestant = Contestant(second.name, stage, second.start, (growth,))
    budget = budget_of(second.start, second.learned, tuned.matrices)
    run = begun(contestant, tuned, seed, budget)
    of = scale().sizes[second.start], second.learned, second.decayed, tuned, seed
    key = digest(*of, versions())
    (folder,) = _chosen
    path = folder / f"small-{key}.pt" if folder else None
    if path and path.exists():
        saved = torch.load(path, weights_only=True)
        run.model.load_state_dict(saved["model"])
        run.optimizer.load_state_dict(saved["optimizer"])
        return dataclasses.replace(run, **saved["counts"])
    (finished if second.decayed else advance_)(run, budget)
    if path:
        _keep(run, path)
    return run


def _keep(run: Run, path: Path) -> None:
    """Write it under a name of its own first, since two processes may make the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    torch.save({**state_of(run), "counts": dict(step=run.step, spent=run.spent, seconds=run.seconds)}, part)
    part.rename(path)
