"""Sharded models that grow without being gathered: processes started once for each number of ranks.

Each rank compares its parts, bit by bit, with what one process makes of the same numbers. Sums of entries
span many fixed boxes (`FIXED`), and tensors many rounds (`ROUND`): both are small in the job.
"""

from __future__ import annotations

import json
import runpy
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import documents
import pytest
import sharded_job
import torch
from forking import PROCESSES, side_by_side
from sweeping import swept
from torchrun import be_rank, meeting

import isogrow
from isogrow.errors import StateError
from isogrow.interpreters.sharded import exchanging
from isogrow.interpreters.sharded.ranks import Ranks
from isogrow.layouts.pattern import View
from isogrow.plans.moving import Move, Part, Parts, Round, Unit
from isogrow.plans.pieces import Block

Reports = list[dict[str, Any]]  # what each rank reports, by case
Case = Mapping[str, Any]
spawned = pytest.mark.slow  # processes that each import everything

TIED = {"tie_word_embeddings": True}
EVEN = {"hidden_size": 28, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 22}
PARALLEL = {
    "family": "llama",
    "changes": EVEN,
    "growth": {"hidden": 80, "ffn": 50, "heads": 8, "kv_heads": 4, "layers": "+1"},
}
SMALL = {"family": "llama", "mesh": "fsdp", "growth": {"hidden": 72, "ffn": 41, "layers": "+1"}}
WIDE = {"family": "gpt2", "mesh": "fsdp"}  # means too, in what writes to a LayerNorm's residual
PACED = {"ramp": 4, "follow": True, "old_rate": 0.5, "rates_for": 1}

CASES: Mapping[int, Mapping[str, Case]] = {
    2: {
        "gpt2": WIDE,
        "tied, tensor parallel": {**PARALLEL, "mesh": "tp", "changes": {**EVEN, **TIED}},
        "columns": {**PARALLEL, "mesh": "columns", "changes": {**EVEN, "vocab_size": 44}},
        "paced": {**SMALL, "policy": PACED, "frozen": True},
        "no statistics": {
            **SMALL,
            "growth": {"ffn": "x3", "layers": "+1", "init_std": 0.1},
            "policy": {"moments": "zero"},
        },
        "each": {**SMALL, "optimizer": "each"},
        "muon": {**SMALL, "optimizer": "muon"},
        "sampled": {**SMALL, "changes": {"vocab_size": 22_222}},  # stds of a sample of what is embedded
        "offloaded": {**SMALL, "mesh": "offloaded"},
        "mixed": {**SMALL, "mesh": "mixed"},
        "mixed by sgd": {**SMALL, "mesh": "mixed", "optimizer": "sgd"},
    },
    3: {
        "tied llama": {"family": "llama", "mesh": "fsdp", "changes": TIED},
        "gpt2": WIDE,
        "mixtral": {"family": "mixtral", "mesh": "fsdp"},  # four experts: the last rank has none
        "qwen3": {"family": "qwen3", "mesh": "fsdp"},
        "deepseek_v3": {"family": "deepseek_v3", "mesh": "fsdp"},
    },
    4: {
        "llama": {"family": "llama", "mesh": "fsdp"},
        "tied llama, copies": {"family": "llama", "mesh": "hsdp", "changes": TIED},
        "both": {**PARALLEL, "mesh": "both"},
    },
}
ALSO: Mapping[int, tuple[str, ...]] = {2: ("average", "refusals", "scaled"), 3: (), 4: ()}
EACH = [(count, name) for count, cases in CASES.items() for name in cases]


# What every run grows, in part because tests of its own ask for it; `make sweep` grows them all.
KEPT = {(2, "gpt2"), (2, "sampled"), (2, "each"), (2, "no statistics"), (3, "mixtral"), (4, "both")}


def started(folder: Path, count: int, asked: object) -> list[Any]:
    (folder / "asked.json").write_text(json.dumps(asked))
    jobs = [PROCESSES.Process(target=sharded_job.main, args=(folder, rank, count)) for rank in range(count)]
    for job in jobs:
        job.start()
    return jobs


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Reports]:
    """What all of so many ranks report, who are started once, of the cases that this run's tests ask for."""
    done: dict[int, tuple[list[int | None], list[str], Path]] = {}
    asked = {
        (item.callspec.params["count"], item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == test_a_case.__name__
    }

    def run(count: int) -> Reports:
        if count not in done:
            folder = tmp_path_factory.mktemp(f"ranks{count}")
            cases = {name: case for name, case in CASES[count].items() if (count, name) in asked | KEPT}
            jobs = started(folder, count, {"cases": cases, "also": ALSO[count]})
            for job in jobs:
                job.join(900)
            errors = [(folder / f"{rank}.log").read_text() for rank in range(count)]
            done[count] = ([job.exitcode for job in jobs], errors, folder)
        codes, errors, folder = done[count]
        assert codes == [0] * count, errors
        return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]

    return run


# ── the same numbers ──


@spawned
@pytest.mark.parametrize(("count", "name"), swept(EACH, lambda *case: case in KEPT))
def test_a_case(run: Callable[[int], Reports], count: int, name: str) -> None:
    """Weights, buffers, moments and what wants gradients: on every rank, bit by bit those of one process. It
    computes the same, trains on, and counts what `forecast` told: bytes read, received, sent, held, and of
    sums and means, and rounds, of AdamW on the meshes that `forecast` knows.

    The norms of these models compute in float32. Muon's step is its own: it makes matrices orthogonal in
    bfloat16, part by part, so that it differs from one process's without any growth. A mixed policy has
    gradients made in float32, and one process makes them in float64: AdamW, which divides them by their size,
    makes a step of its rate of what is rounding in one that is nearly 0, so there SGD's step is compared.
    """
    reports = [each[name] for each in run(count)]
    for report in reports:
        assert report["other"] == []
        assert report["states"] == []
        assert report["tied"] == report["tied alone"]
        assert report["function"] < 1e-5
        mixed = name.startswith("mixed")
        word = "torch.float32" if mixed else "torch.float64"
        assert report["computed in"] == [word, word]
        if name == "muon":  # in units of its rate, of which an entry of a step can have 1.2
            assert report["matrices"] < 0.5 and report["rest"] < 1e-12
        elif name != "mixed":
            assert report["step"] < (1e-6 if mixed else 1e-12)
        assert report["counted"] == report["told"]
        assert bool(report["told"]) == (name not in ("columns", "paced", "each", "muon", "mixed by sgd"))
    told = reports[0]["told"]
    assert not told or told["totals"] > 0
    if CASES[count][name]["mesh"] == "both":
        assert len({report["counted"]["sent"] for report in reports}) > 1


@spawned
def test_each_kind_of_optimizer(run: Callable[[int], Reports]) -> None:
    for report in (each["each"] for each in run(2)):
        assert report["kinds"] == ["Adagrad", "AdamW", "Lion", "Lookahead", "NAdam", "RMSprop", "SGD"]


@spawned
@pytest.mark.parametrize(("count", "name"), [(2, "gpt2"), (2, "no statistics"), (3, "mixtral"), (4, "both")])
def test_what_moves_is_what_is_lacking(run: Callable[[int], Reports], count: int, name: str) -> None:
    """To fill, what ranks need and do not hold, once; for statistics a part of what they are made of."""
    reports = [each[name] for each in run(count)]
    sent, lacking = (sum(report[key] for report in reports) for key in ("sent", "lacking"))
    looked_at = reports[0]["looked_at"]
    assert lacking <= sent <= 1.5 * (lacking + looked_at)
    if name == "no statistics":
        assert sent <= 1.01 * lacking
    assert max(report["most"] for report in reports) <= 3 * (1 << 14)
    assert min(report["times"] for report in reports) == max(report["times"] for report in reports) > 5


@spawned
def test_a_gradient_scaler_goes_on(run: Callable[[int], Reports]) -> None:
    """It skips what it must, and scales as in one process, through growths in place and out of it."""
    for report in (each["scaled"] for each in run(2)):
        for found in report.values():
            assert found["scales"] == [8.0, 8.0]
            assert found["apart"] < 1e-12


@spawned
def test_an_average_and_a_schedule(run: Callable[[int], Reports]) -> None:
    for report in (each["average"] for each in run(2)):
        assert report == {"wrong": [], "rate": 0.01 / 2}


# ── what is refused ──

REFUSALS: Mapping[str, str] = {
    "no function": "StateError: LlamaForCausalLM is spread over ranks: give shard=, the function that shards",
    "not callable": "StateError: shard='fsdp' is no function",
    "another request": "StateError: rank 1 was given another request than rank 0",
    "another seed": "StateError: rank 1 was given another request than rank 0",
    "uneven columns": "StateError: shard= can't shard the grown model: FSDP does not support uneven sharding",
    "uneven rows": "mlp.down_proj.weight would be [28, 45], and its dim 1 is cut into 2 parts, .* 44 or 46",
    "looks": "SizeError: init 'gradmax' looks at the model while it runs",
    "looks at old ones": "SizeError: init looks at region.old() of mlp.gate, and no rank has all of it",
    "few rows": "StateError: score.weight would have 1 rows over 2 ranks, and Muon needs a row on each",
    "factored": "StateError: the optimizer keeps row_var of model.embed_tokens.weight, means of rows",
    "whole": "StateError: exp_avg of model.embed_tokens.weight does not lie over the ranks as",
    "rates of their own": "StateError: d in group 0 of AdamW is .* on rank 0, so the ranks learn",
    "not finite": "CheckpointError: mlp.up, layers 0 holds numbers that are not finite",
    "drawn otherwise": "SizeError: init gives other numbers on rank 1 than on rank 0",
    "renamed": "StateError: after shard= more.weight is [3, 2], and before it was not there",
}
# What one rank alone refuses, and what it says.
ON_ONE: Mapping[str, str] = {
    "no function on one": "LlamaForCausalLM is spread over ranks: give shard=",
    "one refuses": "ffn=1 would shrink ffn from 37 to 1",
    "breaks on one": "shard= can't shard the grown model: no such mesh",
    "no optimizer on one": "a scheduler, a policy or release is given without an optimizer",
    "no average on one": "ema is a int: give the average as a model or as its state dict",
    "no optimizer in place on one": "optimizer= was given int: give an optimizer",
    "another word on one": "grow takes no release: it returns the model alone",
    "no model on one": "a int is no model in memory: load it first",
    "left out on one": "parameters lie on ranks [0] alone, and this is none of them",
    "beyond float16": "model.layers.0.self_attn.k_proj.bias would hold numbers beyond float16's 65504",
}


@spawned
@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_are_alike(run: Callable[[int], Reports], name: str) -> None:
    said = [each["refusals"][name] for each in run(2)]
    assert said[0] == said[1]
    first, _, rest = REFUSALS[name].partition(" .* ")
    assert first in said[0] and rest in said[0]


@spawned
@pytest.mark.parametrize("name", ON_ONE)
def test_what_one_rank_refuses_all_do(run: Callable[[int], Reports], name: str) -> None:
    other, own = (each["refusals"][name].partition(": ") for each in run(2))
    assert own[2].startswith(ON_ONE[name])
    assert other[0] == own[0]
    assert other[2].startswith(f"rank 1 can't grow the model, so none does: {ON_ONE[name]}")


@spawned
def test_a_refusal_takes_nothing(run: Callable[[int], Reports]) -> None:
    """Though the old state was to be given up; the growth after all of them does so."""
    for report in (each["refusals"] for each in run(2)):
        assert report["kept"] > 0 == report["released"]
        assert report["at last"] == 74


@spawned
def test_no_rank_waits_for_one_that_has_ended(tmp_path: Path) -> None:
    first, second = started(tmp_path, 2, "ended")
    second.join(120)
    assert second.exitcode == 9
    first.join(120)
    assert first.exitcode not in (0, None)
    assert "Error" in (tmp_path / "0.log").read_text() and not (tmp_path / "0.json").exists()


# ── one process ──


@pytest.mark.slow
def test_one_rank(one_process: None) -> None:
    counts = sharded_job.counted()
    report = sharded_job.grow_case({"family": "gpt2", "mesh": "fsdp", "growth": {"ffn": "x2"}}, counts)
    assert (report["other"], report["states"], report["sent"]) == ([], [], 0)
    assert report["counted"] == report["told"] and report["told"]["read"] > 0
    assert report["function"] < 1e-12 > report["step"]


def test_what_a_round_brought_is_gone_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a rank would hold what it was given twice."""
    block, box = Block("mlp.up", (), ("ffn",)), (range(3),)
    part = Part(block, box, "w", (1,), box, View((3,), None, (3,), (), (0,)))
    unit = Unit({0: 0}, {0: ((block, box),)})
    units, gone = [Round((unit,), (Move(part, box, 1, 0),))] * 3, list[Any]()

    def exchanged(self: Any, moves: Any) -> Any:
        assert all(each() is None for each in gone)
        given = torch.ones(3)
        gone.append(weakref.ref(given))
        return {block: [(box, given)]}

    monkeypatch.setattr(exchanging, "rounds", lambda *_: iter(units))
    monkeypatch.setattr(exchanging.Exchange, "_exchanged", exchanged)
    held: Any = SimpleNamespace(parts=lambda block: Parts([part]))
    read = list[float]()
    old = exchanging.Exchange(Ranks(0, 2), held, {}, exchanging.Count())
    old.carry_out([], lambda work, given: read.append(float(given(block, box).sum())))
    assert read == [3.0, 3.0, 3.0] and len(gone) == 3


def test_without_a_process_group() -> None:
    import tiny

    with pytest.raises(StateError, match="there is no process group: start the script by torchrun, and"):
        isogrow.grow(tiny.model("LlamaForCausalLM"), ffn="x2", shard=lambda model: model)


# ── docs/sharding.md ──


@spawned
def test_the_job_of_the_document_runs(tmp_path: Path) -> None:
    block, *_ = documents.code(documents.read(documents.ROOT / "docs" / "sharding.md"), "python")
    (tmp_path / "job.py").write_text(block)
    where = meeting(2)
    side_by_side(script, [(tmp_path / "job.py", rank, where) for rank in range(2)])


def script(job: Path, rank: int, where: Mapping[str, str]) -> None:
    """Run a script as one of the ranks that torchrun starts."""
    be_rank(rank, where)
    runpy.run_path(str(job), run_name="__main__")
