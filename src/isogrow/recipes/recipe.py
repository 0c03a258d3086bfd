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
import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic.dataclasses import dataclass

from isogrow.errors import IsogrowError
from isogrow.optim.moments import Policy
from isogrow.plans.expansions import Size, expansions
from isogrow.plans.words import WORDS
from isogrow.recipes.falling import falling
from isogrow.recipes.fields import STRICT, Count, Files, Length, Rate, Share
from isogrow.recipes.release import Release


@dataclass(frozen=True, config=STRICT)
class Start:
    """The first stage's model: a family with sizes, or a checkpoint's folder. `std` of its new weights.

    A checkpoint has its own config and weights, so neither `config` nor `std` goes with it; `sizes` beside it
    are those that it has, before it grows.

    `learned`: how many tokens the checkpoint has learned, if it is no recipe's model, of which that is known.
    It changes what a dry run advises, and no training.
    """

    family: str = ""
    sizes: dict[str, PositiveInt] = field(default_factory=dict[str, PositiveInt])
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    source: Annotated[str, Field(alias="from")] = ""
    learned: Count = 0
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
    `weight_decay` is on what a Trainer decays: all but biases and what is named like a norm, so of a Mamba on
    its A_log, its D and its last norm, too (transformers 5.23).
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

    In a recipe the sizes stand beside the other keys; the first stage has some where the model is one that
    is there (`from`) and grows before the first step. `ramp`: over so many steps after the growth the
    updates of new entries go from `ramp_from` times (nothing, if it is not said) to once their size.
    `new_rate` and `old_rate` are factors on the rates of new and of old entries, for `rates_for` steps after
    the growth (the whole stage, if it is not said): with `old_rate: 0` only new entries are trained.
    `rate` is a factor on the training's rate for this stage. Within the stage it rises from nothing over
    `warmup` steps, and falls to 0 over the last `decay` (below 1 a share of the stage's steps). `release`:
    its model is finished beside the run.
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
    warmup: Count = 0
    decay: Length = 0.0
    release: Release | None = None

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, said: Any) -> Any:
        """Sizes among the other keys, gathered."""
        given = said.kwargs if hasattr(said, "kwargs") else said
        if not isinstance(given, Mapping):
            return said
        fields = keys_of(cls)
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

    def decay_steps(self, stage: Stage) -> int:
        """The last steps of a stage over which its rate falls to 0: its own decay, or the training's in the
        last one."""
        own = falling(stage.decay, self.longest(stage))
        return own or (self.training.decay if stage is self.stages[-1] else 0)

    @property
    def grows_at_once(self) -> bool:
        """Whether the checkpoint that it starts from grows before the first step."""
        return bool(self.stages and self.stages[0].sizes)

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


def keys_of(section: Any) -> tuple[str, ...]:
    """The keys that a section of a recipe may have."""
    return tuple("from" if f.name == "source" else f.name for f in dataclasses.fields(section))


def meant(key: str, known: Sequence[str]) -> str:
    """What is said beside a key that is not known: the nearest of those that are, or all of them."""
    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _check_axes(sizes: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    """Refuse what is neither a key of a stage nor an axis, by the one that may have been meant."""
    for key in sizes:
        try:
            expansions({key: sizes[key]})
        except IsogrowError:
            known = [*(field for field in fields if field != "sizes"), *WORDS]
            raise ValueError(f"{key!r} means nothing here: {meant(key, known)}") from None
    expansions(sizes, own=sizes)  # what a word means beside a stack's is asked of the model
