"""A run's folder: whose it is, its last checkpoint, how it ended. What is not whole goes by another name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import Trainer

from isogrow.errors import IsogrowError, RecipeError
from isogrow.paths import expanded
from isogrow.recipes.reading import parse
from isogrow.recipes.recipe import Recipe
from isogrow.train.kept import (
    CARD,
    CORPUS,
    FINAL,
    LOG,
    OUTCOME,
    RECIPE,
    STAGES,
    TOKENS,
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


def claim(folder: Path, recipe: Recipe) -> bool:
    """Note the recipe in the run's folder, or see that it is that of the run; whether it is new.

    Raises `RecipeError` as `check_claimable` does.
    """
    check_claimable(folder, recipe)
    path, ours = folder / RECIPE, _plain(recipe)
    fresh = not path.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if fresh or _plain(_noted(path)) != ours:
        write(path, ours)
    return fresh


def check_claimable(folder: Path, recipe: Recipe) -> None:
    """Refuse a folder that is neither free nor of this recipe's run. Nothing is written.

    A run that has no checkpoint, no release and no model yet has nothing to lose, and its folder may be
    claimed anew for another recipe. Raises `RecipeError` for a folder of another run, or of no run, and for a
    file.
    """
    path = folder / RECIPE
    if not path.exists():
        _check_free(folder)
        return
    before, ours = _plain(_noted(path)), _plain(recipe)
    changed = [key for key in ours if ours[key] != before[key]]
    made = checkpoints(folder) or releases(folder) or any((folder / n).exists() for n in (OUTCOME, FINAL))
    if changed and made:
        raise RecipeError(
            f"{folder} holds a run of another recipe (its {', '.join(changed)} differ): name another"
            " folder in run, or go back to that recipe"
        )


@contextmanager
def left_as_it_was(folder: Path, fresh: bool) -> Generator[None]:
    """A start that is refused leaves nothing in a folder that was free before (`fresh`)."""
    try:
        yield
    except IsogrowError:
        if fresh:
            _free(folder)
        raise


def _free(folder: Path) -> None:
    """Remove what a run writes before its first step, and the folder if that was all."""
    for name in (RECIPE, STAGES, CORPUS):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / TOKENS, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


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
    """Refuse a folder in which something is that no run has left: a run's first file is its recipe."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise RecipeError(f"run: {there} is a file, and a run has a folder: name another folder in run")
    first = (folder / RECIPE).with_suffix(".unfinished")  # all that a kill leaves before there is a recipe
    held = sorted(path for path in folder.iterdir() if path != first) if there == folder else []
    if held:
        raise RecipeError(
            f"{folder} holds {held[0].name} but no {RECIPE}, so it is not a recipe's run, which would"
            " write into it: name another folder in run, or move that away"
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
    """What a run that has ended wrote of its end, and of those that it released."""
    found = said(folder / OUTCOME, "step", "loss", "held_out")
    loss, held_out = (next(iter(found[key]), None) for key in ("loss", "held_out"))
    released = tuple(told(path) for path in releases(folder) if (path / OUTCOME).exists())
    return Outcome(folder / FINAL, found["step"], loss, held_out, released)
