"""A release as a run of its own: the recipe ended after the stage, which goes on from where the trunk stood.

The branch sees the batches that the trunk sees next, so its model is, bit for bit, that of a recipe whose
last stage is this one, longer by the decay. The trunk waits for it, and goes on as if nothing had been.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from transformers import Trainer

from isogrow.recipes.progress import stage_number
from isogrow.recipes.recipe import Recipe, Stage
from isogrow.train.kept import RELEASED, released_name
from isogrow.train.schedule import last_growth


def due(recipe: Recipe, trunk: Trainer) -> int | None:
    """The number of the stage that ends now, if its model is to be released."""
    if trunk.state.global_step == 0:  # a checkpoint that grows at once: no stage ends
        return None
    number = stage_number(recipe, trunk.state.log_history)
    return number if recipe.stages[number - 1].release is not None else None


def ended_at(recipe: Recipe, number: int, lasted: int) -> Recipe:
    """The recipe of stage `number`'s release, which decays after the steps that the stage has had."""
    last = recipe.stages[number - 1]
    assert last.release is not None
    decay = last.release.steps(lasted)
    stages = (*recipe.stages[: number - 1], _for(last, lasted + decay))
    return dataclasses.replace(
        recipe,
        run=f"{recipe.run}/{RELEASED}/{released_name(number)}",
        training=dataclasses.replace(recipe.training, decay=decay),
        stages=tuple(dataclasses.replace(stage, release=None) for stage in stages),
    )


def _for(stage: Stage, steps: int) -> Stage:
    return dataclasses.replace(stage, steps=steps, tokens=0, slope=None)


def lasted(trunk: Trainer) -> int:
    """How many steps the trunk's stage has had."""
    return trunk.state.global_step - last_growth(trunk.state.log_history)


def save(trunk: Trainer, folder: Path) -> None:
    """The trunk's whole state, before its growth, as a checkpoint in `folder`."""
    own = trunk.args.output_dir
    trunk.args.output_dir = str(folder)
    try:
        trunk._save_checkpoint(trunk.model, None)  # pyright: ignore[reportPrivateUsage, reportArgumentType]
    finally:
        trunk.args.output_dir = own


@contextmanager
def apart(trunk: Trainer) -> Generator[None]:
    """What is drawn inside leaves the trunk's random numbers as they were, on every device."""
    with tempfile.TemporaryDirectory() as kept:
        trunk._save_rng_state(kept)  # pyright: ignore[reportPrivateUsage]
        try:
            yield
        finally:
            trunk._load_rng_state(kept)  # pyright: ignore[reportPrivateUsage]
