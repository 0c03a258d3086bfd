"""Sharded models that grow where they stand: two ranks, started once."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import rehoming_job
from families_verb import python
from forking import side_by_side
from torch import nn

from isogrow.errors import StateError
from isogrow.train import sharding
from isogrow.train.sharding import shard_of

spawned = pytest.mark.slow  # two processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rehoming")


@pytest.fixture(scope="module")
def two(folder: Path) -> list[dict[str, Any]]:
    side_by_side(rehoming_job.main, [(folder, rank, 2) for rank in (0, 1)], limit=600)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@spawned
@pytest.mark.parametrize("case", ["fsdp", "tied", "tp", "offloaded"])
def test_a_sharded_model_grows_where_it_stands(two: list[dict[str, Any]], case: str) -> None:
    """Twice, with its optimizer, a schedule and a hook of the user's, which all go on; and trains as one
    process does."""
    for report in (each[case] for each in two):
        assert report["same"] and report["tied"]
        assert report["apart 0"] < 1e-12 and report["apart 1"] < 1e-12
        assert report["function"] < 1e-5  # norms compute in float32
        assert report["hooked"] == 6
        assert report["rate"] == pytest.approx(1e-2 / 3)
        assert report["moments"] > 40


@spawned
def test_a_state_that_is_left_alone_is_seen(two: list[dict[str, Any]]) -> None:
    for report in (each["left alone"] for each in two):
        assert report.get("error") or report["apart 0"] > 1e-6


@spawned
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no function", "StateError: LlamaForCausalLM is spread over ranks: give shard="),
        ("on one", "ffn=1 would shrink ffn from"),
        ("held", "StateError: the model is held by a FSDPModule, which would go on gathering"),
        (
            "root left",
            "StateError: shard= does not shard the model itself (fully_shard(model)), as the one that",
        ),
        ("another torch", "its state of fully_shard has no _of_another_torch: call isogrow.grow_training"),
    ],
)
def test_what_cant_is_refused_on_all_ranks(two: list[dict[str, Any]], case: str, message: str) -> None:
    said = [report["refused"][case] for report in two]
    assert all(message in each for each in said)
    assert [report["refused"]["as it was"] for report in two] == ["22", "22"]
    assert [report["refused"]["kept"] for report in two] == ["True", "True"]


# ── under Accelerate, which is told that CPUs may ──


@spawned
def test_what_accelerate_prepared_grows_where_it_stands(two: list[dict[str, Any]]) -> None:
    """It is sharded again as it was, layer by layer, and trains as one process does."""
    for report in (each["prepared"] for each in two):
        assert "FSDP of version 2 was expected" in report["refused"]
        assert report["apart"] < 1e-12
        assert report["units"] == report["layers"] + 4  # embedding, norm and head together, the root
        assert report["loads"] is True


@pytest.fixture(scope="module")
def wanted(folder: Path) -> dict[str, Any]:
    """What Trainer's run tells in one process."""
    one = rehoming_job.trainer(folder / "one", 6)
    one.train()
    return rehoming_job.told(one)


@spawned
def test_accelerate_launch(folder: Path, wanted: dict[str, Any]) -> None:
    """Two processes that it starts, whom it tells how to shard: a loop and a Trainer, which grow."""
    script = Path(__file__).with_name("launched_job.py")
    words = "--use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP --num_processes 2"
    words += " --num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0"
    into = folder / "launched"
    into.mkdir()
    ran = python("-m", "accelerate.commands.launch", *words.split(), script, into)
    assert ran.returncode == 0, ran.stderr
    for rank in (0, 1):
        found = json.loads((into / f"{rank}.json").read_text())
        own, run = found["loop"], found["trainer"]
        assert own["launched"] == "true" and own["ranks"] == 2 and own["kind"] == "FSDPLlamaForCausalLM"
        assert own["apart"] < 1e-12
        assert run["kind"] == "FSDPLlamaForCausalLM" and run["sizes"] == wanted["sizes"]
        assert run["losses"] == pytest.approx(wanted["losses"], rel=1e-5)
        assert len(run["differences"]) == 2 and max(run["differences"]) < 1e-5


@spawned
def test_trainer_grows_under_fsdp2(two: list[dict[str, Any]], folder: Path, wanted: dict[str, Any]) -> None:
    """Losses are those of one process up to the order of sums; and a run goes on with more ranks."""
    (folder / "ranks3").mkdir()
    side_by_side(rehoming_job.others, [(folder, rank, 3) for rank in range(3)], limit=600)
    three = json.loads((folder / "ranks3" / "0.json").read_text())
    for form in rehoming_job.FORMS:
        for found in (two[0][form], two[1][form], three[form]):
            assert found["kind"] == "FSDPLlamaForCausalLM" and found["sizes"] == wanted["sizes"]
            assert found["losses"] == pytest.approx(wanted["losses"], rel=1e-5)
            assert max(found["differences"]) < 1e-5


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"is_deepspeed_enabled": True}, "by DeepSpeed, in which it can't grow: train by FSDP2"),
        ({"is_distributed_loading_by_transformers": True}, "by transformers' own distributed_config, in"),
        ({"is_fsdp_enabled": True, "accelerator": SimpleNamespace(is_fsdp2=False)}, "by FSDP of version 1"),
    ],
)
def test_another_sharding_is_refused_by_name(said: dict[str, Any], message: str) -> None:
    whole = {"accelerator": None, "model": nn.Linear(2, 3)}
    with pytest.raises(StateError, match=message):
        shard_of(cast("Any", SimpleNamespace(**whole | said)))
    assert shard_of(cast("Any", SimpleNamespace(**whole))) is None


def test_a_model_that_came_sharded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "spread_out", lambda model: True)
    with pytest.raises(StateError, match="was sharded before the trainer got it, and how is not known"):
        shard_of(cast("Any", SimpleNamespace(accelerator=None, model=nn.Linear(2, 3))))
