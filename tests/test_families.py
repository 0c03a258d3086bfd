"""Every family on its real model classes: growth changes no output, its class reads the grown config, and
what can't be grown is refused with sizes that can."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import cache, reduce
from typing import Any

import families as F
import pytest
import sweeping
import torch
from breaking import Change, changed, switched_on, unscaled, zeroed
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import KIN
from sweeping import DIVERSE, swept, turns
from torch import nn

from isogrow.errors import CheckpointError, LawError, SizeError
from isogrow.families import layout_for
from isogrow.interpreters.module import headers
from isogrow.laws import check
from isogrow.layouts.config import edited, get
from isogrow.layouts.formula import names
from isogrow.layouts.layout import Layout
from isogrow.planning.planner import check_fits
from isogrow.plans.anatomy import Header
from isogrow.plans.expansions import HiddenExpansion, LayerAddition, MlpExpansion, Size
from isogrow.plans.matching import match
from isogrow.plans.plan import Init, Plan
from isogrow.plans.serial import from_json, to_json
from isogrow.plans.words import word_for

NAMES = list(F.FAMILIES)
OWN = [name for name in NAMES if name not in KIN]
GATED = ["llama", "mistral", "qwen2", "qwen3"]
ROTARY = ["llama", "mistral", "qwen2"]  # Qwen3's head dim grows by multiples alone
AXES = [(name, axis) for name, family in F.FAMILIES.items() for axis in family.growths]
CLASSES = [(name, kind) for name, family in F.FAMILIES.items() for kind in family.classes]
OWN_HEADS = ("bert", "gpt2")  # lines of their own; the others share those of families/heads.py


def every_run(name: str, kind: str) -> bool:
    """All classes of a few; the first class of each family grows in all its axes in its files' test."""
    return name in (*DIVERSE, *OWN_HEADS)


INITS = st.sampled_from(["normal", "uniform", "orthogonal", "copy"])


@cache
def small(name: str) -> F.Subject:
    """A model whose ε matters: 1e-2 beside a residual of about the same size."""
    return F.subject(F.FAMILIES[name], spread=0.1)


# Exactness


@pytest.mark.slow
@pytest.mark.parametrize(("name", "axis"), turns(AXES))
def test_one_axis(name: str, axis: str) -> None:
    plan = small(name).plan(F.FAMILIES[name].growths[axis])
    assert small(name).error(plan) < F.EXACT
    check_fits(small(name).anatomy, from_json(json.loads(json.dumps(to_json(plan)))))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), swept(CLASSES, every_run))
def test_every_class(name: str, kind: str) -> None:
    """Each head class, with all axes at once."""
    family = F.FAMILIES[name]
    source = family.json(is_decoder=True) if kind == "BertLMHeadModel" else None
    subject = F.subject(family, kind, source)
    assert subject.error(subject.plan(family.together)) < F.EXACT


@pytest.mark.slow
@pytest.mark.sweep("examples")
@pytest.mark.parametrize("name", OWN)
@settings(max_examples=sweeping.examples(20))
@given(data=st.data())
def test_any_composition(name: str, data: st.DataObject) -> None:
    composition(name, data)


@pytest.mark.slow
@pytest.mark.sweep("examples")
@pytest.mark.parametrize("name", sorted(KIN))
@settings(max_examples=sweeping.examples(16))
@given(data=st.data())
def test_any_composition_of_kin(name: str, data: st.DataObject) -> None:
    """The one test that every run makes of each family that is another one's kin."""
    composition(name, data)


def composition(name: str, data: st.DataObject) -> None:
    """Any options, expansions in any order: exact, accepted by the config class, and read back as planned."""
    source = data.draw(F.configs(F.FAMILIES[name]), "config")
    spread = data.draw(st.sampled_from([0.03, 0.3]), "spread")
    subject = F.subject(F.FAMILIES[name], "", source, data.draw(st.integers(0, 99), "seed"), spread)
    wanted = data.draw(F.growths(subject.anatomy), "growths")
    init = Init(data.draw(INITS, "init"), data.draw(st.sampled_from(["match", 0.5]), "std"))
    # Hidden copied twice is exact, but refused for its twins: see the tests of liveness.
    twice = F.FAMILIES[name].copied and sum(isinstance(e, HiddenExpansion) for e in wanted) > 1
    plan = subject.plan(wanted, init=init, seed=data.draw(st.integers(0, 9), "number"), allow_dead=twice)
    check_fits(subject.anatomy, plan)
    large = subject.large(plan)
    assert reread(subject, plan, large) == dict(plan.target.values)
    assert subject.error(plan, large=large) < F.EXACT


def reread(subject: F.Subject, plan: Plan, large: nn.Module) -> dict[str, int]:
    """The sizes that the grown config and tensors say."""
    source, tensors = subject.json(plan), headers(large)
    return dict(match(layout_for(source["model_type"]), source, tensors).sizes.values)


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(NAMES))
def test_plans_one_after_the_other(name: str) -> None:
    """A grown model grows again, and both plans are one plan."""
    first = small(name).plan(alone(name))
    source, large = small(name).json(first), small(name).large(first)
    anatomy = match(layout_for(name), source, headers(large))
    grown = dataclasses.replace(small(name), source=source, small=large, anatomy=anatomy)
    second = grown.plan(F.FAMILIES[name].together)
    assert grown.error(second) < F.EXACT
    assert small(name).error(first.then(second)) < F.EXACT


@pytest.mark.parametrize("name", turns(NAMES))
def test_only_a_changed_config_is_edited(name: str) -> None:
    """Keys that the growth does not touch stay as they are, in their order."""
    source = small(name).source
    plan = small(name).plan(alone(name))
    assert list(plan.config) == [key_of(name, F.FAMILIES[name].alone)]
    assert list(small(name).json(plan)) == list(source)
    assert edited(small(name).json(plan), {key: get(source, key) for key in plan.config}) == source


def alone(name: str) -> Mapping[str, Size]:
    """The growth of one axis that needs no other."""
    return F.FAMILIES[name].growths[F.FAMILIES[name].alone]


def key_of(name: str, size: str) -> str:
    """The config key that holds a size."""
    layout = layout_for(name)
    axes = {size, *(f"{stack}_{size}" for stack in layout.stacks)}
    return next(key.name for key in layout.keys if axes & names(key.size or "0"))


# Each exactness test can fail

BREAKS: list[tuple[str, str, tuple[str, ...], Change]] = [
    ("llama", "hidden", ("attn_norm",), unscaled),
    ("llama", "hidden", ("final_norm",), unscaled),
    ("llama", "hidden", ("embed",), switched_on),
    ("llama", "hidden", ("mlp.down",), switched_on),
    ("llama", "hidden", ("attn.o.bias",), switched_on),
    ("llama", "ffn", ("mlp.down",), switched_on),
    ("llama", "heads", ("attn.o",), switched_on),
    ("llama", "kv_heads", ("attn.o",), switched_on),
    ("llama", "head_dim", ("attn.k", "attn.k.bias"), unscaled),
    ("llama", "head_dim", ("attn.k",), switched_on),
    ("llama", "head_dim", ("attn.o",), switched_on),
    ("llama", "layers", ("attn.o",), switched_on),
    ("llama", "layers", ("mlp.down.bias",), switched_on),
    ("qwen3", "hidden", ("attn.q", "attn.q.bias"), unscaled),
    ("qwen3", "hidden", ("attn.k.bias",), unscaled),
    ("qwen3", "head_dim, a multiple", ("attn.k_norm",), unscaled),
    ("qwen3", "head_dim, a multiple", ("attn.k_norm",), switched_on),
    ("qwen3", "head_dim, a multiple", ("attn.q",), zeroed),
    ("gpt2", "hidden and heads", ("embed",), zeroed),
    ("gpt2", "hidden and heads", ("mlp.down",), zeroed),
    ("gpt2", "hidden and heads", ("final_norm",), unscaled),
    ("gpt2", "hidden and heads", ("attn_norm.bias",), switched_on),
    ("gpt2", "hidden and head_dim", ("attn.k", "attn.k.bias"), unscaled),
    ("bert", "hidden and heads", ("attn.q",), switched_on),
    ("bert", "hidden and heads", ("mlp.down",), zeroed),
    ("bert", "hidden and heads", ("mlp_norm",), zeroed),
    ("bert", "hidden and heads", ("transform_norm",), switched_on),
    ("bert", "hidden and heads", ("transform",), zeroed),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "axis", "slots", "change"), BREAKS)
def test_a_broken_plan_is_no_longer_exact(
    name: str, axis: str, slots: tuple[str, ...], change: Change
) -> None:
    """Without its scale, or with its switch on, every growth shows; and no such plan passes the laws."""
    plan = changed(small(name).plan(F.FAMILIES[name].growths[axis]), slots, change)
    assert small(name).error(plan) > F.BROKEN
    with pytest.raises(LawError):
        check(small(name).anatomy, plan)


@pytest.mark.parametrize(
    ("name", "axis", "key"),
    [
        *((name, "hidden", "rms_norm_eps") for name in GATED),
        ("gpt2", "hidden and heads", "layer_norm_epsilon"),
        *((name, "head_dim", "rope_parameters.rope_theta") for name in ROTARY),
    ],
)
def test_a_config_without_an_edit_is_no_longer_exact(name: str, axis: str, key: str) -> None:
    plan = small(name).plan(F.FAMILIES[name].growths[axis])
    kept = {path: value for path, value in plan.config.items() if path != key}
    assert len(kept) == len(plan.config) - 1
    assert small(name).error(plan, edited(small(name).source, kept)) > F.BROKEN


# Layers

KINDS = ["full_attention", "sliding_attention", "full_attention"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
@pytest.mark.parametrize("at", ["start", "even", "end", (1, 1), (0, 2)])
def test_layers_keep_their_kind(name: str, at: str | tuple[int, ...]) -> None:
    window = dict(use_sliding_window=True, sliding_window=5, layer_types=KINDS)
    subject = F.subject(F.FAMILIES[name], "", F.FAMILIES[name].json(**window))
    plan = subject.plan({"layers": 5}, at=at)
    kinds = plan.config["layer_types"]
    step = plan.steps[0]
    assert [kinds[i] for i in range(5)] == [KINDS[step.source(i)[0]] for i in range(5)]
    assert subject.error(plan) < F.EXACT
    other = edited(subject.source, {**plan.config, "layer_types": kinds[::-1]})
    assert kinds == kinds[::-1] or subject.error(plan, other) > F.BROKEN


@pytest.mark.parametrize("given", [{"sliding_window": 5}, {"sliding_window": None}, {}])
def test_a_computed_pattern_is_written_out_if_it_moves(given: F.Json) -> None:
    """`max_window_layers` counts layers, so new ones before them move it; a window of null is none at all."""
    family = F.FAMILIES["qwen2"]
    source = F.legacy(family.config(**{**family.sizes, "use_sliding_window": True}))
    del source["layer_types"], source["sliding_window"]
    source |= {"max_window_layers": 1, **given}
    subject = F.subject(family, "", source)
    plan = subject.plan({"layers": 5}, at="start")
    assert ("layer_types" in plan.config) == (given != {"sliding_window": None})
    assert subject.error(plan) < F.EXACT


@pytest.mark.slow
@pytest.mark.parametrize("at", ["start", "even", "end", (1, 1), (0, 3)])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_scale_by_layer_number_is_undone(scaled: bool, at: str | tuple[int, ...]) -> None:
    options = {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": scaled}
    subject = F.subject(F.FAMILIES["gpt2"], "", F.FAMILIES["gpt2"].json(**options))
    plan = subject.plan({"layers": 5}, at=at)
    assert subject.error(plan) < F.EXACT
    if at != "end":
        assert subject.error(changed(plan, ("attn.k", "attn.k.bias"), unscaled)) > F.BROKEN


# What the config class says of itself


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_the_classes(name: str) -> None:
    """Every literal default of a layout's keys, beside the config class's own."""
    layout, made = layout_for(name), F.FAMILIES[name].config()
    assert wrong_defaults(layout, made) == {}
    absent = {key.name for key in layout.keys if said(made, key.name) is None}
    assert absent == F.FAMILIES[name].absent


def said(made: Any, path: str) -> Any:
    """What a config object says at a dotted path, where that is plain data (and no config for each layer)."""
    made.allow_global_per_layer_attribute_access = True  # where layers have values of their own
    found = reduce(lambda found, name: getattr(found, name, None), path.split("."), made)
    return found if isinstance(found, str | int | float | list | tuple | dict) else None


def wrong_defaults(layout: Layout, made: Any) -> dict[str, tuple[Any, Any]]:
    view = layout.defaults({})
    both = {key.name: (view[key.name], said(made, key.name)) for key in layout.keys}
    return {key: pair for key, pair in both.items() if pair[1] is not None and pair[0] != pair[1]}


def places_of_sizes(layout: Layout, axes: Iterable[str]) -> list[int]:
    """Where among a layout's keys those stand that are the size of one of these axes."""
    sizes = {layout.axes.get(axis) for axis in axes}
    return [at for at, key in enumerate(layout.keys) if key.name in sizes]


@pytest.mark.slow
@pytest.mark.parametrize("name", turns(NAMES))
def test_defaults_are_the_shapes(name: str) -> None:
    """A config.json that says nothing (but what it must), beside the model that the class builds from it."""
    said = F.FAMILIES[name].said
    layout, made = layout_for(name), F.FAMILIES[name].config(**said)
    source = {"model_type": name, **said}
    with torch.device("meta"):
        model = F.class_of(F.FAMILIES[name].classes[0])(made)
    anatomy, sizes = match(layout, source, headers(model)), layout.read(F.modern(made))
    found = anatomy.sizes.values
    assert {axis: found[axis] for axis in found if axis in sizes} == {
        a: n for a, n in sizes.items() if a in found
    }
    used = {
        axis for stored in anatomy.stored for _, block in stored.blocks(anatomy.sizes) for axis in block.axes
    }
    assert not used & (sizes.keys() - found.keys())
    at = places_of_sizes(layout, layout.residuals)[0]
    key = layout.keys[at]
    wrong = dataclasses.replace(key, default=128 * 105)
    other = dataclasses.replace(layout, keys=(*layout.keys[:at], wrong, *layout.keys[at + 1 :]))
    with pytest.raises(CheckpointError, match="do not belong together"):
        match(other, source, headers(model))
    assert key.name in wrong_defaults(other, made)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "nulls"),
    [
        ("llama", {"num_key_value_heads": None, "head_dim": None}),
        ("mistral", {"head_dim": None}),
        ("qwen2", {"num_key_value_heads": None, "sliding_window": None}),
        ("qwen3", {"num_key_value_heads": None, "layer_types": None}),
        ("gpt2", {"n_inner": None}),
    ],
)
def test_null_means_what_the_class_takes_it_for(name: str, nulls: F.Json) -> None:
    family = F.FAMILIES[name]
    wide = {} if name == "gpt2" else {"hidden_size": 36}  # an even dim for each of 6 heads
    subject = F.subject(family, "", {**family.json(), **wide, **nulls})
    wanted = {"hidden": 60, "heads": 10} if name == "gpt2" else {"hidden": 60, "heads": 12}
    plan = subject.plan({**wanted, "ffn": "x2"})
    large = subject.large(plan)
    assert reread(subject, plan, large) == dict(plan.target.values)
    assert subject.error(plan, large=large) < F.EXACT


COUNTED = [name for name in NAMES if name != "nemotron_h"]  # which has as many layers as a list entries


@pytest.mark.parametrize("name", turns(COUNTED))
def test_the_config_class_validates_what_it_reads(name: str) -> None:
    """So a grown config that is accepted says something."""
    layers = key_of(name, "layers")
    with pytest.raises(StrictDataclassError, match=layers.rpartition(".")[2]):
        F.config_of(F.FAMILIES[name], edited(F.FAMILIES[name].json(), {layers: "three"}))
    if name == "llama":
        with pytest.raises(StrictDataclassError, match="not a multiple of the number of attention heads"):
            F.config_of(F.FAMILIES[name], F.FAMILIES[name].json() | {"hidden_size": 31})


@pytest.mark.parametrize(
    "wanted",
    [{"hidden": 96, "head_dim": 24}, {"hidden": 144, "head_dim": 36, "ffn": 51, "layers": "+1"}],
)
def test_a_layernorm_on_queries_and_keys(wanted: dict[str, F.Size]) -> None:
    """Phi's, whose class takes it to be as wide as hidden / heads."""
    family = F.FAMILIES["phi"]
    sizes = {"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12}
    subject = F.subject(family, "", family.json(qk_layernorm=True, **sizes))
    assert subject.error(subject.plan(wanted)) < F.EXACT
    with pytest.raises(SizeError, match="queries and keys are normalised over it, so only copies fit"):
        subject.plan({"head_dim": 14})


# Refusals

Mends = list[Mapping[str, Size]]


def first(name: str) -> tuple[str, str, int]:
    """An axis that grows without another, the word for it, and its size."""
    family, layout = F.FAMILIES[name], layout_for(name)
    return family.alone, word_for(family.alone, layout.stacks), layout.read(family.json())[family.alone]


REFUSED: list[tuple[str, Mapping[str, Size], str, Mends]] = [
    (
        "llama",
        {"hidden": 50},
        "needs hidden % heads == 0.*hidden=48 or heads=10 would do",
        [{"hidden": 48}, {"hidden": 50, "heads": 10}],
    ),
    ("llama", {"heads": 12}, "hidden=36 or heads=10", [{"heads": 12, "hidden": 36}, {"heads": 10}]),
    (
        "llama",
        {"kv_heads": 3},
        "hidden=36 or heads=15",
        [{"kv_heads": 3, "hidden": 36}, {"kv_heads": 3, "heads": 15}],
    ),
    ("llama", {"heads": 7}, "can't be had with kv_heads=2.*give heads=10", [{"heads": 10}]),
    ("olmo2", {"heads": 7}, "can't be had with kv_heads=2.*give heads=12$", [{"heads": 12}]),
    ("olmo2", {"heads": 8}, "heads can't grow from 6 to 8.*multiples of 6: give 12$", [{"heads": 12}]),
    (
        "olmo2",
        {"heads": 9, "kv_heads": 3},
        "kv_heads can't grow from 2 to 3 .*: give 4 with heads=12$",
        [{"kv_heads": 4}, {"kv_heads": 4, "heads": 12}],
    ),
    (
        "olmo2",
        {"heads": 16, "kv_heads": 4},
        "heads can't grow from 12 to 16.*give 24$",
        [{"heads": 24, "kv_heads": 4}],
    ),
    (
        "mistral",
        {"heads": 9},
        "give heads=10, or kv_heads=3 with it",
        [{"heads": 10}, {"heads": 9, "kv_heads": 3}],
    ),
    ("llama", {"head_dim": 13}, "is odd, and rotary positions pair.*give 14", [{"head_dim": 14}]),
    *((name, {"value_dim": 12}, "key_dim == value_dim.*head_dim=12", [{"head_dim": 12}]) for name in ROTARY),
    ("llama", {"key_dim": 12}, "key_dim == value_dim.*head_dim=12 would do", [{"head_dim": 12}]),
    ("qwen3", {"head_dim": 14}, "only copies fit.*multiples of 10: give 20", [{"head_dim": 20}]),
    ("qwen3", {"head_dim": 35}, "give 30 or 40", [{"head_dim": 30}, {"head_dim": 40}]),
    (
        "gpt2",
        {"hidden": 41},
        "heads * head_dim == hidden.*hidden=42 with heads=7 or hidden=40 with head_dim=8 would do",
        [{"hidden": 42, "heads": 7}, {"hidden": 40, "head_dim": 8}],
    ),
    ("gpt2", {"hidden": 48}, "heads=8 would do", [{"hidden": 48, "heads": 8}]),
    ("gpt2", {"hidden": 40}, "head_dim=8 would do", [{"hidden": 40, "head_dim": 8}]),
    ("gpt2", {"heads": 7}, "hidden=42 would do", [{"heads": 7, "hidden": 42}]),
    ("gpt2", {"head_dim": 8}, "hidden=40 would do", [{"head_dim": 8, "hidden": 40}]),
    ("gpt2", {"kv_heads": 7}, "kv_heads is no axis of 'gpt2'.*give heads", [{"heads": 7, "hidden": 42}]),
    (
        "bert",
        {"hidden": 60},
        "heads=10 or head_dim=12 would do",
        [{"hidden": 60, "heads": 10}, {"hidden": 60, "head_dim": 12}],
    ),
    ("bert", {"heads": 10}, "hidden=60 would do", [{"heads": 10, "hidden": 60}]),
    (
        "bert",
        {"hidden": 75, "heads": 25},
        "a LayerNorm writes the residual.*multiples of 30: give 60 or 90",
        [{"hidden": 60, "heads": 10}, {"hidden": 90, "heads": 15}],
    ),
    (
        "bert",
        {"layers": 4},
        "no new layer computes the identity.*grow ffn, heads or hidden instead",
        [{"ffn": 40}, {"hidden": 60, "heads": 10}],
    ),
]


# What no family can have, and a size that would do in its place; that such sizes are exact: `test_one_axis`.
ALIKE: list[tuple[str, Mapping[str, Size], str, Mends]] = [
    refused
    for name, axis, word, now in ((name, *first(name)) for name in NAMES)
    for refused in (
        (name, {axis: now - 1}, f"would shrink {word} from {now}.* give more than {now}", [{axis: now}]),
        (name, {axis: "x1.01"}, f"is {1.01 * now:g} from {now}, which is not a whole", [{axis: "x2"}]),
        (name, {"width": 40}, "width is no axis that grows: give one of", [{axis: "x2"}]),
    )
]


def refusal(name: str, wanted: Mapping[str, Size], message: str) -> None:
    with pytest.raises(
        SizeError, match=message.replace("(", r"\(").replace(")", r"\)").replace(" * ", r" \* ")
    ):
        small(name).plan(wanted)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wanted", "message", "mends"), REFUSED)
def test_refusals_name_sizes_that_work(
    name: str, wanted: Mapping[str, Size], message: str, mends: Mends
) -> None:
    refusal(name, wanted, message)
    for mend in mends:
        assert small(name).error(small(name).plan(mend)) < F.EXACT


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wanted", "message", "mends"), turns(ALIKE))
def test_every_family_names_sizes_that_can_be_planned(
    name: str, wanted: Mapping[str, Size], message: str, mends: Mends
) -> None:
    refusal(name, wanted, message)
    axis, _, now = first(name)
    for mend in mends:
        grown = small(name).plan(mend).target.of(axis)
        assert grown == (2 * now if mend[axis] == "x2" else mend[axis])


@pytest.mark.parametrize("name", turns(NAMES))
def test_a_growth_in_one_layer_is_refused(name: str) -> None:
    axis = F.FAMILIES[name].alone
    if axis != "layers":  # a model of states alone has no other
        with pytest.raises(SizeError, match=f"'{name}' config holds one {axis} for all layers; leave out"):
            small(name).plan((MlpExpansion("+5", layer=1, axis=axis),))
    wider = F.FAMILIES[name].growths.get("ffn", {}).get("ffn")
    if wider is not None:
        assert small(name).plan((MlpExpansion(wider),)).target.of("ffn") == wider


@pytest.mark.parametrize("at", [(1,), (0, 4), (2, 2, 2), "middle"])
def test_places_that_are_not_there_are_refused(at: str | tuple[int, ...]) -> None:
    with pytest.raises(SizeError, match="layers at"):
        small("llama").plan((LayerAddition("+2", at),))


def test_what_no_pattern_names_is_refused() -> None:
    """An adapter has weights that GPT-2's layout does not know."""
    found = {**headers(small("gpt2").small), "transformer.h.1.adapter.weight": Header((30, 4), "F64")}
    with pytest.raises(CheckpointError, match="adapter.* no pattern of 'gpt2' names it"):
        match(layout_for("gpt2"), small("gpt2").source, found)


def test_a_head_as_wide_as_hidden_is_refused() -> None:
    """GPT-2's summary may project to hidden instead of labels."""
    source = F.FAMILIES["gpt2"].json(summary_proj_to_labels=False)
    subject = F.subject(F.FAMILIES["gpt2"], "GPT2DoubleHeadsModel", source)
    assert subject.error(subject.plan({"ffn": 51})) < F.EXACT
    with pytest.raises(CheckpointError):
        subject.error(subject.plan({"hidden": 42, "heads": 7}))
