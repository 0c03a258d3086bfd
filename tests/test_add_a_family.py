"""docs/add-a-family.md: its code runs, its layout is exact on every axis, its messages are what is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import documents
import pytest
import torch
import transformers
from families import EXACT, Subject, subject
from family import COMMON, VOCAB, Family, gated_growths, gated_options

import isogrow
from isogrow import families as registry
from isogrow import laws, models
from isogrow.anatomy import match
from isogrow.errors import CheckpointError, LawError, SizeError
from isogrow.expansions import Size
from isogrow.interpreters.module import headers
from isogrow.layout import Layout, Norm
from isogrow.plan import Old, Plan

TEXT = documents.read(documents.ROOT / "docs" / "add-a-family.md")
LAYOUT, TRY, OWN = documents.code(TEXT, "python")
UNNAMED, MISSHAPEN, UNHELD = (block.strip() for block in documents.code(TEXT, "text"))

STARCODER2 = Family(
    "starcoder2",
    transformers.Starcoder2Config,
    ("Starcoder2ForCausalLM", "Starcoder2Model"),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        norm_epsilon=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 80, "heads": 10},
        "hidden and kv_heads": {"hidden": 72, "kv_heads": 3},
        "hidden and head_dim": {"hidden": 60, "head_dim": 10},
        "hidden and head_dim, a multiple": {"hidden": "x3", "head_dim": "x3"},
        "ffn": {"ffn": 51},
        "layers": {"layers": 5},
    },
    dict(hidden=90, heads=9, kv_heads=3, head_dim=10, ffn="x3", layers="+2"),
    gated_options,
    gated_growths,
)
GROWTHS = {**STARCODER2.growths, "together": STARCODER2.together}
tied_or_not = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


@pytest.fixture(autouse=True)
def registered() -> Iterator[dict[str, Any]]:
    """What the document defines, with its layout registered; afterwards nobody knows of it."""
    known, classes = dict(registry.LAYOUTS), dict(models._REGISTERED)
    found: dict[str, Any] = {}
    exec(compile(LAYOUT, "add-a-family.md", "exec"), found)
    isogrow.register(found["STARCODER2"])
    try:
        yield found
    finally:
        for now, before in ((registry.LAYOUTS, known), (models._REGISTERED, classes)):
            now.clear()
            now.update(before)  # type: ignore[arg-type]


def test_the_document_runs(registered: dict[str, Any]) -> None:
    for block in (TRY, OWN):
        exec(compile(block, "add-a-family.md", "exec"), registered)
    assert registered["report"].passed
    assert isinstance(registered["wide"], registered["Tiny"])
    assert registered["wide"].config == {"vocab": 31, "hidden": 18, "ffn": 50, "layers": 3}


def test_starcoder2_is_not_built_in() -> None:
    built_in = (registry.llama, registry.qwen3, registry.gpt2, registry.bert)
    assert all(layout.family != "starcoder2" for family in built_in for layout in family.LAYOUTS)


@tied_or_not
@pytest.mark.parametrize("wanted", GROWTHS.values(), ids=GROWTHS)
def test_the_layout_grows_exactly(wanted: Mapping[str, Size], tied: bool) -> None:
    found = model(tied)
    assert found.error(found.plan(wanted)) < EXACT


def test_a_wrong_layout_is_not_exact(registered: dict[str, Any]) -> None:
    """The test of the test: heads in another order have the same shapes."""

    def swapped(pattern: str) -> str:
        return pattern.replace("kv_heads group", "group kv_heads")

    layout: Layout = registered["STARCODER2"]
    lines = tuple(replace(line, pattern=swapped(line.pattern)) for line in layout.weights)
    isogrow.register(replace(layout, weights=lines))
    found = model(tied=True)
    assert found.error(found.plan(GROWTHS["hidden and heads"])) > 1e-6


@pytest.mark.parametrize("kind", STARCODER2.classes)
def test_without_biases(kind: str) -> None:
    found = subject(STARCODER2, kind, STARCODER2.json(use_bias=False))
    assert found.error(found.plan(STARCODER2.together)) < EXACT


def test_defaults_are_those_of_the_class(registered: dict[str, Any]) -> None:
    made = transformers.Starcoder2Config()
    assert {key.name: key.default for key in registered["STARCODER2"].keys} == {
        key.name: getattr(made, key.name) for key in registered["STARCODER2"].keys
    }


def model(tied: bool) -> Subject:
    return subject(STARCODER2, source=STARCODER2.json(tie_word_embeddings=tied), spread=0.1)


# A constant ε


@tied_or_not
def test_a_constant_epsilon(registered: dict[str, Any], tied: bool) -> None:
    found = constant(registered["STARCODER2"], tied)
    made = found.plan(GROWTHS["hidden and heads"])
    assert "norm_epsilon" not in made.config
    assert found.error(made) < EXACT
    assert found.error(found.plan(STARCODER2.together)) < EXACT


@tied_or_not
def test_a_constant_epsilon_without_its_gains_is_refused_and_breaks(
    registered: dict[str, Any], tied: bool
) -> None:
    found = constant(registered["STARCODER2"], tied)
    wrong = ungained(found.plan(GROWTHS["hidden and heads"]))
    with pytest.raises(LawError, match="must scale the gains"):
        laws.check(found.anatomy, wrong)
    assert found.error(wrong) > 1e-6


def constant(layout: Layout, tied: bool) -> Subject:
    """A model whose layout says that ε stands in the code."""
    norm = Norm("layer", "pre", eps=STARCODER2.sizes["norm_epsilon"])
    lines = tuple(replace(line, norm=norm if line.norm else None) for line in layout.weights)
    isogrow.register(replace(layout, weights=lines))
    return model(tied)


def ungained(made: Plan) -> Plan:
    """The plan with old gains left as they are."""

    def edited(rewrites: Any) -> Any:
        gains = {slot for slot in rewrites if slot.endswith("_norm")}
        return {s: {**r, "old": Old()} if s in gains and "old" in r else r for s, r in rewrites.items()}

    return replace(made, steps=tuple(replace(s, rewrites=edited(s.rewrites)) for s in made.steps))


# What is said when it is wrong


def test_a_tensor_that_no_line_names(registered: dict[str, Any]) -> None:
    layout: Layout = registered["STARCODER2"]
    lines = tuple(line for line in layout.weights if line.slot != "mlp.up.bias")
    assert refused(replace(layout, weights=lines)) == UNNAMED


def test_axes_that_do_not_fit(registered: dict[str, Any]) -> None:
    layout: Layout = registered["STARCODER2"]
    lines = tuple(
        replace(line, pattern="(kv_heads key_dim) <- hidden") if line.slot == "attn.q" else line
        for line in layout.weights
    )
    assert refused(replace(layout, weights=lines)) == MISSHAPEN


def refused(layout: Layout) -> str:
    source = STARCODER2.json()
    with torch.device("meta"):
        made = transformers.Starcoder2ForCausalLM(transformers.Starcoder2Config.from_dict(source))
    with pytest.raises(CheckpointError) as error:
        match(layout, source, headers(made))
    return str(error.value)


def test_sizes_that_the_config_can_not_hold() -> None:
    with pytest.raises(SizeError) as error:
        model(tied=True).plan({"hidden": 60})
    assert str(error.value) == UNHELD
