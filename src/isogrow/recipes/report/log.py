"""What a run's folder says of it: its records by step, its stages, its growths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isogrow.errors import RecipeError
from isogrow.paths import expanded
from isogrow.train.kept import LOG, RECIPE, STAGES, checkpoints, damaged, history, releases, said

Record = Mapping[str, Any]


@dataclass(frozen=True)
class LoggedRun:
    """A run, finished or not."""

    name: str
    records: tuple[Record, ...]
    recipe: Mapping[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    finished: bool
    releases: tuple[LoggedRun, ...] = ()

    @property
    def decay(self) -> int:
        """How many steps the run's decay has, by its recipe."""
        training: Mapping[str, Any] = self.recipe.get("training") or {}
        return int(training.get("decay") or 0)

    @property
    def last_step(self) -> int:
        return max((int(record["step"]) for record in self.records if "step" in record), default=0)

    @property
    def growths(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if "growth" in record)

    def series(self, y: str, x: str = "step") -> tuple[list[float], list[float]]:
        """The records that have both, as two lists."""
        found = [(float(r[x]), float(r[y])) for r in self.records if x in r and r.get(y) is not None]
        return [a for a, _ in found], [b for _, b in found]

    def grown_at(self, x: str = "step") -> list[float]:
        """Where the growths are on an axis, which is read off the records beside them."""
        steps, values = self.series(x)
        if not steps:
            return []
        grown = [float(record["step"]) for record in self.growths if "step" in record]
        return np.interp(grown, [0.0, *steps], [0.0, *values]).tolist()


def opened(folder: str | Path) -> LoggedRun:
    """The run in a folder. Raises `RecipeError` where there is none."""
    folder = expanded(folder)
    if not (folder / RECIPE).is_file():
        raise RecipeError(f"{folder} holds no run ({RECIPE} is missing): give the folder named in run")
    recipe, ended = said(folder / RECIPE), (folder / LOG).is_file()
    records = _listed(folder / LOG) if ended else _last(folder)
    stages = _listed(folder / STAGES) if (folder / STAGES).is_file() else ()
    branches = tuple(opened(path) for path in releases(folder) if (path / LOG).is_file())
    return LoggedRun(folder.name, records, recipe, stages, ended, branches)


def _last(folder: Path) -> tuple[Record, ...]:
    """The records of the newest checkpoint that is whole."""
    for checkpoint in reversed(checkpoints(folder)):
        found = history(checkpoint)
        if found is not None:
            return tuple(found)
    raise RecipeError(f"{folder} has no checkpoint yet: set save_every, or wait for the run's end")


def _listed(path: Path) -> tuple[Record, ...]:
    """The records in a file."""
    found = said(path)
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise damaged(path, "is no list of records")
    return tuple(found)
