"""A recipe's first model, and what each stage makes of it: sizes, parameters, operations."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from isogrow.errors import IsogrowError, RecipeError
from isogrow.families import layout_for, layout_of
from isogrow.growth.models import anatomy_of
from isogrow.layouts.config import edited
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Layout
from isogrow.paths import expanded
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import expansions
from isogrow.plans.plan import Plan
from isogrow.plans.words import alone, named
from isogrow.recipes.flops import training_flops
from isogrow.recipes.recipe import Recipe, Stage, Start
from isogrow.recipes.scaling import ModelSize
from isogrow.stores.gguf import gguf_of
from isogrow.stores.sources import open_checkpoint

Config = dict[str, Any]
ROTARY = ("rope_theta", "rope_scaling", "partial_rotary_factor")  # a config moves them into rope_parameters
NEAR = 0.85  # as alike as a key is with a letter that is missing, doubled or in another place
NAMED = ("bos_token_id", "eos_token_id", "pad_token_id")  # a class's own may not be in this vocabulary


@dataclass(frozen=True)
class Branch:
    """A stage's release before it is run: what its decay costs at most, beside what the stage does."""

    steps: int
    tokens: int
    flops: int


@dataclass(frozen=True)
class Outlook:
    """One stage before it is run: at most so many steps of so many tokens; operations are of training.

    before: the model that it begins with, before it grows. grows: whether it begins with a growth. deeper:
    whether that is one in layers alone.
    rate: the factor on the training's rate, which within the stage falls to 0 over its last `decay` steps.
    """

    number: int
    sizes: Mapping[str, int]
    parameters: int
    steps: int
    tokens: int
    flops: int
    before: ModelSize
    release: Branch | None = None
    grows: bool = False
    deeper: bool = False
    rate: float = 1.0
    decay: int = 0


def started(recipe: Recipe, base: Path, vocab: int) -> nn.Module:
    """The first model, with weights: drawn by the recipe's seed, or read from a checkpoint; in float32, which
    `precision` is about.

    Raises `RecipeError` for one that sees the tokens that it is to learn to tell.
    """
    model: Any
    if recipe.model.source:
        source = base / expanded(recipe.model.source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.training.seed)
            model = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(**first_config(recipe, base, vocab))
            )
    if _looks_ahead(model):
        raise RecipeError(
            f"model: this {model.config.model_type} sees later tokens, so telling the next one would teach it"
            " nothing: give one that reads from left to right (is_decoder: true in config, where it has that)"
        )
    return model


@dataclass(frozen=True)
class _Model:
    """A model of this config on the meta device, seen through its layout; operations for a token."""

    config: Config
    anatomy: Anatomy
    parameters: int
    cost: int


def outlook(recipe: Recipe, base: Path, vocab: int) -> tuple[Outlook, ...]:
    """Each stage's sizes, parameters and operations. Raises `RecipeError` for sizes that can't be had."""
    config, length = first_config(recipe, base, vocab), recipe.data.length
    found: list[Outlook] = []
    model = _first(recipe, config)
    for number, stage in enumerate(recipe.stages, 1):
        before = model
        try:
            model = _grown(before, stage, length) if stage.sizes else before
        except IsogrowError as error:
            raise RecipeError(f"stage {number}: {error}") from error
        if number == 1:
            _check_length(recipe, model.anatomy)
        found.append(_told(recipe, number, before, model))
    return tuple(found)


def _first(recipe: Recipe, config: Config) -> _Model:
    """The model that the run begins with, before it grows, with the sizes that the recipe says it has."""
    try:
        model = _seen(config, recipe.data.length)
    except IsogrowError as error:
        raise RecipeError(f"model: {error}") from error
    _check_sizes(recipe.model, model.anatomy)
    return model


def _grown(before: _Model, stage: Stage, length: int) -> _Model:
    asked = expansions(stage.sizes, stage.layers_at, alone(before.anatomy.sizes))
    made = plan(before.anatomy, asked)
    _check_grows(stage, made)
    return _seen(edited(before.config, made.config), length)


def _told(recipe: Recipe, number: int, before: _Model, model: _Model) -> Outlook:
    stage = recipe.stages[number - 1]
    steps, each = recipe.longest(stage), recipe.tokens_per_step
    release = None
    if stage.release is not None:
        decay = stage.release.steps(steps)
        release = Branch(decay, decay * each, decay * each * model.cost)
    return Outlook(
        number=number,
        sizes=named(model.anatomy.sizes, model.anatomy.layout.stacks),
        parameters=model.parameters,
        steps=steps,
        tokens=steps * each,
        flops=steps * each * model.cost,
        before=ModelSize(before.parameters, before.cost),
        release=release,
        grows=bool(stage.sizes),
        deeper=bool(stage.sizes) and all(name.rpartition(".")[2] == "layers" for name in stage.sizes),
        rate=stage.rate,
        decay=recipe.decay_steps(stage),
    )


def first_config(recipe: Recipe, base: Path, vocab: int) -> Config:
    """The first model's config.json."""
    start = recipe.model
    if start.source:
        source = base / expanded(start.source)
        path = source / "config.json"
        if not path.is_file() and gguf_of(source) is not None:
            raise RecipeError(
                f"model, from: {source} is a GGUF file, and a run starts from a folder that"
                " transformers loads: give the model that it was made from, or what it was grown to"
            )
        if not path.is_file():
            raise RecipeError(f"model, from: {path} is not there: give a checkpoint's folder")
        config = dict(open_checkpoint(path.parent).config)
        layout_of(config)
        if config.get("vocab_size") != vocab:
            raise RecipeError(
                f"model, from: the checkpoint has {config.get('vocab_size')} tokens, and data, tokenizer"
                f" {vocab}: give the tokenizer that it was trained with"
            )
        return config
    layout = layout_for(start.family)
    sizes = _named(layout, start, vocab)
    held = {key.name: evaluate(key.size, sizes) for key in layout.keys if key.size}
    tokens = {layout.axes["vocab"]: vocab, **dict.fromkeys(NAMED)}
    # Classes of configs write into the tables that they are given, rotary ones above all.
    made = {**tokens, **held, "initializer_range": start.std, **copy.deepcopy(dict(start.config))}
    if layout.axes["vocab"] in start.config:
        raise RecipeError(
            f"model, config: {layout.axes['vocab']} is what data, tokenizer makes it: leave it out"
        )
    try:
        full = AutoConfig.for_model(start.family, **made)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise RecipeError(f"model: {start.family} can't be so: {' '.join(str(error).split())}") from error
    _check_known(start, full, layout)
    return json.loads(full.to_json_string(use_diff=False))


def _check_known(start: Start, full: PreTrainedConfig, layout: Layout) -> None:
    """Refuse a key that is nearly one of the class's and is none: a config takes it, and nothing reads it.

    What is like none may be read all the same: DebertaV2's class asks for a `conv_act` that its config does
    not list (transformers 5.24).
    """
    known = {key.name for key in layout.keys} | {*ROTARY, *NAMED}
    known |= {*full.attribute_map, *full.attribute_map.values()}
    known |= vars(AutoConfig.for_model(start.family)).keys()
    for key in sorted(start.config.keys() & vars(full).keys() - known):
        if near := get_close_matches(key, known, 1, NEAR):
            raise RecipeError(
                f"model, config: {start.family} has no {key}, so nothing would read it: did you mean"
                f" {near[0]}?"
            )


def _named(layout: Layout, start: Start, vocab: int) -> dict[str, int]:
    """Sizes by the layout's axes: heads become groups, a head dim that of keys and values."""
    sizes = {"vocab": vocab, **start.sizes}
    needed = {name for key in layout.keys for name in names(key.size or "0")}
    if "group" in needed and "heads" in sizes:
        kv_heads = sizes.setdefault("kv_heads", sizes["heads"])
        sizes["group"] = sizes["heads"] // kv_heads
    for axis in ("key_dim", "value_dim"):
        if "head_dim" in sizes:
            sizes.setdefault(axis, sizes["head_dim"])
    missing = sorted(needed - sizes.keys())
    if missing:
        words = {"group": "heads", "key_dim": "head_dim", "value_dim": "head_dim"}
        raise RecipeError(f"model, sizes: {words.get(missing[0], missing[0])} is missing: give every size")
    return sizes


def _check_sizes(start: Start, anatomy: Anatomy) -> None:
    """Refuse sizes that the first model does not have."""
    found = named(anatomy.sizes, anatomy.layout.stacks)
    family = start.family or anatomy.layout.family
    by, mend = "by the other sizes and the config it is", "give sizes that fit together"
    if start.source:
        by, mend = "in the checkpoint it is", "what it grows to stands in the first stage"
    for name, size in start.sizes.items():
        if name not in found:
            raise RecipeError(
                f"model, sizes: {family} has no {name!r} of its own: give some of {', '.join(found)}"
            )
        if found[name] != size:
            raise RecipeError(f"model, sizes: {name} is {size}, and {by} {found[name]}: {mend}")


def _check_grows(stage: Stage, made: Plan) -> None:
    """Refuse sizes that the model has already: what else is said of the growth would do nothing."""
    if not made.steps:
        sizes = ", ".join(f"{axis}: {size}" for axis, size in stage.sizes.items())
        raise RecipeError(f"{sizes} is what the model has already: give a larger size, or leave it out")


def _check_length(recipe: Recipe, anatomy: Anatomy) -> None:
    """Refuse sequences that are longer than the positions that a model has learned, or will learn."""
    length, sizes = recipe.data.length, anatomy.sizes
    if sizes.has("positions") and length > sizes.of("positions"):
        raise RecipeError(
            f"data, length is {length}, and the model has {sizes.of('positions')} positions: make it shorter,"
            f" or {anatomy.layout.axes['positions']} in model, config larger"
        )


def _seen(config: Config, length: int) -> _Model:
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**copy.deepcopy(dict(config))))
    except (ValueError, TypeError, StrictDataclassError) as error:
        why = str(error).strip().partition("\n")[0]
        raise RecipeError(
            f"no model that tells the next token can be made of a {config['model_type']!r} config ({why}):"
            " give another one"
        ) from error
    anatomy, parameters = anatomy_of(model), sum(parameter.numel() for parameter in model.parameters())
    return _Model(config, anatomy, parameters, training_flops(anatomy, length))


def _looks_ahead(model: Any) -> bool:
    """Whether what a model says at a token depends on the next: if not, its gradient there is exactly 0."""
    was, embed = model.training, model.get_input_embeddings()
    ids = torch.arange(2, device=embed.weight.device)[None] % embed.num_embeddings
    seen = embed(ids).detach().requires_grad_()
    try:
        first = model.eval()(inputs_embeds=seen).logits[0, 0]
    finally:
        model.train(was)
    (gradient,) = torch.autograd.grad(first.square().sum(), seen)
    return bool(gradient[0, 1].any())
