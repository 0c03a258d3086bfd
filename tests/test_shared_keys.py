"""Layers that read the keys of others, inputs of each layer's own, and numbers that multiply the residual."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
import transformers
from rows.gemma4 import EXPERTS, FULL, GEMMA4, WINDOW

import isogrow
from isogrow.errors import LawError, SizeError
from isogrow.laws import check
from isogrow.layouts.pattern import parse
from isogrow.plans.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    LayerAddition,
)
from isogrow.plans.plan import Constant, Init, Plan

EXACT = 1e-12
ALIKE: dict[str, Any] = dict(
    attention_k_eq_v=True,
    num_global_key_value_heads=3,
    num_kv_shared_layers=0,
    use_double_wide_mlp=False,
    hidden_size_per_layer_input=0,
)


def subject(**changes: Any) -> F.Subject:
    return F.subject(GEMMA4, source=GEMMA4.json(**changes))


def test_blocks_one_after_the_other_in_one_dim() -> None:
    pattern = parse("vocab -> ({layers} width)")
    sizes = {"vocab": 5, "layers": 3, "width": 4}
    assert (pattern.index, pattern.produced(), pattern.consumed()) == (("layers",), ("width",), ("vocab",))
    assert str(pattern) == "vocab -> ({layers} width)"
    assert pattern.shape(sizes.__getitem__) == (5, 12)
    view = pattern.view("", {"layers": 2}, sizes.__getitem__)
    assert (view.full, view.select, view.order) == ((5, 3, 4), ((1, 2),), (1, 0))


@pytest.mark.parametrize(
    ("at", "kinds", "shared"),
    [
        ("end", [WINDOW, FULL, WINDOW, FULL, WINDOW, FULL, FULL], 3),
        (1, [WINDOW, WINDOW, FULL, WINDOW, FULL, WINDOW, FULL], 2),
        (5, [WINDOW, FULL, WINDOW, FULL, WINDOW, WINDOW, FULL], 3),
    ],
)
def test_where_layers_can_be_added(at: str | int, kinds: list[str], shared: int) -> None:
    """A new layer with keys stands before the one whose keys are read; one without reads the same."""
    small = subject()
    made = small.plan({"layers": "+1"}, at=at)
    config = small.json(made)
    assert config["layer_types"] == kinds
    assert config["num_kv_shared_layers"] == shared
    full = {str(i) for i, kind in enumerate(kinds) if kind == FULL}
    assert config["per_layer_config"].keys() == full  # it names layers by number, and moves with them
    assert small.error(made) < EXACT


@pytest.mark.parametrize("at", [3, 4])
def test_no_layer_with_keys_comes_between(at: int) -> None:
    """Layer 2 and layer 3 lend their keys; what extends either would lend its own."""
    with pytest.raises(SizeError, match="give --layers-at 6"):
        subject().plan({"layers": "+1"}, at=at)


def moved(plan: Plan, at: int) -> Plan:
    """The same plan, whose one new layer stands elsewhere."""
    (step,) = plan.steps
    old, new, *_ = step.places
    first = dataclasses.replace(old, count=at)
    fresh = dataclasses.replace(new, start=at, source=at - 1)
    last = dataclasses.replace(old, start=at + 1, count=step.old - at, source=at)
    return dataclasses.replace(plan, steps=(dataclasses.replace(step, places=(first, fresh, last)),))


def test_a_lender_that_is_new_is_refused_and_breaks() -> None:
    small = subject(layer_types=[FULL] * 6)
    made = moved(small.plan({"layers": "+1"}, at="end"), 4)  # layer 3 lends its keys
    made = dataclasses.replace(made, config={**made.config, "num_kv_shared_layers": 2})
    with pytest.raises(LawError, match="would read that of the new layer 4"):
        check(small.anatomy, made)
    assert small.error(made) > F.BROKEN


def test_a_number_that_multiplies_the_residual_is_one() -> None:
    """The class holds it as a buffer, and multiplies what the whole layer gives by it, the residual too."""
    small = subject()
    made = small.plan({"layers": "+1"})
    (step,) = made.steps
    assert step.entry("scalar", "new") == Constant(1.0)
    wrong = {**step.rewrites, "scalar": {"new": Constant(0.5)}}
    broken = dataclasses.replace(made, steps=(dataclasses.replace(step, rewrites=wrong),))
    with pytest.raises(LawError, match="it must be 1"):
        check(small.anatomy, broken)
    assert small.error(broken) > F.BROKEN


def test_a_norm_of_values_is_undone_by_what_reads_them() -> None:
    """transformers 5.23 normalises values without a gain: keys grow by copies, values by any scale."""
    small = subject()
    made = small.plan({"head_dim": 16})
    assert small.error(made) < EXACT
    (step,) = (step for step in made.steps if step.axis == "value_dim")
    wrong = {**step.rewrites, "attn.o": {**step.rewrites["attn.o"], "old": step.entry("attn_norm", "old")}}
    broken = dataclasses.replace(
        made, steps=tuple(dataclasses.replace(s, rewrites=wrong) if s is step else s for s in made.steps)
    )
    with pytest.raises(LawError, match="must scale attn.o"):
        check(small.anatomy, broken)


HEADS, DIMS = (HeadAddition(heads=12, kv_heads=4),), (AttentionExpansion(16), HeadsExpansion(16))


@pytest.mark.parametrize("order", [(*HEADS, *DIMS), (*DIMS, *HEADS)], ids=["heads first", "dims first"])
def test_new_values_of_new_heads_are_alive(order: tuple[Expansion, ...]) -> None:
    """New heads' columns of the output are zero, and so are new values: what meets them is drawn."""
    small = subject()
    made = small.plan(order, init=Init("copy"))
    assert small.error(made) < EXACT


def test_layers_that_share_keys_are_counted_after_each_step() -> None:
    """The last one shares keys, wherever others were added before."""
    small = subject(layer_types=[WINDOW, WINDOW, FULL, FULL], num_hidden_layers=4, num_kv_shared_layers=1)
    made = small.plan((LayerAddition("+2", "start"), LayerAddition("+1", "end")))
    assert made.config["num_kv_shared_layers"] == 2
    assert small.error(made) < EXACT


@pytest.mark.parametrize("more", [{}, {**EXPERTS, "num_global_key_value_heads": 1}], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    "wanted",
    [
        {"hidden": 41},
        {"heads": 12},
        {"heads": 12, "kv_heads": 4},
        {"hidden": 41, "ffn": 60, "heads": 12, "head_dim": 16, "layers": "+2"},
    ],
    ids=str,
)
def test_keys_that_are_values(wanted: dict[str, Any], more: dict[str, Any]) -> None:
    """Where attention is full they have heads of their own number, whose groups follow the others'."""
    small = subject(**{**ALIKE, **more})
    made = small.plan(wanted)
    assert small.error(made) < EXACT
    own = small.json(made)["per_layer_config"]["1"]
    assert own == {"head_dim": 12, "num_key_value_heads": more.get("num_global_key_value_heads", 3)}


def test_the_class_takes_its_last_layer_for_full_attention() -> None:
    """transformers 5.23 computes every sixth layer, and makes the last one full whatever the list says."""
    config = transformers.Gemma4TextConfig(num_hidden_layers=4)
    assert config.layer_types == [WINDOW, WINDOW, WINDOW, FULL]
    source = GEMMA4.json(layer_types=None, num_hidden_layers=4, num_kv_shared_layers=0)
    source = {k: v for k, v in source.items() if k not in ("layer_types", "per_layer_config")}
    small = F.subject(GEMMA4, source={**source, "global_head_dim": 12})
    made = small.plan({"layers": "+1"})
    assert small.json(made)["layer_types"] == [WINDOW, WINDOW, WINDOW, FULL, FULL]
    assert small.error(made) < EXACT


def test_heads_of_full_attention_are_as_wide_as_the_config_says_in_either_way() -> None:
    """The first files say global_head_dim, and those that 5.23 writes what each layer has of its own."""
    first = {k: v for k, v in GEMMA4.json().items() if k != "per_layer_config"} | {"global_head_dim": 12}
    small = F.subject(GEMMA4, source=first)
    assert small.anatomy.sizes.of("full_key_dim") == 12
    made = small.plan({"layers": "+1"})
    assert "per_layer_config" not in small.json(made)
    assert small.error(made) < EXACT
    alike = F.subject(GEMMA4, source=GEMMA4.json(global_head_dim=8))
    assert alike.source["per_layer_config"] == {}  # which says that no layer has a width of its own
    assert alike.anatomy.sizes.of("full_key_dim") == 8
    assert alike.error(alike.plan({"layers": "+1", "hidden": 41})) < EXACT
    with pytest.raises(SizeError, match="can't say full_key_dim=8 beside the other sizes"):
        alike.plan({"head_dim": 16})


def test_on_disk_as_in_memory(tmp_path: Path) -> None:
    """What lies in one tensor for all layers is the same, wherever it is grown."""
    torch.manual_seed(0)
    model = transformers.Gemma4ForCausalLM(F.config_of(GEMMA4, GEMMA4.json()))
    model.save_pretrained(tmp_path / "small")
    wanted: dict[str, Any] = dict(hidden=41, ffn=60, heads=12, head_dim=16, layers="+2")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **wanted)
    there = isogrow.grow(model, **wanted).state_dict()
    read = transformers.Gemma4ForCausalLM.from_pretrained(tmp_path / "large").state_dict()
    assert read.keys() == there.keys()
    assert [name for name, value in read.items() if not torch.equal(value, there[name])] == []
    name = "model.embed_tokens_per_layer.weight"
    old = model.state_dict()[name].reshape(F.VOCAB, 6, 7)
    assert torch.equal(read[name].reshape(F.VOCAB, 8, 7)[:, :6], old)
