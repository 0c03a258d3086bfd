"""What growing a sharded job will cost, told without a process; tests/test_sharded.py asks jobs."""

from __future__ import annotations

import json
import shutil
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from command import checkpoints, isogrow
from hypothesis import given
from hypothesis import strategies as st
from rows import FAMILIES
from safetensors.torch import load_file

import isogrow as grower
from isogrow.errors import SizeError, StateError
from isogrow.growth.forecasting import Forecast, foretold, live
from isogrow.layouts.pattern import View
from isogrow.optim.moments import carried
from isogrow.planning.request import Request
from isogrow.plans import forecast as counting
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.boxes import overlap
from isogrow.plans.dealing import bytes_of, course
from isogrow.plans.forecast import Bounds, Kind, Made
from isogrow.plans.moving import Holdings, Lot, Part, Parts, filled
from isogrow.plans.pieces import Block, Box
from isogrow.plans.placing import Mesh, read_mesh
from isogrow.plans.plan import Plan
from isogrow.plans.taking import taken
from isogrow.stores.binding import outputs

SMALL = Bounds(512, 1 << 14)  # so that tensors span many boxes, and a growth many rounds
EVEN = {"hidden_size": 28, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 22}


@cache
def seen(family: str) -> tuple[Anatomy, tuple[str, ...]]:
    """A small model as a job holds it, and the names of its parameters."""
    row, changes = FAMILIES[family], EVEN if family == "llama" else {}
    with torch.device("meta"):
        model = getattr(transformers, row.classes[0])(row.config.from_dict(row.json(**changes)))
    anatomy, names = live(model)
    return anatomy, tuple(names)


def grown(family: str, anatomy: Anatomy) -> Plan:
    even = {"hidden": 80, "ffn": 50, "heads": 8, "kv_heads": 4, "layers": "+1"}
    return Request(even if family == "llama" else dict(FAMILIES[family].together)).plan(anatomy)


def told(family: str, mesh: str, **options: Any) -> Forecast:
    anatomy, names = seen(family)
    return foretold(anatomy, grown(family, anatomy), read_mesh(mesh), names, (1, 2), bounds=SMALL, **options)


# ── what is told ──


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "mesh"),
    [
        ("llama", "replicate=2,fsdp=2,tp=2"),
        ("gpt2", "fsdp=3"),
        ("mixtral", "fsdp=6"),
        ("deepseek_v3", "fsdp=3"),
    ],
)
def test_what_is_alike_is_worked_out_once(family: str, mesh: str) -> None:
    """And comes to the same as when each tensor is worked out by itself."""
    found = told(family, mesh)
    assert found == told(family, mesh, memory=False)
    assert sum(found.sent) == sum(found.received) > 0
    assert found.rounds > 5 and max(found.most) <= 3 * SMALL.round


def test_what_is_taken_for_alike_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were blocks that lie otherwise taken for alike, the figures would be others."""
    anatomy, _ = seen("llama")
    plan, mesh = Request({"layers": "+1"}).plan(anatomy), read_mesh("fsdp=2")
    regions = {each.source: mesh.regions(each) for each in anatomy.stored}
    last = [name for name in regions if name.endswith("up_proj.weight")][-1]
    regions[last] = {0: regions[last][1], 1: regions[last][0]}
    made = [Made(each, mesh.regions(each), 4) for each in outputs(anatomy, plan)]
    kinds, widths = [Kind(plan, made)], dict.fromkeys(regions, 4)

    def costs() -> Any:
        return counting.foreseen(Holdings(anatomy, regions), widths, kinds, SMALL)

    assert costs() == counting.foreseen(Holdings(anatomy, regions), widths, kinds, SMALL, memory=False)
    found = costs()
    monkeypatch.setattr(counting._Alike, "region", lambda self, regions: 0)
    assert costs() != found


@pytest.mark.parametrize("limit", [1, 1 << 11, 1 << 30])
def test_means_are_made_for_few_tensors_at_a_time(limit: int) -> None:
    anatomy, _ = seen("gpt2")
    plan = carried(anatomy, grown("gpt2", anatomy), 2, seeded=True)
    made = [Made(each, {}, 8) for each in outputs(anatomy, plan)]
    found = course(made, plan, limit)
    assert [each for some, _ in found.lots for each in some] == made
    for some, means in found.lots:
        blocks = [block for each in some for _, block in each.stored.blocks(plan.target)]
        assert set(means) == set(taken(plan, blocks).means)
        assert bytes_of(means) <= limit or len(some) == 1
    assert (len(found.lots) == 1) is (limit == 1 << 30)
    assert max(bytes_of(means) for _, means in found.lots) > 0


def test_one_rank_sends_nothing() -> None:
    found = told("llama", "fsdp=1")
    assert (found.rounds, found.totals, found.sent, found.received, found.most) == (0, 0, (0,), (0,), (0,))
    assert found.read[0] > 0 and found.peak[0] > found.before[0] + found.after[0]


def test_what_ranks_hold_is_all_of_it_for_each_copy() -> None:
    """Moments too, so three tensors for each parameter."""
    anatomy, _ = seen("llama")
    entries = sum(prod(each.header.shape) for each in anatomy.stored)
    for mesh, copies in (("fsdp=4", 1), ("replicate=2,fsdp=2", 2), ("fsdp=1", 1)):
        assert sum(told("llama", mesh).before) == 3 * 4 * entries * copies
    whole = told("llama", "fsdp=2,tp=2").before
    assert sum(told("llama", "fsdp=4").before) < sum(whole)  # embeddings and norms are on both of tp


def test_another_place_costs_something_else() -> None:
    """So that what is told can be wrong."""
    costs = [told("llama", mesh) for mesh in ("fsdp=4", "replicate=2,fsdp=2", "tp=2", "fsdp=2,tp=2")]
    assert all(one.sent != two.sent for one, two in pairwise(costs))


# ── by name ──


def test_a_forecast_of_a_model_and_of_its_files() -> None:
    model, folder = tiny.model("LlamaForCausalLM"), checkpoints()["LlamaForCausalLM"]
    request: dict[str, Any] = {"ffn": "x2", "layers": "+1"}
    one, two = (grower.forecast(each, "fsdp=3", **request) for each in (model, folder))
    assert one == two and one.ranks == 3
    assert grower.forecast(model, {"fsdp": 3}, ranks=3, **request) == one
    alone = grower.forecast(model, ranks=3, optimizer_state="none", **request)
    assert 3 * sum(alone.before) == sum(one.before) and sum(alone.read) < sum(one.read)
    lines = str(one).splitlines()
    assert (
        lines[0]
        == f"3 ranks (fsdp=3), {one.rounds} rounds, {one.totals:,} bytes of sums and means; bytes a rank"
    )
    assert lines[-1].split() == ["held", "at", "the", "peak", *(f"{n:,}" for n in sorted(one.peak))]


def test_a_job_has_experts_stacked_that_files_have_one_by_one(tmp_path: Path) -> None:
    row = FAMILIES["mixtral"]
    model = getattr(transformers, row.classes[0])(row.config.from_dict(row.json()))
    model.save_pretrained(tmp_path)
    assert len(model.state_dict()) < len(load_file(tmp_path / "model.safetensors"))
    one, two = (grower.forecast(each, "fsdp=2", ffn="+5") for each in (model, tmp_path))
    assert one == two


def test_a_config_without_architectures_loses_no_tensor(tmp_path: Path) -> None:
    """transformers makes the base of it, which has no head; the files have one."""
    whole, bare = checkpoints()["LlamaForCausalLM"], tmp_path / "bare"
    shutil.copytree(whole, bare)
    config = json.loads((bare / "config.json").read_text())
    del config["architectures"]
    (bare / "config.json").write_text(json.dumps(config))
    assert grower.forecast(bare, "fsdp=2", ffn="x2") == grower.forecast(whole, "fsdp=2", ffn="x2")


def test_the_shell_tells_it() -> None:
    folder = checkpoints()["LlamaForCausalLM"]
    asked = ("plan", folder, "--ffn", "x2", "--mesh", "fsdp=3")
    found = grower.forecast(folder, "fsdp=3", ffn="x2").to_dict()
    assert isogrow(*asked, "--json").json["sharded"] == {"optimizer_state": "adamw", **found}
    assert found["balance"]["sent"]["max"] == max(found["each"]["sent"])
    shown = isogrow(*asked, "--ranks", 3).out
    assert f"3 ranks (fsdp=3), {found['rounds']} rounds of exchange; AdamW's moments too\n" in shown
    assert " sums and means     1.82 kB  1.82 kB  1.82 kB\n" in shown
    assert found["totals"] == 1824
    assert " holds at the peak " in shown
    bare = isogrow(*asked, "--optimizer-state", "none").out
    assert "rounds of exchange; the model alone\n" in bare
    assert "sharded" not in isogrow("plan", folder, "--ffn", "x2", "--json").json


# ── what is refused ──


@pytest.mark.parametrize(
    ("mesh", "ranks", "said"),
    [
        (
            "fsdp=32,tp=2",
            63,
            "mesh fsdp=32,tp=2 has 64 ranks, and 63 are asked for: give lengths whose product",
        ),
        (
            "tp=2,fsdp=2",
            None,
            "the mesh tp,fsdp is not known: give some of replicate, fsdp and tp, each once",
        ),
        ("fsdp=2,fsdp=2", None, "the mesh fsdp,fsdp is not known"),
        ("pipeline=2", None, "the mesh pipeline is not known"),
        ("fsdp", None, "the mesh 'fsdp' can't be read: give a dim and its length, like fsdp=32"),
        ("fsdp=-2", None, "the mesh 'fsdp=-2' can't be read"),
        ("fsdp=0", None, "the mesh has fsdp=0: give a number of ranks, 1 or more"),
        ({"fsdp": True}, None, "the mesh has fsdp=True: give a number"),
        (None, 0, "the mesh has fsdp=0: give a number"),
        ("fsdp=65536,tp=2", None, "has 131,072 ranks: give at most 65,536"),
    ],
)
def test_a_mesh_that_is_none(mesh: Any, ranks: int | None, said: str) -> None:
    with pytest.raises(SizeError) as refused:
        read_mesh(mesh, ranks)
    assert said in str(refused.value)


def test_what_does_not_divide_is_refused_as_the_job_does() -> None:
    anatomy, names = seen("llama")
    plan = Request({"ffn": 45}).plan(anatomy)
    with pytest.raises(SizeError, match=r"down_proj.weight would be \[28, 45\], and its dim 1 is cut into 2"):
        foretold(anatomy, plan, read_mesh("tp=2"), names, ())


def test_options_that_say_nothing_are_refused() -> None:
    folder = checkpoints()["LlamaForCausalLM"]
    for options, said in (
        (("--optimizer-state", "none"), "--optimizer-state is that of a sharded job: give --ranks or --mesh"),
        (("--ranks", 2, "--optimizer-state", "sgd"), "'sgd' is not known: give adamw or none"),
        (("--ranks", 2, "--mesh", "fsdp=3"), "the mesh fsdp=3 has 3 ranks, and 2 are asked for"),
    ):
        ran = isogrow("plan", folder, "--ffn", "x2", *options, columns=200)
        assert ran.code == 2 and said in " ".join(ran.err.split())
    with pytest.raises(StateError, match="optimizer_state='sgd' is not known: give adamw or none"):
        grower.forecast(folder, "fsdp=2", optimizer_state="sgd", ffn="x2")


# ── what it stands on ──


@pytest.mark.parametrize("mesh", ["replicate=2,fsdp=3", "fsdp=2,tp=2", "replicate=1,fsdp=3,tp=2", "tp=2"])
def test_parts_are_all_of_each_tensor(mesh: str) -> None:
    """`Holdings` asserts it of each tensor."""
    anatomy, _ = seen("llama")
    held = read_mesh(mesh)
    assert Holdings(anatomy, {s.source: held.regions(s) for s in anatomy.stored}).world == held.ranks


def test_tensor_parallel_layers_are_cut_where_torch_cuts_them() -> None:
    anatomy, _ = seen("llama")
    mesh = Mesh((("fsdp", 2), ("tp", 2)))
    found = {each.name.split(".", 3)[-1]: mesh.cuts(each) for each in anatomy.stored}  # one layer's
    dims = {name: cuts[1].dim for name, cuts in found.items()}
    assert dims["self_attn.q_proj.weight"] == dims["mlp.up_proj.weight"] == 0
    assert dims["self_attn.o_proj.weight"] == dims["mlp.down_proj.weight"] == 1
    assert dims["input_layernorm.weight"] is None
    assert all(cuts[0].late == (dims[name] == 0) for name, cuts in found.items())


@given(st.data())
def test_near_parts_are_those_that_overlap(data: st.DataObject) -> None:
    """Held against all parts: those of a grid, with gaps along one dim."""
    shape = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 9)))
    step = data.draw(st.integers(1, 3))
    cuts = sorted(data.draw(st.sets(st.integers(0, shape[1]))) | {0, shape[1]})
    sides = [[range(i, shape[0], step) for i in range(min(step, shape[0]))]]
    sides.append([range(a, b) for a, b in pairwise(cuts)])
    block, view = Block("mlp.up", (), ("ffn", "hidden")), View((), None, (), (), ())
    parts = [Part(block, (a, b), "w", (0,), (a, b), view) for a in sides[0] for b in sides[1]]
    low = data.draw(st.tuples(*(st.integers(0, n - 1) for n in shape)))
    box: Box = tuple(range(a, data.draw(st.integers(a + 1, n))) for a, n in zip(low, shape, strict=True))
    expected = {part.box: shared for part in parts if (shared := overlap(part.box, box)) is not None}
    assert {part.box: shared for part, shared in Parts(parts).near(box)} == expected


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=4)), st.integers(5, 20))
def test_lots_fill_rounds_as_their_parts_do(lots: list[list[tuple[int, int]]], limit: int) -> None:
    parts = [
        [Lot(((i, j), n), {(True, rank): n}) for j, (rank, n) in enumerate(lot)] for i, lot in enumerate(lots)
    ]
    flat = list(filled((part for own in parts for part in own), limit))
    whole: list[Lot[Any]] = []
    for own in parts:
        load: dict[tuple[bool, int], int] = {}
        for part in own:
            for key, n in part.load.items():
                load[key] = load.get(key, 0) + n
        whole.append(Lot(own, load, lambda own=own: own))
    opened = [
        [
            item
            for each in some
            for item in ([part.item for part in each] if isinstance(each, list) else [each])
        ]
        for some in filled((lot for lot in whole if lot.load), limit)
    ]
    assert opened == flat


def test_a_forecast_reads_no_weight() -> None:
    model = tiny.model("GPT2LMHeadModel").to("meta")
    assert grower.forecast(model, ranks=2, ffn="x2").sent != (0, 0)
