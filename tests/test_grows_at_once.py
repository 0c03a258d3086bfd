"""A recipe whose model is one that is there, and grows before the first step."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from command import isogrow
from test_release import log

import isogrow as package
from isogrow.errors import RecipeError
from isogrow.recipes.advice import advice
from isogrow.recipes.reading import parse, read
from isogrow.recipes.running import checked, growths
from isogrow.recipes.starting import started

TINY: dict[str, Any] = {
    "family": "llama",
    "sizes": {"hidden": 16, "ffn": 28, "heads": 2, "kv_heads": 2, "head_dim": 8, "layers": 1},
    "std": 0.1,
}
SMALL: dict[str, Any] = {
    "run": "small",
    "model": TINY,
    "data": {"train": "*.txt", "held_out": "held.text", "length": 16},
    "training": {"rate": 3e-3, "warmup": 2, "decay": 2, "batch": 4, "log_every": 1},
    "stages": [{"steps": 8}],
}
LARGE: dict[str, Any] = {
    **SMALL,
    "run": "large",
    "model": {"from": "small/model"},
    "training": {**SMALL["training"], "save_every": 2, "keep": 9},
    "stages": [
        {"hidden": 24, "ffn": 36, "steps": 5, "rate": 0.7, "init": "gradmax", "release": {"decay": 2}},
        {"steps": 3},
        {"layers": "+1", "steps": 4},
    ],
}


def written(folder: Path, recipe: dict[str, Any]) -> Path:
    path = folder / f"{recipe['run']}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a small run, and one that goes on from its model."""
    made = tmp_path_factory.mktemp("at-once")
    text = Path(package.__file__).read_text(encoding="utf-8")
    (made / "a.txt").write_text(text * 3)
    (made / "held.text").write_text(text[:400])
    for recipe in (SMALL, LARGE):
        done = isogrow("train", written(made, recipe), "--json")
        assert done.code == 0, done.err
    return made


@pytest.mark.slow
def test_it_grows_before_the_first_step(folder: Path) -> None:
    records = log(folder / "large")
    first, *_, last = [record for record in records if "growth" in record or "stage" in record]
    assert records[0] is first and (first["growth"], first["step"], first["num_input_tokens_seen"]) == (
        1,
        0,
        0,
    )
    assert first["growth_difference"] < 1e-4 and first["growth_passes"] > 0
    assert (last["growth"], last["step"]) == (2, 8)
    assert [(record["stage"], record["step"]) for record in records if "stage" in record] == [(2, 5)]
    config = transformers.AutoConfig.from_pretrained(folder / "large" / "model")
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (24, 36, 2)


@pytest.mark.slow
def test_what_a_run_is_told_to_do_holds_for_its_stages(folder: Path) -> None:
    """Rates and operations are those of the stage that a step is in, the growth at once beside it."""
    records = [record for record in log(folder / "large") if "loss" in record]
    rates = {record["step"]: record["learning_rate"] / 3e-3 for record in records}
    # A warmup of 2 steps, 0.7 in stage 1, a decay over the last 2.
    wanted = {1: 0.35, 2: 0.7, 5: 0.7, 6: 1, 8: 1, 9: 1, 11: 1, 12: 0.5}
    assert {step: rates[step] for step in wanted} == pytest.approx(wanted)
    recipe = read(folder / "large.yaml")
    stages = checked(recipe, folder)
    passes = log(folder / "large")[0]["growth_passes"] * 4 * 16
    cost = [stage.flops // stage.tokens for stage in stages]
    spent = [cost[0] * (passes + 5 * 64), cost[1] * 3 * 64, cost[2] * 4 * 64]
    assert records[-1]["flops"] == sum(spent) and cost[0] == cost[1] < cost[2]


@pytest.mark.slow
def test_its_card_and_its_release(folder: Path) -> None:
    card = (folder / "large" / "model" / "README.md").read_text()
    assert "It began as the checkpoint `small/model`." in card
    assert "Before its first step it grew from" in card and "After step 8 it grew from" in card
    assert "| 1 | hidden 24, ffn 36, " in card and card.count("| 5 |") == card.count("| 8 |") == 1
    released = folder / "large" / "released" / "stage-1"
    config = transformers.AutoConfig.from_pretrained(released / "model")
    assert (config.hidden_size, config.num_hidden_layers) == (24, 1)
    steps = [record["step"] for record in log(released) if "loss" in record]
    assert steps == [1, 2, 3, 4, 6, 7] and log(released)[0] == log(folder / "large")[0]
    assert isogrow("report", folder / "large").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("at", [None, 2, 6])
def test_it_goes_on_alike(folder: Path, tmp_path: Path, at: int | None) -> None:
    """From nothing, and from two checkpoints of the run: as if nothing had stopped it."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    run = tmp_path / "large"
    whole = log(run)
    for name in ("model", "released"):
        shutil.rmtree(run / name)
    for name in ("outcome.json", "log.json"):
        (run / name).unlink()
    for checkpoint in run.glob("checkpoint-*"):
        if at is None or int(checkpoint.name.split("-")[1]) > at:
            shutil.rmtree(checkpoint)
    done = isogrow("train", tmp_path / "large.yaml", "--json")
    assert done.code == 0, done.err
    assert log(run) == whole


def test_it_learns_in_float32_whatever_was_saved(folder: Path) -> None:
    small = transformers.AutoModelForCausalLM.from_pretrained(folder / "small" / "model")
    small.bfloat16().save_pretrained(folder / "half")
    recipe = written(folder, {**LARGE, "run": "from-half", "model": {"from": "half"}})
    assert {p.dtype for p in started(read(recipe), folder, 256).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"hidden": 24},
            "hidden is 24, and in the checkpoint it is 16: what it grows to stands in the first",
        ),
        ({"foo": 1}, "model, sizes: llama has no 'foo' of its own: give some of hidden, ffn, heads"),
    ],
)
def test_sizes_beside_a_checkpoint_are_those_that_it_has(
    folder: Path, sizes: dict[str, int], message: str
) -> None:
    said = {**LARGE, "model": {"from": "small/model", "sizes": {"hidden": 16, "layers": 1}}}
    assert checked(parse(said), folder)[0].sizes["hidden"] == 24
    with pytest.raises(RecipeError, match=message):
        checked(parse({**said, "model": {"from": "small/model", "sizes": sizes}}), folder)


def test_what_is_foretold(folder: Path) -> None:
    recipe = read(folder / "large.yaml")
    first, second, third = checked(recipe, folder)
    assert (first.grows, second.grows, third.grows) == (True, False, True)
    assert first.sizes["hidden"] == 24 and first.parameters == second.parameters < third.parameters
    assert [growth.at for growth in growths(recipe)] == [0, 5, 8]
    assert advice((first, second), from_checkpoint=True).steady is None  # at 0.7 times the rate
    assert advice((dataclasses.replace(first, rate=1.0), second), from_checkpoint=True).steady == 1
    alone = written(folder, {**LARGE, "run": "alone", "stages": [{"ffn": 36, "steps": 9}]})
    told = " ".join(isogrow("train", alone, "--dry-run", columns=300).out.split())
    assert "stage 1 grows a model that has learned before: 0.7 times the rate that is best" in told


def test_what_can_not_be_is_refused(folder: Path) -> None:
    for stage, said in (
        ({"hidden": 15, "steps": 9}, "stage 1: .*would shrink hidden from 16"),
        ({"ffn": 28, "steps": 9}, "stage 1: ffn: 28 is what the model has already"),
    ):
        told = isogrow("train", written(folder, {**LARGE, "run": "refused", "stages": [stage]}))
        assert told.code == 2
        assert re.search(said, " ".join(told.err.split())), told.err
