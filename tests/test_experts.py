"""Mixtures of experts: files hold them one by one, models in memory stacked, and both grow alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
from breaking import Change, changed, switched_on, unscaled
from checkpoints import config, loaded, seen, tensors
from rows import sparse
from safetensors.torch import save_file
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

import isogrow
from isogrow.errors import CheckpointError, LawError, SizeError
from isogrow.families import layout_for
from isogrow.interpreters.checkpoint import prepared
from isogrow.interpreters.module import headers
from isogrow.laws import check, lives
from isogrow.laws.building import network
from isogrow.laws.twins import groups
from isogrow.plans.anatomy import Header
from isogrow.plans.matching import match
from isogrow.stores.loadable import built, check_loadable, rebound

pytestmark = pytest.mark.slow  # models of many kinds are built, grown and run


FAMILIES = {family.name: family for family in sparse.ROWS}
every = pytest.mark.parametrize("name", FAMILIES)
BINDINGS = ("files", "memory")


@cache
def small(name: str) -> Any:
    """A float32 model of the family's first class."""
    return varied(name)


def varied(name: str, **changes: Any) -> Any:
    """The same of another config."""
    family = FAMILIES[name]
    source = family.json(**changes)
    made = F.class_of(family.classes[0])(F.config_of(family, source))
    made.load_state_dict(F.model(family, family.classes[0], source).state_dict())
    return made.eval()


def stored(name: str, binding: str) -> dict[str, Tensor]:
    """A small model's tensors as they are named in its files, or in memory."""
    model = small(name)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    return state if binding == "memory" else revert_weight_conversion(model, state)


def saved(folder: Path, name: str, binding: str = "files") -> Path:
    """A small model's folder, with its tensors under the names of a binding."""
    small(name).save_pretrained(folder)
    if binding == "memory":
        save_file(stored(name, binding), folder / "model.safetensors", {"format": "pt"})
    return folder


def shapes(state: Mapping[str, Tensor]) -> dict[str, Header]:
    return {name: Header(tuple(tensor.shape), "F32") for name, tensor in state.items()}


# ── both bindings ──


@pytest.mark.parametrize("binding", BINDINGS)
@every
def test_grown_in_files_and_in_memory_alike(name: str, binding: str, tmp_path: Path) -> None:
    """Random numbers are named by slot, layer and expert, so it is the same model bit by bit, loaded by
    plain transformers with nothing missing or left over; files keep their names."""
    family = FAMILIES[name]
    source = saved(tmp_path / "small", name, binding)
    isogrow.grow_checkpoint(source, tmp_path / "large", **family.together, seed=5)
    one = loaded(tmp_path / "large", family.classes[0]).state_dict()
    two = isogrow.grow(small(name), **family.together, seed=5).state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert templates(tensors(tmp_path / "large")) == templates(stored(name, binding))
    isogrow.grow(small(name), **family.growths["ffn"]).save_pretrained(tmp_path / "again")
    assert templates(tensors(tmp_path / "again")) == templates(stored(name, "files"))


def templates(names: Iterable[str]) -> set[str]:
    return {re.sub(r"\d+", "{}", name) for name in names}


def single(name: str) -> bool:
    """Whether a family stacks its experts in files, too."""
    return stored(name, "files").keys() == stored(name, "memory").keys()


@pytest.mark.parametrize("binding", BINDINGS)
@every
def test_a_missing_expert_is_named(name: str, binding: str) -> None:
    family, tensors = FAMILIES[name], shapes(stored(name, binding))
    whole = match(layout_for(name), family.json(), tensors)
    assert len(whole.stored) + len(whole.ignored) == len(tensors)
    for lost in (each.name for each in whole.stored if "experts" in each.line.slot.name):
        rest = {key: header for key, header in tensors.items() if key != lost}
        with pytest.raises(CheckpointError, match=f"^{lost} is missing from the checkpoint"):
            match(layout_for(name), family.json(), rest)


@every
def test_an_expert_in_both_bindings_is_refused(name: str) -> None:
    if single(name):
        pytest.skip("files and memory name them alike")
    one, two = (shapes(stored(name, binding)) for binding in BINDINGS)
    for twice in two.keys() - one.keys():
        with pytest.raises(CheckpointError, match=r"and .* both hold (experts\.\w+|router).* layers \d"):
            match(layout_for(name), FAMILIES[name].json(), {**one, twice: two[twice]})


@every
def test_both_bindings_hold_the_same_blocks(name: str) -> None:
    found = [match(layout_for(name), FAMILIES[name].json(), shapes(stored(name, b))) for b in BINDINGS]
    assert found[0].sizes == found[1].sizes
    held = [
        sorted((b.slot, b.index, b.shape(a.sizes)) for s in a.stored for _, b in s.blocks(a.sizes))
        for a in found
    ]
    assert held[0] == held[1]


@every
def test_the_class_is_asked_about_single_experts(name: str, tmp_path: Path) -> None:
    """What files hold one by one is held against the class's stacked tensors; none is skipped."""
    subject = seen(saved(tmp_path / "small", name))
    growths = FAMILIES[name].growths
    plan = subject.plan(growths.get("expert_ffn", growths["ffn"]))
    job = prepared(subject.checkpoint, subject.anatomy, plan)
    grown = replace(subject.anatomy, sizes=plan.target, stored=tuple(job.tensors.values()))
    others, known = rebound(grown), rebound(subject.anatomy)
    assert bool(others) != single(name)
    old = subject.checkpoint.headers
    check_loadable(built(job.config), job.headers, old, (others, known))
    part = [s for s in job.tensors.values() if s.line.slot.name != "experts.down" or s.index[0][1] < 2]
    less = rebound(replace(grown, stored=tuple(part)))
    with pytest.raises(SizeError, match="experts.down_proj, and the grown model would lack it"):
        check_loadable(built(job.config), {s.name: s.header for s in part}, old, (less, known))
    with pytest.raises(SizeError, match="experts.* would be"):
        wrong = config(tmp_path / "small") | {key: job.config[key] + 1 for key in plan.config}
        check_loadable(built(wrong), job.headers, old, (others, known))


@pytest.mark.parametrize("name", sparse.REAL)
def test_published_models_have_the_same_blocks_in_files(name: str) -> None:
    """Up to 45,395 tensors (DeepSeek-V3), each named once."""
    kind, said, *_ = sparse.REAL[name]
    with torch.device("meta"):
        model = F.class_of(kind)(F.class_of(kind).config_class(**said))
    source, state = F.modern(model.config), dict(model.state_dict())
    files = shapes(revert_weight_conversion(model, state))
    one, two = (match(layout_for(source["model_type"]), source, each) for each in (shapes(state), files))
    assert (len(one.stored), len(two.stored)) == (len(state), len(files))
    assert one.sizes == two.sizes


# ── experts that get no token ──


def shy() -> Any:
    """A Mixtral whose last expert no token reaches: its logit falls with a channel that is always large."""
    made = varied("mixtral", num_experts_per_tok=2)
    with torch.no_grad():
        made.model.embed_tokens.weight[:, 0] = 10.0
        for layer in made.model.layers:
            layer.self_attn.o_proj.weight[0] = layer.mlp.experts.down_proj[:, 0] = 0.0
            layer.post_attention_layernorm.weight[0] = 1.0
            layer.mlp.gate.weight[-1, 0] = -100.0
    return made


@pytest.mark.parametrize("sizes", [{"hidden": 42}, {"ffn": 51}, {"hidden": 42, "ffn": 51, "layers": "+1"}])
def test_unrouted_experts_are_listed_apart(sizes: dict[str, Any]) -> None:
    """Nothing in an expert without tokens gets gradient: no fault of the growth, and not counted as dead."""
    model = shy()
    report = isogrow.verify(model, isogrow.grow(model, **sizes))
    assert report.passed, report.failed
    assert "inactive" in next(check.detail for check in report.checks if check.name == "liveness")


def test_all_experts_routed_is_all_alive() -> None:
    model = small("mixtral")
    report = isogrow.verify(model, isogrow.grow(model, hidden=42, ffn=51, layers="+1"))
    assert report.passed, report.failed
    assert "inactive" not in next(check.detail for check in report.checks if check.name == "liveness")


@pytest.mark.parametrize("slot", ["gate_up_proj", "down_proj"])
def test_a_dead_expert_that_is_routed_fails(slot: str) -> None:
    """New units of a routed expert with zeros on both sides never learn, and verify says which."""
    model = small("mixtral")
    large = isogrow.grow(model, ffn=51)
    with torch.no_grad():
        experts = large.model.layers[1].mlp.experts
        experts.gate_up_proj[2, 37:51] = experts.gate_up_proj[2, 51 + 37 :] = 0.0
        assert not experts.down_proj[2, :, 37:].any()
    report = isogrow.verify(model, large)
    assert "liveness" in {check.name for check in report.failed}


# ── dense and sparse layers in one model ──

PLACES = ("start", "even", "end", (1, 1), (0, 2))
PATTERNS = [
    ("qwen2_moe", {"mlp_only_layers": [1]}),
    ("qwen2_moe", {"mlp_only_layers": [], "decoder_sparse_step": 2}),
    ("qwen3_moe", {"mlp_only_layers": [0], "decoder_sparse_step": 3}),
    ("deepseek_v3", {"first_k_dense_replace": 1}),
    ("deepseek_v3", {"first_k_dense_replace": 0}),
    ("deepseek_v3", {"first_k_dense_replace": 7}),
]


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize(("name", "pattern"), PATTERNS)
def test_a_new_layer_is_of_its_predecessor_s_kind(name: str, pattern: F.Json, at: Any) -> None:
    """The config's keys that list or count layers of a kind follow, so the class builds what is planned."""
    subject = F.subject(FAMILIES[name], "", FAMILIES[name].json(**pattern))
    plan = subject.plan({"layers": 5}, at=at)
    assert subject.error(plan) < F.EXACT
    before, after = (sparse_layers(headers(model)) for model in (subject.small, subject.large(plan)))
    step = plan.steps[0]
    assert after == [before[step.source(layer)[0]] for layer in range(5)]


@pytest.mark.parametrize("at", ["start", (0, 2)])
@pytest.mark.parametrize(("name", "pattern"), PATTERNS)
def test_the_class_is_asked_about_a_new_layer_in_files(
    name: str, pattern: F.Json, at: Any, tmp_path: Path
) -> None:
    """Which layers have experts the grown config says, not the old one."""
    model = varied(name, **pattern)
    model.save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", layers=5, layers_at=at)
    one = loaded(tmp_path / "large", FAMILIES[name].classes[0]).state_dict()
    two = isogrow.grow(model, layers=5, layers_at=at).state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def sparse_layers(tensors: Iterable[str]) -> list[bool]:
    """Whether each layer is a mixture."""
    numbers = {int(name.split(".")[2]) for name in tensors if ".layers." in name}
    return [any(f".layers.{n}.mlp.experts." in name for name in tensors) for n in sorted(numbers)]


def test_a_pattern_that_no_key_can_say_is_refused() -> None:
    """Without a key that follows, the first layer alone is dense, and a new one before it would not be."""
    subject = F.subject(FAMILIES["deepseek_v3"])
    silent = replace(subject.anatomy.layout, kinds=())
    other = replace(subject, anatomy=replace(subject.anatomy, layout=silent))
    with pytest.raises(SizeError, match="a new layer is of its predecessor's kind.*give --layers-at 3$"):
        other.plan({"layers": "+1"}, at="start")
    assert other.error(other.plan({"layers": "+1"}, at=(3,))) < F.EXACT
    assert subject.error(subject.plan({"layers": "+1"}, at="start")) < F.EXACT


def test_an_axis_that_no_layer_has_is_refused() -> None:
    subject = F.subject(FAMILIES["qwen3_moe"], "", FAMILIES["qwen3_moe"].json(mlp_only_layers=[]))
    with pytest.raises(SizeError, match="ffn is no axis of this 'qwen3_moe' model, which has .*expert_ffn"):
        subject.plan({"ffn": "x2"})
    plan = subject.plan({"expert_ffn": "x2"})
    assert list(plan.config) == ["moe_intermediate_size"]
    assert subject.error(plan) < F.EXACT


# ── laws ──

BREAKS: list[tuple[str, str, tuple[str, ...], Change]] = [
    ("mixtral", "ffn", ("experts.down",), switched_on),
    ("mixtral", "hidden", ("experts.down",), switched_on),
    ("mixtral", "layers", ("experts.down",), switched_on),
    ("mixtral", "hidden", ("mlp_norm",), unscaled),
    ("qwen2_moe", "shared_ffn", ("shared.down",), switched_on),
    ("gpt_oss", "layers", ("experts.down.bias",), switched_on),
    ("axk1", "layers", ("attn.o",), switched_on),  # only mixtures are normalised
    ("axk1", "layers", ("mlp_after",), switched_on),
    ("gpt_oss", "heads", ("attn.o",), switched_on),
    ("gpt_oss", "head_dim", ("attn.k", "attn.k.bias"), unscaled),
    ("deepseek_v3", "expert_ffn", ("shared.down",), switched_on),
    ("deepseek_v3", "key_dim", ("attn.k",), unscaled),
    ("deepseek_v3", "key_dim", ("attn.k_rope",), unscaled),
    ("deepseek_v3", "key_dim", ("attn.k",), switched_on),
    ("deepseek_v3", "value_dim", ("attn.o",), switched_on),
    ("deepseek_v3", "q_rank", ("attn.q_a",), unscaled),
    ("deepseek_v3", "q_rank", ("attn.q_norm",), unscaled),
    ("deepseek_v3", "kv_rank", ("attn.kv_a",), switched_on),
    ("deepseek_v3", "kv_rank", ("attn.kv_norm",), unscaled),
]


@pytest.mark.parametrize(("name", "axis", "slots", "change"), BREAKS)
def test_a_broken_plan_is_refused_and_breaks(
    name: str, axis: str, slots: tuple[str, ...], change: Change
) -> None:
    subject = F.subject(F.FAMILIES[name], spread=0.03)  # so that a constant ε of 1e-6 matters, too
    plan = changed(subject.plan(F.FAMILIES[name].growths[axis]), slots, change)
    assert subject.error(plan) > F.BROKEN
    with pytest.raises(LawError):
        check(subject.anatomy, plan)


def test_the_whole_head_waits_for_its_output_sink_and_all() -> None:
    """A new head's sink weighs nothing until the output projection opens."""
    subject = F.subject(FAMILIES["gpt_oss"])
    plan = subject.plan(FAMILIES["gpt_oss"].growths["heads"])
    found = lives(subject.anatomy, network(subject.anatomy, plan))
    assert {life.step for life in found if life.slot == "attn.sinks"} == {2}
    assert {life.step for life in found if life.slot == "attn.o"} == {1}


def test_channels_of_one_expert_are_told_apart_within_it() -> None:
    """A shared expert's channels have an axis' name in common with the others', and no more."""
    subject = F.subject(FAMILIES["deepseek_v3"])
    assert [set(slots) for slots in groups(subject.anatomy, "expert_ffn")] == [
        {"experts.gate", "experts.up", "experts.down"},
        {"shared.gate", "shared.up", "shared.down"},
    ]
    assert len(groups(subject.anatomy, "hidden")) == len(groups(subject.anatomy, "ffn")) == 1


# ── what is refused ──


def test_further_tokens_modules_are_refused_by_name() -> None:
    family = FAMILIES["deepseek_v3"]
    tensors = shapes(stored("deepseek_v3", "files"))
    extra = {**tensors, "model.layers.3.eh_proj.weight": Header((30, 60), "F32")}
    with pytest.raises(CheckpointError, match=r"^model.layers.3.eh_proj.weight belongs to a module that"):
        match(layout_for("deepseek_v3"), family.json(), extra)


def test_packed_experts_are_refused_as_quantized(tmp_path: Path) -> None:
    folder = saved(tmp_path / "small", "gpt_oss")
    packed = {**tensors(folder), "model.layers.0.mlp.experts.down_proj_blocks": torch.zeros(4, 8).byte()}
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="small is quantized .*down_proj_blocks is U8"):
        isogrow.grow_checkpoint(folder, tmp_path / "large", ffn=51)


def test_a_model_without_shared_experts_gets_one_that_adds_nothing() -> None:
    """A model of none is refused, and what the refusal says to do is done here."""
    none, one = (varied("deepseek_v3", n_shared_experts=n) for n in (0, 1))
    with pytest.raises(
        CheckpointError, match="n_shared_experts is 0, .* give it one whose output weights are"
    ):
        isogrow.grow(none, expert_ffn="x2")
    one.load_state_dict(
        {n: x for n, x in none.state_dict().items() if "shared_experts" not in n}, strict=False
    )
    for name, value in one.named_parameters():
        if name.endswith("shared_experts.down_proj.weight"):
            value.data.zero_()
    outputs: list[Tensor] = []
    for model in (none, one, isogrow.grow(one, expert_ffn="x2")):
        model.set_experts_implementation("eager")
        outputs.append(model(torch.arange(9)[None]).logits.detach())
    assert torch.equal(outputs[0], outputs[1])
    assert torch.allclose(outputs[1], outputs[2], atol=1e-5)
