"""A run's folder: its recipe, its checkpoints, how it ended. What is not whole goes by another name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Trainer

from isogrow.errors import RecipeError
from isogrow.train.recipe import Recipe
from isogrow.train.schedule import History
from isogrow.train.trainer import STATE

RECIPE, STAGES, LOG, OUTCOME = "recipe.json", "stages.json", "log.json", "outcome.json"
FINAL, TOKENS = "model", "tokens"


@dataclass(frozen=True)
class Outcome:
    """Where a finished run's model is, at which step it ended, and its last losses."""

    model: Path
    step: int
    loss: float | None
    held_out: float | None


def last_complete(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a kill left half-written is removed.

    Trainer writes its state last, so a checkpoint without a readable state is none.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in reversed(found):
        try:
            json.loads((path / STATE).read_text(encoding="utf-8"))
            return path
        except (OSError, ValueError):
            shutil.rmtree(path)
    return None


def claim(folder: Path, recipe: Recipe) -> None:
    """Note the recipe in the run's folder, or see that it is the same one."""
    said = json.loads(json.dumps(dataclasses.asdict(recipe)))
    path = folder / RECIPE
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key in said if said[key] != before.get(key)]
        if changed:
            raise RecipeError(
                f"{folder} holds a run of another recipe (its {', '.join(changed)} differ): name another"
                " folder in run, or go back to that recipe"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write(path, said)


def write(path: Path, said: Any) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(said, indent=1), encoding="utf-8")
    unfinished.rename(path)


def finished(folder: Path, trainer: Trainer) -> Outcome:
    """Save the final model under its name, whole, and note how the run ended."""
    unfinished = folder / f"{FINAL}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    trainer.save_model(str(unfinished))
    shutil.rmtree(folder / FINAL, ignore_errors=True)
    unfinished.rename(folder / FINAL)
    # Trainer's last record sums up this process, not the run.
    history: History = [record for record in trainer.state.log_history if "train_loss" not in record]
    losses = [float(record["loss"]) for record in history if "loss" in record]
    held_out = [float(record["eval_loss"]) for record in history if "eval_loss" in record]
    ended = {"step": trainer.state.global_step, "loss": losses[-1:], "held_out": held_out[-1:]}
    write(folder / LOG, history)
    write(folder / OUTCOME, ended)
    return told(folder)


def told(folder: Path) -> Outcome:
    said = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    loss, held_out = (next(iter(said[key]), None) for key in ("loss", "held_out"))
    return Outcome(folder / FINAL, said["step"], loss, held_out)
