"""Which entries of a grown model are new: held against what fills the model, in memory and on disk."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
from command import checkpoints, isogrow
from test_module import live
from torch import Tensor, nn

import isogrow as grower
from isogrow.errors import CheckpointError, SizeError
from isogrow.growth.newness import New, NewEntries
from isogrow.plans import boxes

# Fused by heads and by parts, stacked experts, tied heads, two stacks, rotary strides, and a norm's 1 + g.
CASES = ("llama", "gpt2", "gpt_neox", "phi3", "bloom", "qwen3_moe", "gpt_oss", "gemma", "deepseek_v3", "t5")
MADE_FROM_OLD = ("gpt2", "gpt_neox", "bloom", "qwen3_moe")  # LayerNorm on the residual, norms on keys


def by_hand(small: nn.Module, large: nn.Module) -> dict[str, Tensor]:
    """Where the old model has a part in the grown one: where two small models that differ everywhere make
    two large ones that differ."""
    plan = grower.plan_of(large)
    assert plan is not None
    grown: list[Mapping[str, Tensor]] = []
    for value in (1.0, 2.0):
        other = copy.deepcopy(small)
        with torch.no_grad():
            for p in other.parameters():
                p.fill_(value)
        grown.append(dict(grower.grow(other, plan=plan).named_parameters()))
    return {name: grown[0][name] != grown[1][name] for name in grown[0]}


def masks(large: nn.Module, found: NewEntries) -> dict[str, Tensor]:
    made = {name: torch.zeros(p.shape, dtype=torch.bool) for name, p in large.named_parameters()}
    for name, new in found.parameters.items():
        assert made[name].shape == new.shape
        for box in new.slices:
            assert not made[name][box].any(), f"boxes of {name} overlap"
            made[name][box] = True
        assert int(made[name].sum()) == new.count
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_new_is_what_the_old_model_has_no_part_in(name: str) -> None:
    small = live(name)
    large = grower.grow(small, init_std=0.5, **F.FAMILIES[name].together)
    found = grower.new_entries(large)
    made, old = masks(large, found), by_hand(small, large)
    for key, has_part in old.items():
        assert (made[key] | has_part).all(), key
        # New means, copies and gains (drawn around the old ones' mean) are made from old entries, too.
        if name not in MADE_FROM_OLD and "norm" not in key and "layer_scale" not in key:
            assert torch.equal(made[key], ~has_part), key
    total = sum(p.numel() for p in large.parameters()) - sum(p.numel() for p in small.parameters())
    assert found.count == total


def test_a_box_that_is_elsewhere_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: boxes one entry further."""
    true = boxes._flat

    def shifted(factors: Any) -> list[range]:
        return [range(r.start + 1, r.stop + 1, r.step) if r.start > 5 else r for r in true(factors)]

    monkeypatch.setattr(boxes, "_flat", shifted)
    with pytest.raises((AssertionError, IndexError)):
        test_new_is_what_the_old_model_has_no_part_in("llama")


def test_what_was_added_and_what_grew() -> None:
    small = live("llama")
    large = grower.grow(small, ffn=51, layers="+1")
    found = grower.new_entries(large)
    layer = f"model.layers.{small.config.num_hidden_layers}."
    assert set(found.added) == {name for name, _ in large.named_parameters() if name.startswith(layer)}
    assert all(".mlp." in name for name in found.grown)
    assert found.grown["model.layers.0.mlp.up_proj.weight"] == New((51, 30), ((range(37, 51), range(30)),))
    assert found.grown["model.layers.0.mlp.up_proj.bias"] == New((51,), ((range(37, 51),),))


def test_several_growths_are_one_plan() -> None:
    small = live("llama")
    once = grower.grow(small, ffn=51)
    twice = grower.grow(once, ffn=60)
    first, second = grower.plan_of(once), grower.plan_of(twice)
    assert first is not None and second is not None
    name = "model.layers.0.mlp.up_proj.weight"
    last, both = (grower.new_entries(twice, plan).grown[name].boxes for plan in (None, first.then(second)))
    assert (last[0][0], both[0][0]) == (range(51, 60), range(37, 60))


def test_a_folder_says_the_same_without_weights(tmp_path: Path) -> None:
    source, out = checkpoints()["LlamaForCausalLM"], tmp_path / "large"
    plan = grower.grow_checkpoint(source, out, hidden=36, ffn=57, heads=6, layers="+1")
    from transformers import AutoModelForCausalLM

    in_memory = grower.new_entries(AutoModelForCausalLM.from_pretrained(out), plan)
    (out / "model.safetensors").write_bytes(_header((out / "model.safetensors").read_bytes()))
    assert grower.new_entries(out) == in_memory
    ran = isogrow("inspect", out, "--new", "--json")
    assert (ran.code, ran.json["grown"]) == (0, json.loads(json.dumps(in_memory.to_dict()))["grown"])
    assert sorted(ran.json["added"]) == sorted(in_memory.added)
    shown = isogrow("inspect", out, "--new")
    assert shown.code == 0 and max(map(len, shown.out.splitlines())) <= 80
    assert f"{in_memory.count:,} of {ran.json['parameters']:,}" in shown.out
    lines = shown.out.splitlines()  # no name is cut
    for name in in_memory.added:
        assert any(line.startswith(f" {name}  ") for line in lines)


def _header(data: bytes) -> bytes:
    """The same file with every weight 0."""
    size = 8 + int.from_bytes(data[:8], "little")
    return data[:size] + bytes(len(data) - size)


def test_what_no_plan_is_known_of_is_refused(tmp_path: Path) -> None:
    small = live("llama")
    with pytest.raises(CheckpointError, match="no plan is known for this model: give plan="):
        grower.new_entries(small)
    folder = checkpoints()["LlamaForCausalLM"]
    with pytest.raises(CheckpointError, match="isogrow.json is missing from .*: only a folder that isogrow"):
        grower.new_entries(folder)
    with pytest.raises(SizeError, match="the plan does not end at this model's sizes"):
        grower.new_entries(small, grower.plan_of(grower.grow(small, ffn=51)))
    ran = isogrow("inspect", folder, "--new")
    assert ran.code == 2 and "no plan is known without it" in " ".join(ran.err.split())
    assert ran.err.endswith("name the one by which the model was grown (--plan)\n")
    assert isogrow("inspect", folder, "--plan", folder).code == 2
