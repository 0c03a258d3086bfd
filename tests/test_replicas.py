"""Replicas of a model that grow: two processes, spawned once, each in DDP and in Trainer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import replicas_job
import tiny
import torch
from forking import side_by_side
from replicas_job import CASES
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parallel.distributed import _MixedPrecision  # pyright: ignore[reportPrivateUsage]

import isogrow
from isogrow.errors import StateError

spawned = pytest.mark.slow  # two processes


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both processes of `replicas_job.py` report."""
    folder = tmp_path_factory.mktemp("replicas")
    side_by_side(replicas_job.main, [(folder, rank) for rank in (0, 1)], limit=300)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@spawned
@pytest.mark.parametrize("case", CASES)
def test_replicas_stay_one_model(two: list[dict[str, Any]], case: str) -> None:
    """The wrapper is not made anew, and after three steps on different data both hold the same bits."""
    first, second = (report[case] for report in two)
    assert first["before"] == second["before"] != first["after"] == second["after"]
    assert first["losses"] != second["losses"]  # different data


@spawned
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_all_data(two: list[dict[str, Any]], case: str) -> None:
    """As one process makes them that grows the same model and sees both processes' data; in float64."""
    assert max(report[case]["apart"] for report in two) < 1e-12


@spawned
def test_a_reducer_of_old_parameters_is_seen(two: list[dict[str, Any]]) -> None:
    """The tests above can fail: replicas whose reducer is left as it was."""
    first, second = (report["left alone"] for report in two)
    assert first["before"] == second["before"]
    assert first["after"] != second["after"]
    assert max(first["apart"], second["apart"]) > 1e-6


@spawned
def test_trainer_grows_replicas(two: list[dict[str, Any]]) -> None:
    first, second = (report["trainer"] for report in two)
    assert first["after"] == second["after"]
    assert first["wrapped"] == second["wrapped"] == "DistributedDataParallel"
    assert first["sizes"] == [88, 4]
    assert first["difference"] < 1e-5  # float32 logits


@pytest.mark.slow
def test_what_cant_be_renewed_is_refused(one_process: None) -> None:
    """Nothing has grown then."""
    model: Any = tiny.model("LlamaForCausalLM")
    old = model.config.intermediate_size
    mixed = DistributedDataParallel(model, mixed_precision=_MixedPrecision(param_dtype=torch.bfloat16))
    with pytest.raises(StateError, match="DistributedDataParallel with mixed_precision, .* wrap it again"):
        isogrow.grow_(model, ffn="x2")
    del mixed
    model = tiny.model("LlamaForCausalLM")
    built_in = DistributedDataParallel(model)
    own: Any = built_in
    own._register_builtin_comm_hook(torch.distributed.BuiltinCommHookType.ALLREDUCE)
    with pytest.raises(StateError, match="with a built-in communication hook, .* wrap it again"):
        isogrow.grow_(model, ffn="x2")
    assert model.config.intermediate_size == old


class Task(nn.Module):
    """A module of one's own around a model, as Lightning's are."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.net = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.net(input_ids=ids, labels=ids).loss


def test_a_wrapper_around_what_holds_the_model_is_renewed(one_process: None) -> None:
    model: Any = tiny.model("LlamaForCausalLM")
    wrapper = DistributedDataParallel(Task(model))
    before = wrapper._get_ddp_logging_data()["total_parameter_size_bytes"]
    isogrow.grow_(model, ffn="x2")
    assert wrapper._get_ddp_logging_data()["total_parameter_size_bytes"] > before
    wrapper(torch.arange(12)[None]).backward()
    assert all(x.grad is not None for x in model.parameters())


@pytest.mark.slow
def test_options_are_kept(one_process: None) -> None:
    model: Any = tiny.model("LlamaForCausalLM")
    wrapper = DistributedDataParallel(model, find_unused_parameters=True, gradient_as_bucket_view=True)
    wrapper.register_comm_hook(None, default_hooks.fp16_compress_hook)
    before: dict[str, Any] = dict(wrapper._get_ddp_logging_data())
    isogrow.grow_(model, ffn="x2", layers="+1")
    ids = torch.arange(12)[None]
    wrapper(input_ids=ids, labels=ids).loss.backward()
    assert all(x.grad is not None for x in model.parameters())
    after: dict[str, Any] = dict(wrapper._get_ddp_logging_data())
    kept = ("find_unused_parameters", "gradient_as_bucket_view", "bucket_cap_bytes", "comm_hook")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert after["total_parameter_size_bytes"] > before["total_parameter_size_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("wrap", ["compile", "DataParallel", "module.compile"])
def test_wrappers_that_hold_no_parameters_go_on(wrap: str) -> None:
    model: Any = tiny.model("LlamaForCausalLM").eval()
    ids = torch.arange(12).reshape(2, 6)
    wrapped: Any = model
    layers = model.config.num_hidden_layers
    if wrap == "compile":
        wrapped = torch.compile(model, backend="eager")
    elif wrap == "DataParallel":
        wrapped = nn.DataParallel(model)
    else:
        model.compile(backend="eager")
    with torch.no_grad():
        before = wrapped(input_ids=ids).logits
        isogrow.grow_(model, ffn="x2", layers="+1", hidden="x2")
        after = wrapped(input_ids=ids).logits
    assert (after - before).abs().max() < 1e-5 * before.abs().max()  # float32
    assert len(model.model.layers) == model.config.num_hidden_layers == layers + 1
