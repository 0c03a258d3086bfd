"""Every stored tensor is named exactly once, or the model is refused in one clear sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from subjects import CONFIGS, PAPER, anatomy, tensors, trained

from isogrow.errors import CheckpointError
from isogrow.families import layout_for
from isogrow.growth.models import anatomy_of
from isogrow.layouts.layout import Layout, Weight
from isogrow.layouts.lines import name_axes
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Header, name_of
from isogrow.plans.expansions import HiddenExpansion, LayerAddition
from isogrow.plans.matching import match
from isogrow.plans.sizes import Sizes
from isogrow.stores.binding import outputs


def llama(**changes: Any) -> tuple[Layout, Mapping[str, Any], dict[str, Header]]:
    layout, config = layout_for("llama"), {**CONFIGS["llama"], **changes}
    return layout, config, tensors(layout, config)


def bare(found: dict[str, Header], prefix: str) -> dict[str, Header]:
    return {name.removeprefix(prefix): header for name, header in found.items()}


def said(layout: Layout, config: Mapping[str, Any], found: Mapping[str, Header]) -> str:
    with pytest.raises(CheckpointError) as refused:
        match(layout, config, found)
    return str(refused.value)


# What is found


@pytest.mark.parametrize("family", CONFIGS)
def test_every_tensor_is_named_once(family: str) -> None:
    found = anatomy(family)
    assert len({(one.line, one.index) for one in found.stored}) == len(found.stored)
    blocks = [block for one in found.stored for _, block in one.blocks(found.sizes)]
    assert len(set(blocks)) == len(blocks)
    assert {block.slot for block in blocks} == set(found.all_slots)
    total = sum(count(one.header.shape) for one in found.stored)
    assert sum(count(block.shape(found.sizes)) for block in blocks) == total


def count(shape: tuple[int, ...]) -> int:
    result = 1
    for n in shape:
        result *= n
    return result


def test_sizes_come_from_the_config() -> None:
    assert anatomy("llama").sizes.values == {
        "vocab": 97, "hidden": 48, "ffn": 70, "kv_heads": 2, "group": 4, "key_dim": 10, "value_dim": 10,
        "layers": 3,
    }  # fmt: skip


def test_sizes_that_no_config_states_come_from_the_tensors() -> None:
    layout, config, found = llama()
    score = {"score.weight": Header((5, 48), "F32"), "score.bias": Header((5,), "F32")}
    assert match(layout, config, found | score).sizes.of("labels") == 5
    sizes = anatomy_of(trained(PAPER)).sizes
    assert [sizes.of("heads", (("layers", n),)) for n in range(2)] == [2, 3]
    assert sizes.of("value_dim", (("layers", 1), ("heads", 2))) == 15
    assert sizes.of("outputs") == 23


def test_prefixes() -> None:
    layout, config, found = llama()
    assert match(layout, config, found).prefix == "model."
    short = match(layout, config, bare(found, "model."))
    assert short.prefix == ""
    assert {one.name for one in short.stored} == set(bare(found, "model."))
    assert "lm_head.weight" in {one.name for one in short.stored}


@pytest.mark.parametrize(("kind", "head"), [("GemmaForCausalLM", True), ("GemmaModel", False), ("", False)])
def test_names_without_prefix_are_a_head_s_if_the_class_has_one(kind: str, head: bool) -> None:
    """A tied head is not stored; old files of language models may lack the prefix all the same."""
    layout, config, found = llama(tie_word_embeddings=True)
    short = bare({name: header for name, header in found.items() if name != "lm_head.weight"}, "model.")
    assert match(layout, config, short, kind).tied_head == head
    for said in ([kind], kind) if kind else (None, []):
        assert match(layout, {**config, "architectures": said}, short).tied_head == head


def test_old_names_are_read_as_new_ones() -> None:
    layout, config = layout_for("bert"), CONFIGS["bert"]
    found = tensors(layout, config)
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): header for name, header in found.items()}
    stored = {one.name: one.source for one in match(layout, config, old).stored}
    assert stored.keys() == found.keys()
    assert stored["bert.embeddings.LayerNorm.weight"] == "bert.embeddings.LayerNorm.gamma"


def test_derived_buffers_are_ignored() -> None:
    layout, config, found = llama()
    buffer = "model.layers.0.self_attn.rotary_emb.inv_freq"
    assert match(layout, config, found | {buffer: Header((5,), "F32")}).ignored == (buffer,)


def test_a_line_may_need_another_tensor() -> None:
    layout, config = layout_for("bert"), {**CONFIGS["bert"]}
    found = tensors(layout, config, ("transform", "transform_norm", "decoder", "decoder.own_bias"))
    head = {"classifier.weight": Header((5, 48), "F32")}
    pooler = {
        "bert.pooler.dense.weight": Header((48, 48), "F32"),
        "bert.pooler.dense.bias": Header((48,), "F32"),
    }
    assert "tagger" in match(layout, config, found | head).slots
    assert "classifier" in match(layout, config, found | head | pooler).slots


def test_tied_slots_have_no_entries_of_their_own() -> None:
    tied = {"tie_word_embeddings": True}
    layout, config, found = llama(**tied)
    assert "head" not in match(layout, config, found).slots
    assert "head" in match(layout, config, found).all_slots
    assert "head" in match(*llama()).slots


def test_names() -> None:
    sizes = Sizes({"group": 3})
    experts = Weight("h.{layers}.mlp.{experts}.w", "{parts} ffn <- hidden", "mlp.up")
    (line,), (head,) = experts.lines(), replace(experts, head=True).lines()
    assert name_axes(line.name) == ("layers", "experts")
    assert line.slot.index == ("layers", "experts", "parts")
    at = (("layers", 3), ("experts", 12))
    assert name_of(line, "model.", at, sizes) == "model.h.3.mlp.12.w"
    assert name_of(head, "model.", at, sizes) == "h.3.mlp.12.w"
    (norms,) = Weight("h.{layers}.norms.{kv_heads group}.w", "* key_dim", "attn.q_norm").lines()
    assert name_axes(norms.name) == ("layers", "kv_heads", "group")
    assert name_of(norms, "", (("layers", 1), ("kv_heads", 4), ("group", 2)), sizes) == "h.1.norms.14.w"


# What is refused


def test_a_tensor_that_no_line_names() -> None:
    layout, config, found = llama()
    assert said(layout, config, found | {"model.layers.0.attn.foo": Header((3,), "F32")}) == (
        "model.layers.0.attn.foo is in the checkpoint, and no pattern of 'llama' names it: this model is not"
        " (only) of that family, so nothing was grown; remove the tensor if nothing reads it, or write a"
        " layout that names it (docs/add-a-family.md)"
    )


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_a_tensor_that_is_missing(name: str) -> None:
    layout, config, found = llama()
    del found[name]
    assert said(layout, config, found) == (
        f"{name} is missing from the checkpoint, and 'llama' needs it: fetch the model again, whole"
    )


def test_a_tensor_that_is_not_needed_may_be_missing() -> None:
    layout, config, found = llama()
    for name in list(found):
        if name.endswith("bias"):
            del found[name]
    assert not any(slot.endswith("bias") for slot in match(layout, config, found).slots)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        (
            "model.layers.2.self_attn.q_proj.weight",
            (48, 80),
            "[80, 48] for '(kv_heads group key_dim) <- hidden'",
        ),
        ("model.embed_tokens.weight", (96, 48), "[97, 48] for 'vocab -> hidden'"),
        ("model.norm.weight", (49,), "[48] for '* hidden'"),
    ],
)
def test_a_tensor_of_another_shape(name: str, shape: tuple[int, ...], expected: str) -> None:
    layout, config, found = llama()
    assert said(layout, config, found | {name: Header(shape, "F32")}) == (
        f"{name} has shape {list(shape)}, but the config says {expected} of 'llama': the config and the"
        " weights do not belong together; fetch both from one place"
    )


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("model.norm.weight", "'* hidden' of 'llama' has 1"),
        ("score.weight", "'labels <- hidden' of 'llama' has 2"),
    ],
)
def test_a_tensor_of_another_rank(name: str, dims: str) -> None:
    layout, config, found = llama()
    assert said(layout, config, found | {name: Header((2, 3, 4), "F32")}) == (
        f"{name} has shape [2, 3, 4], but {dims} dims: this model is not (only) of that family, so nothing"
        " was grown; write a layout that has it so (docs/add-a-family.md)"
    )


def test_a_layer_that_the_config_has_not() -> None:
    layout, config, found = llama()
    assert said(layout, {**config, "num_hidden_layers": 2}, found) == (
        "model.layers.2.input_layernorm.weight is in the checkpoint, but the config has only 2 layers: the"
        " two do not belong together; fetch both from one place"
    )
    assert said(layout, {**config, "num_hidden_layers": 4}, found) == (
        "model.layers.3.input_layernorm.weight is missing from the checkpoint, and 'llama' needs it: fetch"
        " the model again, whole"
    )


def test_two_names_for_one_tensor() -> None:
    layout, config = layout_for("bert"), CONFIGS["bert"]
    found = tensors(layout, config)
    twice = "bert.embeddings.LayerNorm."
    assert said(layout, config, found | {twice + "gamma": found[twice + "weight"]}) == (
        f"{twice}weight and {twice}gamma are both in the checkpoint, and mean the same tensor: remove one of"
        " them"
    )


# What the grown model has


def test_a_grown_tensor_is_there_iff_the_one_it_extends_is() -> None:
    layout, config, found = llama()
    del found["model.layers.0.mlp.up_proj.bias"]
    del found["model.layers.0.mlp.gate_proj.bias"]
    small = match(layout, config, found)
    made = plan(small, [LayerAddition("+2", (1, 3)), HiddenExpansion(56)])
    large = {one.name: one for one in outputs(small, made)}
    biases = [n for n in range(5) if f"model.layers.{n}.mlp.up_proj.bias" in large]
    assert biases == [2, 3, 4]
    assert large["model.layers.4.mlp.up_proj.weight"].header == Header((70, 56), "F64")
    assert large["lm_head.weight"].header.shape == (97, 56)
    assert match(layout, {**config, **made.config}, {n: one.header for n, one in large.items()})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": [24]}, "hidden_size is [24], and 'llama' needs a whole number above 0: correct it"),
        (
            {"num_key_value_heads": True},
            "num_key_value_heads is True, and 'llama' needs a whole number above 0",
        ),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0, and 'llama' needs a whole number above 0"),
        (
            {"rms_norm_eps": "x"},
            "rms_norm_eps is 'x', and 'llama' needs a number that is not negative: correct it",
        ),
        (
            {"rms_norm_eps": -1},
            "rms_norm_eps is -1, and 'llama' needs a number that is not negative: correct it",
        ),
        ({"rope_parameters": 3}, "rope_parameters is 3, which is no table of values: correct it"),
        ({"architectures": True}, "architectures is True, and it lists classes: correct it"),
        ({"rope_theta": "x"}, "rope_theta is 'x', and rotary positions need a number above 0: correct it"),
    ],
)
def test_a_config_that_can_not_be_computed_with(changes: dict[str, Any], said: str) -> None:
    layout, right, headers = llama()
    match(layout, right, headers)
    with pytest.raises(CheckpointError, match=re.escape(said)):
        match(layout, {**right, **changes}, headers)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model.", "model.language_model."])
def test_a_prefix_of_all_names_is_told(prefix: str) -> None:
    layout, config, found = llama()
    wrapped = {prefix + name: header for name, header in found.items()}
    assert f"begins with the prefix {prefix!r}, which is none of 'llama'" in said(layout, config, wrapped)
    other = {**wrapped, prefix + "tower.weight": Header((3, 5), "F32")}
    assert "tower.weight is in the checkpoint" in said(
        layout, config, {**found, **dict([*other.items()][-1:])}
    )
    assert "prefix" not in said(layout, config, other)  # more than the model is in it
