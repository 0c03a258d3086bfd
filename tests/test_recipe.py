"""Recipes: what they say is read, and what can't be is refused before anything starts, in one sentence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import documents
import pytest

from isogrow.errors import RecipeError
from isogrow.recipes.reading import parse, read
from isogrow.recipes.recipe import Slope, Stage, TrainingSettings
from isogrow.recipes.running import growths
from isogrow.recipes.starting import first_config, outlook
from isogrow.train.schedule import LOSSES

TEXT = """
run: runs/a
model: {family: llama, sizes: {hidden: 24, ffn: 40, heads: 4, kv_heads: 2, head_dim: 6, layers: 2}}
data: {train: "*.txt", length: 16}
training: {rate: 2e-3, warmup: 4, decay: 10, batch: 2, accumulate: 3}
stages:
  - {steps: 20}
  - {hidden: x2, ffn: 96, slope: {below: 1e-4, at_most: 1K, window: 30}}
  - {layers: +1, tokens: 4800, layers_at: [1]}
"""


@pytest.fixture
def said(tmp_path: Path) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(TEXT)


def test_what_a_recipe_says(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    recipe = read(path)
    first, second, third = recipe.stages
    assert (first, second.sizes) == (Stage(steps=20), {"hidden": "x2", "ffn": 96})
    assert second.slope == Slope(below=1e-4, at_most=1000, window=30)
    assert third.sizes == {"layers": "+1"}  # YAML 1.1 alone reads +1 as 1
    assert third.layers_at == (1,)
    assert recipe.data.train == ("*.txt",)
    assert recipe.training.rate == 0.002
    assert [recipe.longest(stage) for stage in recipe.stages] == [20, 1000, 50]


@pytest.mark.parametrize("written", ["+60", "+60.0", "x1.5", "60"])
def test_sizes_are_what_they_are_in_the_shell(tmp_path: Path, written: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT.replace("ffn: 96", f"ffn: {written}"))
    assert str(read(path).stages[1].sizes["ffn"]) == written


def test_other_numbers_may_have_a_plus(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        TEXT.replace("rate: 2e-3", "rate: +2.0e-3, clip: +.5").replace("steps: 20", "steps: +20.0")
    )
    recipe = read(path)
    assert (recipe.training.rate, recipe.training.clip, recipe.stages[0].steps) == (0.002, 0.5, 20)


@pytest.mark.parametrize("written", ["1k", "1K", "1 k", "1e3", "1000", "0.001m", 1000])
def test_how_counts_are_written(said: dict[str, Any], written: Any) -> None:
    said["stages"][2]["tokens"] = written
    assert parse(said).stages[2].tokens == 1000
    said["stages"][2]["tokens"] = "1.001M"
    assert parse(said).stages[2].tokens == 1_001_000


def test_what_the_guide_says_of_a_slope() -> None:
    guide = " ".join(documents.read(documents.ROOT / "docs" / "training.md").split())
    window, every = Slope(below=0, at_most=1).window, TrainingSettings().log_every
    assert f"its last `window` steps ({window} if it is not said)" in guide
    assert f"how many steps lie between two losses ({every}), of which a window needs three" in guide
    assert LOSSES == 3


def test_how_long_a_stage_s_rates_last(said: dict[str, Any]) -> None:
    said["stages"][1].update(old_rate=0)
    said["stages"][2].update(new_rate=2, rates_for=7)
    recipe = parse(said, "the recipe")
    policies = [recipe.policy(stage) for stage in recipe.stages]
    assert [(p.old_rate, p.new_rate, p.rates_for) for p in policies] == [
        (1, 1, math.inf),
        (0, 1, 1000),
        (1, 2, 7),
    ]
    assert [growth.policy for growth in growths(recipe)] == policies[1:]


Change = Callable[[dict[str, Any]], Any]
REFUSED: list[tuple[Change, str]] = [
    (
        lambda s: s.update(stagess=[]),
        "the recipe has 'stagess', which means nothing.* did you mean stages",
    ),
    (lambda s: s["training"].update(raet=1), "the recipe, training has 'raet'.* did you mean rate"),
    (
        lambda s: s["training"].update(legnth=9),
        "'legnth', which means nothing here: known are batch, .* seed$",
    ),
    (lambda s: s["stages"][1]["slope"].update(widnow=9), "slope has 'widnow'.*: did you mean window"),
    (lambda s: s["model"].update(form=1), "model has 'form'.*: did you mean from"),
    (lambda s: s["stages"][1].update(rat=1), "stages, 2 .*'rat' means nothing here: did you mean rate"),
    (
        lambda s: s["stages"][1].update({7: 1}),
        "stages, 2 .*'7' means nothing here: known are steps, tokens, .* layers",
    ),
    (lambda s: s["stages"][2].update(sizes={"layers": 4}), "layers is said twice, in sizes and beside it"),
    (lambda s: s["stages"][1].update(layers_at="even"), "stage 2: layers_at says where new layers go, and"),
    (lambda s: s["model"].update(config={"when": date(2020, 1, 2)}), "config: when is datetime.* quotes"),
    (
        lambda s: s["model"].update(config={"rope": {"theta": ["+1.0e4"]}}),
        r"model, config: rope holds '\+1.0e4', a word here: leave out the \+",
    ),
    (lambda s: s["training"].update(rate=-1), "training, rate is -1: input should be greater than 0"),
    (
        lambda s: s["training"].update(warmup="long"),
        "training, warmup is 'long': give a number, like 8000, 8K, 8M, 8B or 8T .thousands to trillions",
    ),
    (lambda s: s["stages"][2].update(tokens="1P"), "stages, 3, tokens is '1P': give a number, like 8000, 8K"),
    (
        lambda s: s["stages"][2].update(tokens="0.1234K"),
        "tokens is 123.4: input should be a valid integer",
    ),
    (lambda s: s["training"].update(precision="fp8"), "precision is 'fp8': input should be 'float32' or"),
    (lambda s: s["stages"][1].update(hiden="x2"), "stages, 2 .*'hiden' means nothing here: did you mean hid"),
    (lambda s: s["stages"][1].update(steps=9), "stage 2: give steps, tokens or slope, and one of them"),
    (lambda s: s["stages"][0].clear(), "stage 1: give steps, tokens or slope"),
    (lambda s: s["stages"][0].update(hidden="x2"), "stage 1 grows hidden: the first stage's sizes are the"),
    (
        lambda s: s["stages"][1]["slope"].update(window=2000),
        "a slope needs window and at_least up to",
    ),
    (lambda s: s["stages"][1].update(ramp_from=1.3), "stage 2: ramp_from=1.3 needs a ramp"),
    (lambda s: s["stages"][1].update(ramp=math.inf, ramp_from=2), "stage 2: ramp_from=2.0 needs a ramp"),
    (lambda s: s["stages"][1].update(old_rate=-1), "old_rate is -1: input should be greater than or equal"),
    (lambda s: s["stages"][1].update(old_rate=math.inf), "stage 2: old_rate=inf is no factor"),
    (lambda s: s["stages"][1].update(rates_for=9), "stage 2: rates_for=9.0 has no rates"),
    (lambda s: s["stages"][0].update(old_rate=0), "stage 1 grows nothing, so old_rate would do nothing"),
    (
        lambda s: s["stages"][1].update(old_rate=0) or s["stages"].insert(2, {"steps": 30}),
        "stage 2 ends by a slope, and stage 3 grows nothing, so its rates .*rates_for",
    ),
    (lambda s: s["stages"][1].update(ramp=9, ramp_from=math.inf), "stage 2: ramp_from=inf is no factor"),
    (lambda s: s["stages"][1].update(init_std=math.inf), "stage 2: init_std inf is no std"),
    (lambda s: s["stages"][0].update(ramp=9, init="copy"), "stage 1 grows nothing, so init, ramp would do"),
    (lambda s: s["training"].update(rate=math.inf), "rate is inf: input should be a finite number"),
    (lambda s: s["training"].update(betas=[0.9, 2]), "betas, 2 is 2: input should be less than 1"),
    (lambda s: s["training"].update(seed=1 << 32), "seed is 4294967296: input should be less than"),
    (lambda s: s["stages"][1]["slope"].update(window=29), "window of 29 steps holds fewer than 3 losses"),
    (lambda s: s["stages"].pop(), "stage 2 is the last, which ends by steps or tokens"),
    (lambda s: s["training"].update(warmup=30), "stage 2 may start at step 20, within the warmup of 30"),
    (lambda s: s["training"].update(decay=60), "the last stage has 50 steps, and the decay 60: the rate"),
    (lambda s: s.update(stages=[]), "stages are missing"),
    (lambda s: s.pop("run"), "run is missing: name the folder"),
    (lambda s: s["data"].pop("train"), "train is missing: name the files"),
    (
        lambda s: s["model"].update(learned="2T"),
        "learned is how many tokens a checkpoint has .* give from, or",
    ),
    (lambda s: s["model"].update({"from": "small"}), "model needs family .* or from, and not both"),
    (
        lambda s: s.update(model={"from": "small", "config": {"rope_theta": 1e4, "a": 1}}),
        "model, config says rope_theta, a, and the model in from has a config of its own: leave it out, or",
    ),
    (
        lambda s: s.update(model={"from": "small", "std": 0.5}),
        "model, std is that of a new model's weights, and from has weights: leave it out",
    ),
    (lambda s: s.update(model=3), "model is 3"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_can_not_be_is_refused(said: dict[str, Any], change: Change, message: str) -> None:
    changed = copy.deepcopy(said)
    parse(changed)
    change(changed)
    with pytest.raises(RecipeError, match=message) as refused:
        parse(changed)
    assert "\n" not in str(refused.value)


def test_a_slope_ends_no_stage_before_its_window_is_full(said: dict[str, Any]) -> None:
    slope = {"below": 1e-4, "at_most": 90, "window": 30}
    said["stages"][0] = {"slope": slope}
    said["training"]["warmup"] = 30
    parse(said)
    said["training"]["warmup"] = 31
    with pytest.raises(RecipeError, match="stage 2 may start at step 30, within the warmup of 31"):
        parse(said)


@pytest.mark.parametrize("said", [None, [], "run"])
def test_what_is_no_recipe_is_refused(said: Any) -> None:
    with pytest.raises(RecipeError, match="the recipe is .*, and keys with values were expected"):
        parse(said)


def test_sizes_may_stand_in_sizes_too(said: dict[str, Any]) -> None:
    said["stages"][1]["sizes"] = {"heads": 8}
    assert parse(said).stages[1].sizes == {"heads": 8, "hidden": "x2", "ffn": 96}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT + "training: {rate: 0.1}\n", "'training' is said twice, in lines 5 and 10: say it once"),
        (TEXT.replace("rate: 2e-3", "batch: 9, rate: 2e-3"), "'batch' is said twice, in line 5: say it once"),
    ],
)
def test_a_key_that_is_said_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=f"twice.yaml: {message}"):
        read(path)


def test_keys_of_an_anchor_may_be_said_again(tmp_path: Path) -> None:
    path = tmp_path / "anchors.yaml"
    wide = "  - &wide {steps: 20, rate: 0.5}\n  - {<<: *wide, steps: 30, ffn: 96}\n"
    path.write_text(TEXT[: TEXT.index("  - {steps")] + wide)
    assert [(stage.steps, stage.rate) for stage in read(path).stages] == [(20, 0.5), (30, 0.5)]


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="can't be read .*: give a recipe's file"):
        read(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("run: [")
    with pytest.raises(RecipeError, match="is no YAML"):
        read(tmp_path / "bad.yaml")
    (tmp_path / "latin.yaml").write_bytes("run: café".encode("latin-1"))
    with pytest.raises(RecipeError, match="latin.yaml is no UTF-8 .byte 8.: save it as UTF-8"):
        read(tmp_path / "latin.yaml")
    (tmp_path / "python.yaml").write_text("run: !!python/object/apply:os.getcwd []")
    with pytest.raises(RecipeError, match="is no YAML"):
        read(tmp_path / "python.yaml")


def test_a_recipe_stays_as_it_was_read(said: dict[str, Any], tmp_path: Path) -> None:
    """StableLM's config writes the part of heads that rotates into the table that it is given."""
    rope = {"rope_type": "default", "rope_theta": 7777.0}
    sizes = {"hidden": 24, "ffn": 40, "heads": 4, "kv_heads": 4, "head_dim": 6, "layers": 2}
    said["model"] = {"family": "stablelm", "sizes": sizes, "config": {"rope_parameters": dict(rope)}}
    said["stages"] = [{"steps": 20}, {"hidden": 36, "heads": 6, "kv_heads": 6, "ffn": 96, "steps": 10}]
    recipe = parse(said)
    stages = outlook(recipe, tmp_path, 256)
    assert stages[0].parameters < stages[1].parameters
    assert recipe.model.config == {"rope_parameters": rope}
    assert first_config(recipe, tmp_path, 256)["rope_parameters"]["partial_rotary_factor"] == 0.25
