"""A recipe: a staged training run as data, read from YAML and checked before anything starts.

    run: runs/stdlib                 # the folder of the run
    model:
      family: llama                  # a model type, with sizes by isogrow's names …
      sizes: {hidden: 64, ffn: 176, heads: 4, kv_heads: 4, head_dim: 16, layers: 4}
      config: {rope_theta: 10000.0}  # … and any other keys of its config; or `from:` a checkpoint's folder
    data:
      train: [corpus/*.txt]          # text, JSONL (field `text`), or a folder saved by `datasets`
      held_out: [held_out.txt]
      length: 256
    training: {rate: 0.002, warmup: 100, decay: 300}
    stages:
      - {steps: 500, release: {decay: 0.2}}
      - {hidden: x2, ffn: x2, heads: 8, steps: 1000}
      - {layers: +4, tokens: 8M}

Keys that are not known are refused, so nothing that is written is silently left out.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from isogrow.errors import IsogrowError, RecipeError
from isogrow.optim.moments import Policy
from isogrow.plans.expansions import Size, expansions
from isogrow.plans.plan import Init
from isogrow.plans.words import WORDS
from isogrow.recipes.fields import STRICT, Count, Files, Rate, Share
from isogrow.recipes.loading import loaded
from isogrow.recipes.release import Release, fault
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


@dataclass(frozen=True, config=STRICT)
class Start:
    """The first stage's model: a family with sizes, or a checkpoint's folder. `std` of its new weights."""

    family: str = ""
    sizes: dict[str, PositiveInt] = field(default_factory=dict[str, PositiveInt])
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    source: Annotated[str, Field(alias="from")] = ""
    std: Rate = 0.02


@dataclass(frozen=True, config=STRICT)
class Data:
    """What is learned: files, how they become tokens, how long a sequence is.

    `tokenizer` is "bytes" (256 tokens) or a tokenizer's folder. `held_out` files are never trained on.
    `text` is the field of JSONL lines and of datasets that holds the text.
    """

    train: Files = ()
    held_out: Files = ()
    tokenizer: str = "bytes"
    length: Annotated[int, Field(ge=2)] = 256
    text: str = "text"


@dataclass(frozen=True, config=STRICT)
class TrainingSettings:
    """How it is learned: AdamW under a warmup-stable-decay schedule; counts are optimizer steps.

    `evaluate_every` and `save_every` of 0 mean at the end alone; `keep` checkpoints are kept. `sharding` says
    how several ranks hold the model: each all of it ("none"), or each its part by FSDP2 ("fsdp").
    """

    batch: PositiveInt = 32
    accumulate: PositiveInt = 1
    rate: Rate = 1e-3
    warmup: Count = 100
    decay: Count = 0
    betas: tuple[Share, Share] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    clip: NonNegativeFloat = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    evaluate_every: Count = 0
    save_every: Count = 0
    log_every: PositiveInt = 10
    keep: PositiveInt = 2
    sharding: Literal["none", "fsdp"] = "none"
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0  # numpy takes no larger one


@dataclass(frozen=True, config=STRICT)
class Slope:
    """A stage ends when the loss falls by less than `below` a step, fitted to the last `window` steps."""

    below: NonNegativeFloat
    at_most: Count
    window: Count = 100
    at_least: Count = 0


@dataclass(frozen=True, config=STRICT)
class Stage:
    """Sizes to grow to at its start, and how long it lasts: `steps`, `tokens`, or until a `slope`.

    In a recipe the sizes stand beside the other keys. `ramp`: over so many steps after the growth the
    updates of new entries go from `ramp_from` times (nothing, if it is not said) to once their size.
    `new_rate` and `old_rate` are factors on the rates of new and of old entries, for `rates_for` steps after
    the growth (the whole stage, if it is not said): with `old_rate: 0` only new entries are trained.
    `rate` is a factor on the training's rate for this stage. `release`: its model is finished beside the run.
    """

    sizes: dict[str, Size] = field(default_factory=dict[str, Size])
    steps: Count = 0
    tokens: Count = 0
    slope: Slope | None = None
    layers_at: str | tuple[int, ...] = "end"
    init: Literal["normal", "uniform", "copy", "orthogonal", "gradmax"] = "normal"
    init_std: PositiveFloat | Literal["match"] = "match"
    ramp: NonNegativeFloat = 0.0
    ramp_from: NonNegativeFloat = 0.0
    new_rate: NonNegativeFloat = 1.0
    old_rate: NonNegativeFloat = 1.0
    rates_for: Count = 0
    rate: Rate = 1.0
    release: Release | None = None

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, said: Any) -> Any:
        """Sizes among the other keys, gathered."""
        given = said.kwargs if hasattr(said, "kwargs") else said
        if not isinstance(given, Mapping):
            return said
        fields = _keys(cls)
        sizes = {str(key): value for key, value in given.items() if key not in fields}
        kept = {key: value for key, value in given.items() if key in fields}
        inside = given.get("sizes", {})
        if isinstance(inside, Mapping):  # what else it may be is refused by its type
            twice = sorted(sizes.keys() & inside.keys())
            if twice:
                raise ValueError(f"{', '.join(twice)} is said twice, in sizes and beside it: say it once")
            sizes = {**inside, **sizes}
            kept["sizes"] = sizes
        _check_axes(sizes, fields)
        return kept


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """A whole run."""

    run: str = ""
    model: Start = Start()
    data: Data = Data()
    training: TrainingSettings = TrainingSettings()
    stages: tuple[Stage, ...] = ()

    @property
    def tokens_per_step(self) -> int:
        return self.training.batch * self.training.accumulate * self.data.length

    def longest(self, stage: Stage) -> int:
        """How many steps a stage lasts at most."""
        if stage.slope is not None:
            return stage.slope.at_most
        return stage.steps or -(-stage.tokens // self.tokens_per_step)

    @property
    def sharded(self) -> bool:
        """Whether each rank holds its part of the model."""
        return self.training.sharding != "none"

    def shortest(self, stage: Stage) -> int:
        """How many steps a stage lasts at least."""
        slope = stage.slope
        return self.longest(stage) if slope is None else max(slope.at_least, slope.window)

    def policy(self, stage: Stage) -> Policy:
        """What new entries of a stage get, and how fast all entries move in it."""
        own = (stage.new_rate, stage.old_rate) != (1.0, 1.0)
        lasting = float(stage.rates_for or (self.longest(stage) if own else math.inf))
        return Policy(
            ramp=stage.ramp,
            ramp_from=stage.ramp_from,
            new_rate=stage.new_rate,
            old_rate=stage.old_rate,
            rates_for=lasting,
        )


def read(path: str | Path) -> Recipe:
    """The recipe in a YAML file. Raises `RecipeError` for what can't be read or can't be."""
    return parse(loaded(path), str(path))


def parse(said: Any, where: str = "the recipe") -> Recipe:
    """A recipe from plain data; every key and value is checked."""
    if not isinstance(said, Mapping):
        raise RecipeError(f"{where} is {said!r:.60}, and keys with values were expected: run, model, data, …")
    try:
        recipe = TypeAdapter(Recipe).validate_python(said)
    except ValidationError as error:
        raise _refusal(error, where) from error
    _check(recipe, where)
    return recipe


# By their keys.
SECTIONS = {"model": Start, "data": Data, "training": TrainingSettings, "slope": Slope, "release": Release}
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")  # what pydantic calls a key that means nothing


# ── reading ──


def _refusal(error: ValidationError, where: str) -> RecipeError:
    """The first fault as one sentence, with the key that may have been meant.

    A key that means nothing comes before one that is missing, which it may have been meant for.
    """
    faults = error.errors()
    first = next((each for each in faults if each["type"] in UNKNOWN), faults[0])
    *path, last = (f"{part + 1}" if isinstance(part, int) else str(part) for part in first["loc"])
    at = ", ".join((where, *path))
    if first["type"] not in UNKNOWN:
        message = first["msg"].removeprefix("Value error, ")
        return RecipeError(f"{at}, {last} is {first['input']!r}: {message[:1].lower()}{message[1:]}")
    section = SECTIONS.get(path[-1], Recipe) if path else Recipe
    return RecipeError(f"{at} has {last!r}, which means nothing here: {_meant(last, _keys(section))}")


def _keys(section: Any) -> tuple[str, ...]:
    """The keys that a section of a recipe may have."""
    return tuple("from" if f.name == "source" else f.name for f in dataclasses.fields(section))


def _meant(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _check_axes(sizes: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    """Refuse what is neither a key of a stage nor an axis, by the one that may have been meant."""
    for key in sizes:
        try:
            expansions({key: sizes[key]})
        except IsogrowError:
            known = [*(field for field in fields if field != "sizes"), *WORDS]
            raise ValueError(f"{key!r} means nothing here: {_meant(key, known)}") from None
    expansions(sizes)


# ── what can't be ──


def _check(recipe: Recipe, where: str) -> None:
    model = recipe.model
    faults = [
        (not recipe.run, "run is missing: name the folder of the run"),
        (not recipe.stages, "stages are missing: give at least one, like {steps: 500}"),
        (
            bool(model.family) == bool(model.source),
            "model needs family (with sizes) or from, and not both",
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
    """Refuse what a config.json can't hold: YAML knows dates, too."""
    for key, value in config.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"{where}, model, config: {key} is {value!r}, which a config.json can't hold: write a number,"
                " a text in quotes, a list or keys with values"
            ) from error


def _check_stage(recipe: Recipe, stage: Stage, number: int, where: str) -> None:
    lengths = [bool(stage.steps), bool(stage.tokens), stage.slope is not None]
    if sum(lengths) != 1:
        raise RecipeError(f"{where}, stage {number}: give steps, tokens or slope, and one of them")
    if number == 1 and stage.sizes:
        raise RecipeError(
            f"{where}, stage 1 grows {', '.join(stage.sizes)}: the first stage's sizes are the model's; say"
            " them there"
        )
    _check_start(recipe, stage, f"{where}, stage {number}")
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


def _check_release(recipe: Recipe, stage: Stage, number: int, where: str) -> None:
    if stage.release is None:
        return
    wrong = fault(stage.release, number, len(recipe.stages), recipe.shortest(stage))
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
