"""Mixtures of experts: files hold them one by one, models in memory stacked, and both grow alike."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
from checkpoints import config, loaded, seen, tensors
from rows import sparse
from safetensors.torch import save_file
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

import isogrow
from isogrow.anatomy import Header, match
from isogrow.errors import CheckpointError, SizeError
from isogrow.families import layout_for
from isogrow.interpreters.checkpoint import prepared
from isogrow.writing.loadable import check_loadable, rebound

FAMILIES = {family.name: family for family in sparse.ROWS}
every = pytest.mark.parametrize("name", FAMILIES)
BINDINGS = ("files", "memory")


@cache
def small(name: str) -> Any:
    """A float32 model of the family's first class."""
    family = FAMILIES[name]
    made = F.class_of(family.classes[0])(F.config_of(family, family.json()))
    made.load_state_dict(F.model(family, family.classes[0], family.json()).state_dict())
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
    for lost in (each.name for each in whole.stored if "experts" in each.weight.slot):
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
    plan = subject.plan(FAMILIES[name].growths["ffn"])
    job = prepared(subject.checkpoint, subject.anatomy, plan)
    others = rebound(subject.anatomy, job.tensors.values(), plan.target)
    known = rebound(subject.anatomy, subject.anatomy.stored, subject.anatomy.sizes)
    assert bool(others) != single(name)
    old = subject.checkpoint.headers
    check_loadable(job.config, job.headers, old, (others, known))
    part = [s for s in job.tensors.values() if "experts.down" not in s.weight.slot or s.index[0][1] < 2]
    less = rebound(subject.anatomy, part, plan.target)
    with pytest.raises(SizeError, match="experts.down_proj, and the grown model would lack it"):
        check_loadable(job.config, {s.name: s.header for s in part}, old, (less, known))
    with pytest.raises(SizeError, match="experts.* would be"):
        wrong = config(tmp_path / "small") | {key: job.config[key] + 1 for key in plan.config}
        check_loadable(wrong, job.headers, old, (others, known))


# ── experts that get no token ──


def shy() -> Any:
    """A Mixtral whose last expert no token reaches: its logit falls with a channel that is always large."""
    made = copy.deepcopy(small("mixtral"))
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
