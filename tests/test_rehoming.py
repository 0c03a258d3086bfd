"""Sharded models that grow where they stand: two ranks, started once."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rehoming_job
from forking import side_by_side

spawned = pytest.mark.slow  # two processes


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("rehoming")
    side_by_side(rehoming_job.main, [(folder, rank, 2) for rank in (0, 1)], limit=300)
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
        ("another torch", "its state of fully_shard has no _of_another_torch: call isogrow.grow_training"),
    ],
)
def test_what_cant_is_refused_on_all_ranks(two: list[dict[str, Any]], case: str, message: str) -> None:
    said = [report["refused"][case] for report in two]
    assert all(message in each for each in said)
    assert [report["refused"]["as it was"] for report in two] == ["22", "22"]
