"""What a run's folder says of it: its records by step, its stages, its growths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isogrow.errors import RecipeError

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run, finished or not."""

    name: str
    records: tuple[Record, ...]
    recipe: Mapping[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    finished: bool

    @property
    def growths(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if "growth" in record)

    def series(self, y: str, x: str = "step") -> tuple[list[float], list[float]]:
        """The records that have both, as two lists."""
        found = [(float(r[x]), float(r[y])) for r in self.records if x in r and r.get(y) is not None]
        return [a for a, _ in found], [b for _, b in found]


def opened(folder: str | Path) -> Run:
    """The run in a folder. Raises `RecipeError` where there is none."""
    folder = Path(folder)
    recipe, log = folder / "recipe.json", folder / "log.json"
    if not recipe.is_file():
        raise RecipeError(f"{folder} holds no run (recipe.json is missing): give the folder named in run")
    records = _json(log) if log.is_file() else _last(folder)
    stages = _json(folder / "stages.json") if (folder / "stages.json").is_file() else []
    return Run(folder.name, tuple(records), _json(recipe), tuple(stages), log.is_file())


def _last(folder: Path) -> list[Record]:
    """The records of the newest checkpoint that is whole."""
    states = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=lambda p: int(p.parent.name[11:]))
    for state in reversed(states):
        try:
            return json.loads(state.read_text(encoding="utf-8"))["log_history"]
        except (OSError, ValueError):
            continue
    raise RecipeError(f"{folder} has no checkpoint yet: set save_every, or wait for the run's end")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
