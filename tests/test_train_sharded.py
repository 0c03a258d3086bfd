"""`isogrow train` under torchrun with `sharding: fsdp`: every rank holds its part of the model.

Losses are those of one process, also of a run that goes on with another number of ranks across a growth.

Accelerate shards on accelerators alone; here its state is told that CPUs may (`rehoming_job.accelerated`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import transformers
import yaml
from rehoming_job import accelerated
from test_train import RECIPE, log
from test_train_ranks import assert_alike, recipe, trained
from torchrun import torchrun

from isogrow.errors import RecipeError
from isogrow.recipes.reading import parse
from isogrow.recipes.sharing import check_held, check_shared

spawned = pytest.mark.slow  # processes that train
TIED = {**RECIPE["model"], "config": {"tie_word_embeddings": True}}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, which holds the whole model."""
    folder = tmp_path_factory.mktemp("one")
    recipe(folder, TIED, save_every=0)
    trained(folder, 1)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, sharded over two."""
    folder = tmp_path_factory.mktemp("two")
    recipe(folder, TIED, save_every=0, sharding="fsdp")
    trained(folder, 2, accelerated)
    return folder


def assert_same_model(first: Path, second: Path) -> None:
    """Two finished models with the same sizes, whose weights agree to rounding."""
    models: list[Any] = [transformers.AutoModelForCausalLM.from_pretrained(each) for each in (first, second)]
    assert type(models[0]) is type(models[1]) and models[1].config.architectures == ["LlamaForCausalLM"]
    states = [each.state_dict() for each in models]
    assert states[0].keys() == states[1].keys()
    for name, ours in states[0].items():
        assert float((ours - states[1][name]).abs().max()) < 1e-4 * float(ours.abs().max()), name


@spawned
def test_shards_learn_what_one_process_learns(one: Path, two: Path) -> None:
    """Losses, norms of old and new blocks, tokens, through growths and a release; what is saved on the way is
    in shards, and finished models are whole."""
    assert_alike(one, two)
    assert (two / "run/checkpoint-14/pytorch_model_fsdp_0/.metadata").exists()
    assert not (two / "run/checkpoint-14/model.safetensors").exists()
    for name in ("run/model", "run/released/stage-1/model"):
        assert_same_model(one / name, two / name)


@spawned
def test_a_killed_rank_ends_the_run_which_more_ranks_go_on_with(one: Path, tmp_path: Path) -> None:
    """Two ranks before the first growth, three after it and across the next."""
    path = recipe(tmp_path / "a", TIED, save_every=4, sharding="fsdp")
    folder = tmp_path / "a" / "run"
    killed = (1, folder / "checkpoint-4")
    codes, _, _ = torchrun(tmp_path / "said", 2, "train", path, kill=killed, first=accelerated)
    assert codes[0] not in (0, None) and codes[1] == -9
    assert not (folder / "outcome.json").exists()
    trained(tmp_path / "a", 3, accelerated)
    assert_alike(one, tmp_path / "a")


@spawned
def test_a_run_that_was_ended_behind_its_last_checkpoint_is_finished(two: Path, tmp_path: Path) -> None:
    shutil.copytree(two, tmp_path / "a")
    run = tmp_path / "a" / "run"
    (run / "outcome.json").unlink()
    shutil.rmtree(run / "model")
    trained(tmp_path / "a", 2, accelerated)
    assert_same_model(two / "run/model", run / "model")
    said = [json.loads((each / "outcome.json").read_text()) for each in (two / "run", run)]
    assert said[0] == said[1]


@spawned
def test_shards_grow_before_the_first_step(two: Path, tmp_path: Path) -> None:
    """A model that is there, larger from the first step on: as of one process, from a kept checkpoint too."""
    stages = [
        {"ffn": 40, "heads": 8, "kv_heads": 8, "steps": 4, "old_rate": 0.5},
        {"layers": "+1", "steps": 5},
    ]
    for name, sharding in (("a", "none"), ("b", "fsdp")):
        recipe(tmp_path / name, {"from": "small"}, save_every=3, sharding=sharding)
        path = tmp_path / name / "recipe.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "stages": stages}))
        shutil.copytree(two / "run/released/stage-1/model", tmp_path / name / "small")
    trained(tmp_path / "a", 1)
    trained(tmp_path / "b", 2, accelerated, last=9)
    assert_alike(tmp_path / "a", tmp_path / "b")
    assert log(tmp_path / "b")[0]["growth_difference"] < 1e-4
    run = tmp_path / "b" / "run"
    (run / "outcome.json").unlink()
    shutil.rmtree(run / "checkpoint-9")
    shutil.rmtree(run / "checkpoint-6")
    trained(tmp_path / "b", 3, accelerated, last=9)
    assert_alike(tmp_path / "a", tmp_path / "b")


# ── what is refused ──


def test_one_process_shards_nothing() -> None:
    made = parse({**RECIPE, "training": {**RECIPE["training"], "sharding": "fsdp"}})
    with pytest.raises(
        RecipeError, match="sharding is fsdp, which spreads the model over the ranks of a job"
    ):
        check_shared(made, 1)
    check_shared(made, 2)


def test_what_is_not_sharded_though_asked_for_is_refused() -> None:
    """Accelerate drops it without a word where there is no accelerator."""
    told = SimpleNamespace(is_fsdp_enabled=True, accelerator=SimpleNamespace(is_fsdp2=True))
    check_held(cast("Any", told), "fsdp")
    dropped = SimpleNamespace(is_fsdp_enabled=False, accelerator=SimpleNamespace(is_fsdp2=False))
    with pytest.raises(RecipeError, match="Accelerate shards models on accelerators alone, of which this"):
        check_held(cast("Any", dropped), "fsdp")
    with pytest.raises(RecipeError, match="the environment asks for DeepSpeed"):
        check_held(cast("Any", SimpleNamespace(is_deepspeed_enabled=True, accelerator=None)), "fsdp")
