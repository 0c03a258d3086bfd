"""A run's folder: whose it is, its last checkpoint, how it ended. What is not whole goes by another name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import Trainer

from isogrow.errors import RecipeError
from isogrow.paths import expanded
from isogrow.recipes.reading import parse
from isogrow.recipes.recipe import Recipe
from isogrow.train.kept import (
    CARD,
    CHECKPOINT,
    FINAL,
    LOG,
    OUTCOME,
    RECIPE,
    RELEASED,
    STAGES,
    checkpoints,
    history,
    releases,
    said,
    write,
)
from isogrow.train.schedule import History


@dataclass(frozen=True)
class Outcome:
    """Where a finished run's model is, at which step it ended, and its last losses.

    `released` are the outcomes of its releases, by stage.
    """

    model: Path
    step: int
    loss: float | None
    held_out: float | None
    released: tuple[Outcome, ...] = ()


def folder_of(recipe: Recipe, base: Path) -> Path:
    """The run's folder."""
    return base / expanded(recipe.run)


def last_complete(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; what a kill left half-written is removed.

    The folder must be claimed: in another one what looks half-written may be somebody's.
    """
    for path in reversed(checkpoints(folder)):
        if history(path) is not None:
            return path
        shutil.rmtree(path)
    return None


def claim(folder: Path, recipe: Recipe) -> None:
    """Note the recipe in the run's folder, or see that it is the one of the run there.

    A run that has no checkpoint and no release yet has nothing to lose, and the folder is claimed anew for
    another recipe. Raises `RecipeError` for a folder of another run, or of no run, that one would overwrite.
    """
    path, ours = folder / RECIPE, _plain(recipe)
    if not path.exists():
        _check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write(path, ours)
        return
    before = _plain(_noted(path))
    changed = [key for key in ours if ours[key] != before[key]]
    if changed and (checkpoints(folder) or releases(folder) or (folder / OUTCOME).exists()):
        raise RecipeError(
            f"{folder} holds a run of another recipe (its {', '.join(changed)} differ): name another"
            " folder in run, or go back to that recipe"
        )
    if changed:
        write(path, ours)


def _plain(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON has it, every default filled in."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


def _noted(path: Path) -> Recipe:
    """The recipe that a run has noted, maybe before a field of today was there."""
    found: Any = said(path)
    model: Any = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict) or "source" not in model:
        raise RecipeError(f"{path} is not a run's, which would overwrite it: name another folder in run")
    renamed = {**model, "from": model["source"]}
    del renamed["source"]
    return parse({**found, "model": renamed}, str(path))


def learned(model: Path) -> int:
    """How many tokens a model has learned, where it is what a recipe's run made; 0 where nothing tells it."""
    run = model.parent
    if model.name != FINAL or not all((run / name).exists() for name in (RECIPE, OUTCOME)):
        return 0
    recipe = _noted(run / RECIPE)
    if recipe.model.source and not recipe.model.learned:
        return 0
    return recipe.model.learned + said(run / OUTCOME, "step")["step"] * recipe.tokens_per_step


def _check_free(folder: Path) -> None:
    """Refuse a folder that is no run's, and in which one would remove or overwrite something."""
    held = [folder / name for name in (STAGES, LOG, OUTCOME, FINAL, RELEASED) if (folder / name).exists()]
    held += sorted(folder.glob(f"{CHECKPOINT}*"))
    if held:
        raise RecipeError(
            f"{folder} holds {held[0].name} but no {RECIPE}, so it is not a recipe's run, which would"
            " overwrite it: name another folder in run, or move that away"
        )


def finished(
    folder: Path, trainer: Trainer, card: Callable[[History], str], weights: dict[str, Tensor] | None = None
) -> Outcome:
    """Save the final model (with these `weights`, if it has not all of them) and its card under its name,
    whole, and note how the run ended."""
    unfinished = folder / f"{FINAL}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    if weights is None:
        trainer.save_model(str(unfinished))
    else:
        trainer._save(str(unfinished), weights)  # pyright: ignore[reportPrivateUsage]
    # Trainer's last record sums up this process, not the run.
    records: History = [record for record in trainer.state.log_history if "train_loss" not in record]
    (unfinished / CARD).write_text(card(records), encoding="utf-8")
    shutil.rmtree(folder / FINAL, ignore_errors=True)
    unfinished.rename(folder / FINAL)
    losses = [float(record["loss"]) for record in records if "loss" in record]
    held_out = [float(record["eval_loss"]) for record in records if "eval_loss" in record]
    ended = {"step": trainer.state.global_step, "loss": losses[-1:], "held_out": held_out[-1:]}
    write(folder / LOG, records)
    write(folder / OUTCOME, ended)
    return told(folder)


def told(folder: Path) -> Outcome:
    found = said(folder / OUTCOME, "step", "loss", "held_out")
    loss, held_out = (next(iter(found[key]), None) for key in ("loss", "held_out"))
    released = tuple(told(path) for path in releases(folder) if (path / OUTCOME).exists())
    return Outcome(folder / FINAL, found["step"], loss, held_out, released)
