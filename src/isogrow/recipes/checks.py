"""What a recipe can't be, though each of its keys and values may: checked before anything starts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from isogrow.errors import IsogrowError, RecipeError
from isogrow.plans.plan import Init
from isogrow.recipes.falling import decay_fault, falling
from isogrow.recipes.recipe import Recipe, Stage, Start
from isogrow.recipes.release import fault
from isogrow.train.schedule import LOSSES

STARTING = (
    "layers_at",
    "init",
    "init_std",
    "ramp",
    "ramp_from",
    "new_rate",
    "old_rate",
    "rates_for",
)  # of a stage that grows


def check(recipe: Recipe, where: str) -> None:
    """Refuse a recipe that can't be carried out, as far as it says so itself (`RecipeError`)."""
    model = recipe.model
    faults = [
        (not recipe.run, "run is missing: name the folder of the run"),
        (not recipe.stages, "stages are missing: give at least one, like {steps: 500}"),
        (
            bool(model.family) == bool(model.source),
            "model needs family (with sizes) or from, and not both",
        ),
        (
            bool(model.learned) and not model.source,
            "model, learned is how many tokens a checkpoint has learned: give from, or leave it out",
        ),
        (
            bool(model.config) and bool(model.source),
            f"model, config says {', '.join(model.config)}, and the model in from has a config of its own:"
            " leave it out, or change the config.json there",
        ),
        (
            model.std != Start().std and bool(model.source),
            "model, std is that of a new model's weights, and from has weights: leave it out (init_std of a"
            " stage is that of what it adds)",
        ),
        (not recipe.data.train, "data, train is missing: name the files to learn from"),
    ]
    for wrong, sentence in faults:
        if wrong:
            raise RecipeError(f"{where}: {sentence}")
    _check_config(model.config, where)
    for number, stage in enumerate(recipe.stages, 1):
        _check_stage(recipe, stage, number, where)
    _check_rate(recipe, where)


def _check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse what a config.json can't hold, since YAML knows dates, too; and +4, which is read as a word."""
    for key, value in config.items():
        if (word := _signed(value)) is not None:
            raise RecipeError(f"{where}, model, config: {key} holds {word!r}, a word here: leave out the +")
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"{where}, model, config: {key} is {value!r}, which a config.json can't hold: write a number,"
                " a text in quotes, a list or keys with values"
            ) from error


def _signed(value: Any) -> str | None:
    """A number with a plus in a config's value: a recipe keeps it as a word."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        inside: list[Any] = value
        return next((word for each in inside if (word := _signed(each)) is not None), None)
    return value if isinstance(value, str) and re.fullmatch(r"\+[\d.][\w.+-]*", value) else None


def _check_stage(recipe: Recipe, stage: Stage, number: int, where: str) -> None:
    lengths = [bool(stage.steps), bool(stage.tokens), stage.slope is not None]
    if sum(lengths) != 1:
        raise RecipeError(f"{where}, stage {number}: give steps, tokens or slope, and one of them")
    if number == 1 and stage.sizes and not recipe.model.source:
        raise RecipeError(
            f"{where}, stage 1 grows {', '.join(stage.sizes)}: the first stage's sizes are the model's; say"
            " them there"
        )
    _check_start(recipe, stage, f"{where}, stage {number}")
    _check_falling(recipe, stage, number, where)
    _check_release(recipe, stage, number, where)
    slope = stage.slope
    if slope is None:
        return
    _check_rates_end(recipe, stage, number, where)
    if slope.window < LOSSES * recipe.training.log_every:
        raise RecipeError(
            f"{where}, stage {number}: a slope's window of {slope.window} steps holds fewer than {LOSSES}"
            f" losses, which are logged every {recipe.training.log_every}: make it longer, or log_every"
            " shorter"
        )
    if number == len(recipe.stages):
        raise RecipeError(f"{where}, stage {number} is the last, which ends by steps or tokens: give one")
    if not 0 < slope.window <= slope.at_most or not slope.at_least <= slope.at_most:
        raise RecipeError(
            f"{where}, stage {number}: a slope needs window and at_least up to at_most, and they are"
            f" {slope.window}, {slope.at_least} and {slope.at_most}"
        )


def _check_falling(recipe: Recipe, stage: Stage, number: int, where: str) -> None:
    """A stage's own warmup and decay lie within it, and one decay alone ends the run."""
    shortest = recipe.shortest(stage)
    falls, wrong = falling(stage.decay, shortest), decay_fault(stage.decay, shortest)
    faults = [
        (wrong is not None, f"has a decay that {wrong}"),
        (
            stage.decay and stage.slope is not None,
            "ends by a slope, and a decay falls to a known end: give steps or tokens, or leave it out",
        ),
        (
            stage.warmup + falls > shortest,
            f"may end after {shortest} steps, and its warmup has {stage.warmup} and its decay {falls}: make"
            " it longer, or these shorter",
        ),
        (
            number == len(recipe.stages) and stage.decay and recipe.training.decay,
            "is the last and has a decay, and so has training: give one of them",
        ),
    ]
    for is_so, sentence in faults:
        if is_so:
            raise RecipeError(f"{where}, stage {number} {sentence}")


def _check_release(recipe: Recipe, stage: Stage, number: int, where: str) -> None:
    if stage.release is None:
        return
    wrong = fault(stage.release, number, len(recipe.stages), recipe.shortest(stage), stage.decay)
    if wrong is not None:
        raise RecipeError(f"{where}, stage {number} {wrong}")


def _check_rates_end(recipe: Recipe, stage: Stage, number: int, where: str) -> None:
    """After a stage of unknown length only a growth ends its rates by itself."""
    after = recipe.stages[number : number + 1]
    own = (stage.new_rate, stage.old_rate) != (1.0, 1.0)
    if own and not stage.rates_for and after and not after[0].sizes:
        raise RecipeError(
            f"{where}, stage {number} ends by a slope, and stage {number + 1} grows nothing, so its rates"
            " would last into that: say for how many steps (rates_for)"
        )


def _check_start(recipe: Recipe, stage: Stage, where: str) -> None:
    """How new entries start: what can be, where there are some."""
    said = [key for key in STARTING if getattr(stage, key) != getattr(Stage(), key)]
    if said and not stage.sizes:
        raise RecipeError(f"{where} grows nothing, so {', '.join(said)} would do nothing: leave it out")
    if "layers_at" in said and not any("layers" in axis for axis in stage.sizes):
        raise RecipeError(f"{where}: layers_at says where new layers go, and there are none: give layers too")
    try:
        recipe.policy(stage)
        Init(stage.init, stage.init_std)
    except IsogrowError as error:
        raise RecipeError(f"{where}: {error}") from error


def _check_rate(recipe: Recipe, where: str) -> None:
    """Growth belongs to the stable part: after the warmup, before the decay."""
    first, last = recipe.stages[0], recipe.stages[-1]
    if len(recipe.stages) > 1:
        shortest = recipe.shortest(first)
        if shortest < recipe.training.warmup:
            raise RecipeError(
                f"{where}: stage 2 may start at step {shortest}, within the warmup of"
                f" {recipe.training.warmup}: make stage 1 longer, or the warmup shorter"
            )
    if recipe.longest(last) < recipe.training.decay:
        raise RecipeError(
            f"{where}: the last stage has {recipe.longest(last)} steps, and the decay"
            f" {recipe.training.decay}: the rate decays within the last stage, so make that longer, or the"
            " decay shorter"
        )
