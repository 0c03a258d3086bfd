"""Layouts from outside: each tensor is named once, in the right roles, by one on trial and by some built in.

Models are built on the meta device. Where transformers fuses or renames between disk and memory, both
bindings must name the same blocks.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from trial_layouts.checks import less, not_named_once, twice
from trial_layouts.models import (
    BOUND_TWICE,
    CASES,
    DEEPSEEK_V3,
    ESM,
    FAMILIES,
    MIXTRAL,
    ON_DISK,
    Case,
    bound,
    headers,
    json_of,
    on_meta,
    stored,
)
from trial_layouts.roles import differing, ends, wrong_roles

from isogrow.errors import CheckpointError, LayoutError
from isogrow.families import LAYOUTS
from isogrow.layouts.layout import Index, Layout, Weight
from isogrow.plans.anatomy import Anatomy, Header
from isogrow.plans.matching import match
from isogrow.plans.pieces import Block
from isogrow.stores.binding import viewer

every_case = pytest.mark.parametrize("name", CASES)
every_binding = pytest.mark.parametrize(
    ("name", "binding"),
    [*((name, "memory") for name in CASES), *((name, "disk") for name in ON_DISK)],
)
every_family = pytest.mark.parametrize("family", FAMILIES)


# ── every tensor is named exactly once ──


@every_binding
def test_every_tensor_is_named_once(name: str, binding: str) -> None:
    layout, config, tensors = bound(name, binding)
    anatomy = match(layout, config, tensors)
    assert len(anatomy.stored) + len(anatomy.ignored) == len(tensors)
    assert not_named_once(layout, anatomy.prefix, tensors, anatomy.config) == {}


@every_case
def test_a_short_config_says_the_same(name: str) -> None:
    layout, config, tensors = bound(name)
    short = json.loads(json.dumps(on_meta(name).config.to_diff_dict()))
    assert len(short) < len(config)
    assert match(layout, short, tensors).sizes == match(layout, config, tensors).sizes


@every_case
def test_sizes_are_distinct(name: str) -> None:
    layout, config, tensors = bound(name)
    sizes = match(layout, config, tensors).sizes.values
    alike = {frozenset(pair) for pair in combinations(sizes, 2) if len({sizes[a] for a in pair}) == 1}
    forced = ("key_dim value_dim", "hidden pooled", "hidden transform", "pooled transform", "rows columns")
    assert alike <= {frozenset(pair.split()) for pair in forced}


@pytest.mark.slow
@every_binding
def test_a_line_less_is_noticed(name: str, binding: str) -> None:
    layout, config, tensors = bound(name, binding)
    anatomy = match(layout, config, tensors)
    for line in dict.fromkeys(s.line for s in anatomy.stored):
        stems = {slot.stem for slot in line.slots}
        known = (s for s in anatomy.stored if stems & {slot.stem for slot in s.line.slots})
        own = {name for s in known for name in (s.source, s.name)}
        with pytest.raises(CheckpointError) as refused:
            match(less(layout, line), config, tensors)
        assert str(refused.value).split()[0] in own


@pytest.mark.slow
@every_binding
def test_a_line_twice_is_noticed(name: str, binding: str) -> None:
    layout, config, tensors = bound(name, binding)
    anatomy = match(layout, config, tensors)
    for line in dict.fromkeys(s.line for s in anatomy.stored):
        own = {s.source for s in anatomy.stored if s.line == line}
        more = twice(layout, line)
        assert not_named_once(more, anatomy.prefix, tensors, anatomy.config).keys() == own


@pytest.mark.slow
@every_binding
def test_a_tensor_less_is_noticed(name: str, binding: str) -> None:
    layout, config, tensors = bound(name, binding)
    whole = match(layout, config, tensors)
    for tensor in {s.line: s for s in whole.stored}.values():
        slot = tensor.line.slot
        if slot.head or slot.tied or slot.name.startswith("pooler"):
            continue
        rest = {name: header for name, header in tensors.items() if name != tensor.source}
        with pytest.raises(CheckpointError, match="is missing from the checkpoint"):
            match(layout, config, rest)


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("gpt_oss", {"attention_bias": False}),
        ("deepseek_v3", {"first_k_dense_replace": 2}),
        ("deepseek_v3", {"q_lora_rank": None}),
        ("esm", {"emb_layer_norm_before": False}),
    ],
)
def test_a_tensor_too_many_is_noticed(name: str, lie: dict[str, Any]) -> None:
    layout, config, tensors = bound(name)
    with pytest.raises(CheckpointError):
        match(layout, {**config, **lie}, tensors)


@pytest.mark.parametrize("name", BOUND_TWICE)
def test_both_bindings_at_once_are_noticed(name: str) -> None:
    layout, config, tensors = bound(name)
    with pytest.raises(CheckpointError, match="both"):
        match(layout, config, {**tensors, **bound(name, "disk")[2]})


@pytest.mark.slow
@every_case
def test_a_wrong_shape_is_noticed(name: str) -> None:
    layout, config, tensors = bound(name)
    anatomy = match(layout, config, tensors)
    unstated = anatomy.sizes.values.keys() - layout.read(config).keys()
    for tensor in {s.line: s for s in anatomy.stored}.values():
        for at, dim in enumerate(tensor.line.parsed.dims):
            shape = [n + (d == at) for d, n in enumerate(tensor.header.shape)]
            wrong = {**tensors, tensor.source: Header(tuple(shape), "F32")}
            if dim.factors[0] not in unstated:
                with pytest.raises(CheckpointError, match=re.escape(tensor.name)):
                    match(layout, config, wrong)


@pytest.mark.parametrize("model", ["BertForSequenceClassification", "BertForTokenClassification"])
def test_a_line_that_needs_a_tensor_stands_first(model: str) -> None:
    sizes = {"hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 17, "vocab_size": 97}
    bert = Case(ESM, model, {**sizes, "num_hidden_layers": 1}).build("meta")
    assert not_named_once(LAYOUTS["bert"], "bert.", bert.state_dict(), {}) == {}


# ── two bindings, the same blocks ──


def named_blocks(anatomy: Anatomy) -> set[Block]:
    """Every stored block with its logical axes (written-out lengths, which are storage, aside)."""
    own = (s for s in anatomy.stored if not s.line.slot.tied)
    found = (block for s in own for _, block in s.blocks(anatomy.sizes))
    return {replace(b, axes=tuple(a for a in b.axes if not a.isdigit())) for b in found}


@pytest.mark.parametrize("name", ON_DISK)
def test_disk_and_memory_name_the_same_blocks(name: str) -> None:
    memory, disk = (match(*bound(name, binding)) for binding in ("memory", "disk"))
    assert {s.name for s in memory.stored} != {s.source for s in disk.stored}
    assert named_blocks(memory) == named_blocks(disk)
    assert memory.sizes == disk.sizes


@pytest.mark.parametrize("name", ON_DISK)
def test_disk_and_memory_hold_the_same_values(name: str) -> None:
    model = CASES[name].build("cpu")
    for tensor in model.state_dict().values():
        tensor.uniform_(-1, 1)
    layout, config = CASES[name].layout, json_of(model)
    memory, disk = stored(model, "memory"), stored(model, "disk")
    one, two = match(layout, config, headers(memory)), match(layout, config, headers(disk))
    ours, theirs = viewer(one, memory.__getitem__), viewer(two, disk.__getitem__)
    for tensor in two.stored:
        for _, block in tensor.blocks(two.sizes):
            assert torch.equal(ours(block), theirs(block)), block


def test_bindings_that_differ_are_noticed() -> None:
    layout, config, tensors = bound("mixtral")
    turned = {"experts.gate": "experts.up", "experts.up": "experts.gate"}
    weights = tuple(replace(w, slot=turned.get(w.slot, w.slot)) for w in layout.weights)
    model = CASES["mixtral"].build("cpu")
    memory, disk = stored(model, "memory"), stored(model, "disk")
    one, two = (
        match(layout, config, headers(memory)),
        match(replace(layout, weights=weights), config, headers(disk)),
    )
    assert named_blocks(one) == named_blocks(two)  # the same names, so only values can tell
    block = Block("experts.gate", (("layers", 2), ("experts", 3)), ("ffn", "hidden"))
    assert not torch.equal(viewer(one, memory.__getitem__)(block), viewer(two, disk.__getitem__)(block))
    less = replace(two, stored=two.stored[:-1])
    assert named_blocks(one) != named_blocks(less)


def test_an_old_esm_has_one_table_in_many_places() -> None:
    layout, config, tensors = bound("esm-rotary")
    table = tensors.pop("esm.rotary_embeddings.inv_freq")
    at = "esm.encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"
    old = {**tensors, **{at.format(i): table for i in range(4)}}
    anatomy = match(layout, config, old)
    assert (len(anatomy.stored), len(anatomy.ignored)) == (len(tensors) + 1, 3)
    assert not_named_once(layout, anatomy.prefix, old, anatomy.config) == {}


# ── parts are cut where the model's code cuts them ──


def read(name: str, slot: str, index: Index = (("layers", 2),)) -> tuple[Any, Tensor, dict[str, int]]:
    """A model with random values, one block of it, and the sizes."""
    model = CASES[name].build("cpu")
    state = model.state_dict()
    for tensor in state.values():
        tensor.uniform_(-1, 1)
    anatomy = match(CASES[name].layout, json_of(model), headers(state))
    block = Block(slot, index, anatomy.all_slots[slot].axes)
    return model, viewer(anatomy, state.__getitem__)(block), dict(anatomy.sizes.values)


def test_phi3_splits_so() -> None:
    for slot, start, stop in (("attn.q", 0, 60), ("attn.k", 60, 80), ("attn.v", 80, 100)):
        model, block, _ = read("phi3", slot)
        stored = model.model.layers[2].self_attn.qkv_proj.weight
        assert torch.equal(block.reshape(-1, 60), stored[start:stop])
    for place, slot in enumerate(("mlp.gate", "mlp.up")):
        model, block, _ = read("phi3", slot)
        assert torch.equal(block, model.model.layers[2].mlp.gate_up_proj.weight.chunk(2)[place])


def test_gpt_oss_splits_so() -> None:
    for start, slot in enumerate(("experts.gate", "experts.up")):
        model, block, _ = read("gpt_oss", slot, (("layers", 2), ("experts", 3)))
        stored = model.model.layers[2].mlp.experts.gate_up_proj[3]
        assert torch.equal(block[:, 0], stored[:, start::2].T)


def test_deepseek_splits_so() -> None:
    cuts = {"attn.q": (0, 0, 7), "attn.q_rope": (0, 7, 15), "attn.k": (1, 0, 7), "attn.v": (1, 7, 16)}
    for slot, (which, start, stop) in cuts.items():
        model, block, _ = read("deepseek_v3", slot)
        attention = model.model.layers[2].self_attn
        stored = (attention.q_b_proj, attention.kv_b_proj)[which].weight
        assert torch.equal(block, stored.view(6, -1, stored.shape[1])[:, start:stop])
    for slot, start, stop in (("attn.kv_a", 0, 17), ("attn.k_rope", 17, 25)):
        model, block, _ = read("deepseek_v3", slot)
        stored = model.model.layers[2].self_attn.kv_a_proj_with_mqa.weight
        assert torch.equal(block, stored[start:stop])


# ── roles ──


@every_case
def test_roles_are_those_of_the_modules(name: str) -> None:
    assert wrong_roles(CASES[name].layout, name) == []


def test_a_wrong_role_is_noticed() -> None:
    layout, config, tensors = bound("phi3")
    turned = tuple(replace(w, pattern=w.pattern.replace("<-", "->")) for w in layout.weights)
    found = wrong_roles(replace(layout, weights=turned), "phi3")
    assert found == [s.name for s in match(layout, config, tensors).stored if s.line.parsed.arrow == "<-"]
    assert len(found) > 4 * config["num_hidden_layers"] > 4


ENDS = {  # axes that come in from outside, and those that go out
    "phi3": ({"vocab"}, {"vocab", "labels"}),
    "gpt_oss": ({"vocab"}, {"vocab", "labels"}),
    "mixtral": ({"vocab"}, {"vocab", "labels"}),
    "deepseek_v3": ({"vocab"}, {"vocab", "labels"}),
    "esm": ({"vocab", "positions"}, {"vocab", "labels", "pooled", "pairs"}),
}


@every_family
def test_what_is_written_is_read(family: str) -> None:
    assert ends(FAMILIES[family]) == ENDS[family]


def test_what_nobody_reads_is_noticed() -> None:
    rest = tuple(w for w in MIXTRAL.weights if w.slot != "experts.down")
    assert ends(replace(MIXTRAL, weights=rest))[1] == {"vocab", "labels", "ffn"}


@every_family
def test_biases_and_norms_lie_along_what_they_belong_to(family: str) -> None:
    layout = FAMILIES[family]
    for name, slot in layout.slots.items():
        stem = layout.slots.get(slot.stem, slot)
        assert slot.produced == stem.produced, name
        if slot.norm is not None:
            of = layout.slots[slot.norm.of] if slot.norm.of else slot
            assert slot.produced == of.produced, name
            assert bool(slot.norm.of) == (slot.norm.where == "inner"), name
            assert slot.norm.of or slot.produced == (layout.residual,), name


@every_family
def test_lines_of_one_slot_agree(family: str) -> None:
    """All bindings of a slot have the same index and axes (DeepSeek's q has two sources, by config)."""
    expected = {"attn.q", "attn.q_rope"} if family == "deepseek_v3" else set[str]()
    assert differing(FAMILIES[family]) == expected


def test_a_binding_that_differs_is_refused() -> None:
    turned = tuple(
        replace(w, pattern="ffn <- hidden") if w.slot == "experts.down" else w for w in MIXTRAL.weights
    )
    with pytest.raises(LayoutError, match="experts.down as '{experts} hidden <- ffn'"):
        match(replace(MIXTRAL, weights=turned), *bound("mixtral")[1:])


def test_variants_of_one_slot_that_differ_are_noticed() -> None:
    other = Weight("other", "hidden <- (kv_heads group key_dim)", "attn.o", when="False")
    assert differing(replace(MIXTRAL, weights=(*MIXTRAL.weights, other))) == {"attn.o"}


# ── sizes and the config ──


def unfaithful(layout: Layout, name: str) -> list[str]:
    """The config keys that the sizes read from this config would not give back."""
    _, config, tensors = bound(name)
    written = layout.written(config, match(layout, config, tensors).sizes.values)
    return [key for key, size in written.items() if layout.defaults(config)[key] != size]


@every_case
def test_sizes_are_written_back_as_they_were_read(name: str) -> None:
    assert unfaithful(CASES[name].layout, name) == []


def test_a_size_that_is_written_wrongly_is_noticed() -> None:
    layout = ESM
    keys = tuple(replace(k, size="layers") if k.name == "num_attention_heads" else k for k in layout.keys)
    assert unfaithful(replace(layout, keys=keys), "esm-base") == ["num_attention_heads"]


def wrong_defaults(layout: Layout) -> list[str]:
    """The keys whose default is not that of the config class (those that it leaves None aside)."""
    case = next(case for case in CASES.values() if case.layout.family == layout.family)
    own, view = getattr(transformers, case.model).config_class(), layout.defaults({})
    stated = [k.name for k in layout.keys if getattr(own, k.name, None) is not None]
    return [name for name in stated if view[name] != getattr(own, name)]


@every_family
def test_defaults_are_those_of_the_class(family: str) -> None:
    assert wrong_defaults(FAMILIES[family]) == []


def test_a_wrong_default_is_noticed() -> None:
    layout = DEEPSEEK_V3
    keys = tuple(replace(k, default=64) if k.name == "v_head_dim" else k for k in layout.keys)
    assert wrong_defaults(replace(layout, keys=keys)) == ["v_head_dim"]
