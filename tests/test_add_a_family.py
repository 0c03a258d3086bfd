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
from family import COMMON, HEADS, LABELS, VOCAB, Family, gated_growths, gated_options

import isogrow
from isogrow import families as registry
from isogrow import laws
from isogrow.errors import CheckpointError, LawError, SizeError
from isogrow.growth import models
from isogrow.interpreters.module import headers
from isogrow.layouts.layout import Layout, Norm
from isogrow.plans.expansions import Size
from isogrow.plans.matching import match
from isogrow.plans.plan import Old, Plan

TEXT = documents.read(documents.ROOT / "docs" / "add-a-family.md")
BUILT_IN = frozenset(registry.LAYOUTS)
LAYOUT, TRY, OWN = documents.code(TEXT, "python")
UNNAMED, MISSHAPEN, UNHELD = (block.strip() for block in documents.code(TEXT, "text"))

NEMOTRON = Family(
    "nemotron",
    transformers.NemotronConfig,
    tuple(f"Nemotron{head}" for head in (*HEADS, "ForQuestionAnswering")),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        norm_eps=1e-2,
        attention_bias=True,
        mlp_bias=True,
    ),
    {
        "hidden": {"hidden": 61},
        "hidden and heads": {"hidden": 80, "heads": 10},
        "hidden and kv_heads": {"hidden": 72, "kv_heads": 3},
        "head_dim": {"head_dim": 11},
        "ffn": {"ffn": 51},
        "layers": {"layers": 5},
    },
    dict(hidden=90, heads=9, kv_heads=3, head_dim=11, ffn="x3", layers="+2"),
    gated_options,
    gated_growths,
)
GROWTHS = {**NEMOTRON.growths, "together": NEMOTRON.together}
tied_or_not = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


@pytest.fixture(autouse=True)
def registered() -> Iterator[dict[str, Any]]:
    """What the document defines, with its layout registered; afterwards nobody knows of it."""
    known, classes = dict(registry.LAYOUTS), dict(models._REGISTERED)
    found: dict[str, Any] = {}
    exec(compile(LAYOUT, "add-a-family.md", "exec"), found)
    isogrow.register(found["NEMOTRON"])
    try:
        yield found
    finally:
        for now, before in ((registry.LAYOUTS, known), (models._REGISTERED, classes)):
            now.clear()
            now.update(before)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_document_runs(registered: dict[str, Any]) -> None:
    for block in (TRY, OWN):
        exec(compile(block, "add-a-family.md", "exec"), registered)
    assert registered["report"].passed
    assert isinstance(registered["wide"], registered["Tiny"])
    assert registered["wide"].config == {"vocab": 31, "hidden": 18, "ffn": 50, "layers": 3}


def test_nemotron_is_not_built_in() -> None:
    assert BUILT_IN and "nemotron" not in BUILT_IN


@pytest.mark.slow
@tied_or_not
@pytest.mark.parametrize("wanted", GROWTHS.values(), ids=GROWTHS)
def test_the_layout_grows_exactly(wanted: Mapping[str, Size], tied: bool) -> None:
    found = model(tied)
    assert found.error(found.plan(wanted)) < EXACT


def test_a_wrong_layout_is_not_exact(registered: dict[str, Any]) -> None:
    """The test of the test: heads in another order have the same shapes."""

    def swapped(pattern: str) -> str:
        return pattern.replace("kv_heads group", "group kv_heads")

    layout: Layout = registered["NEMOTRON"]
    lines = tuple(replace(line, pattern=swapped(line.pattern)) for line in layout.weights)
    isogrow.register(replace(layout, weights=lines))
    found = model(tied=True)
    assert found.error(found.plan(GROWTHS["hidden and heads"])) > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEMOTRON.classes)
def test_without_biases(kind: str) -> None:
    labels = 2 if kind.endswith("ForQuestionAnswering") else LABELS
    source = NEMOTRON.json(attention_bias=False, mlp_bias=False, num_labels=labels)
    found = subject(NEMOTRON, kind, source)
    assert found.error(found.plan(NEMOTRON.together)) < EXACT


def test_defaults_are_those_of_the_class(registered: dict[str, Any]) -> None:
    made, view = transformers.NemotronConfig(), registered["NEMOTRON"].defaults({})
    assert dict(view) == {name: getattr(made, name) for name in view}


def model(tied: bool) -> Subject:
    return subject(NEMOTRON, source=NEMOTRON.json(tie_word_embeddings=tied), spread=0.1)


# A constant ε


@pytest.mark.slow
@tied_or_not
def test_a_constant_epsilon(registered: dict[str, Any], tied: bool) -> None:
    found = constant(registered["NEMOTRON"], tied)
    made = found.plan(GROWTHS["hidden and heads"])
    assert "norm_eps" not in made.config
    assert found.error(made) < EXACT
    assert found.error(found.plan(NEMOTRON.together)) < EXACT


@tied_or_not
def test_a_constant_epsilon_without_its_gains_is_refused_and_breaks(
    registered: dict[str, Any], tied: bool
) -> None:
    found = constant(registered["NEMOTRON"], tied)
    wrong = ungained(found.plan(GROWTHS["hidden and heads"]))
    with pytest.raises(LawError, match="must scale the gains"):
        laws.check(found.anatomy, wrong)
    assert found.error(wrong) > 1e-6


def constant(layout: Layout, tied: bool) -> Subject:
    """A model whose layout says that ε stands in the code."""
    norm = Norm("layer", "pre", eps=NEMOTRON.sizes["norm_eps"], offset=1.0)
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
    layout: Layout = registered["NEMOTRON"]
    rows = tuple(replace(row, bias=None) if row.slot == "mlp.up" else row for row in layout.weights)
    assert refused(replace(layout, weights=rows)) == UNNAMED


def test_axes_that_do_not_fit(registered: dict[str, Any]) -> None:
    layout: Layout = registered["NEMOTRON"]
    lines = tuple(
        replace(line, pattern="(kv_heads key_dim) <- hidden") if line.slot == "attn.q" else line
        for line in layout.weights
    )
    assert refused(replace(layout, weights=lines)) == MISSHAPEN


def refused(layout: Layout) -> str:
    source = NEMOTRON.json()
    with torch.device("meta"):
        made = transformers.NemotronForCausalLM(transformers.NemotronConfig.from_dict(source))
    with pytest.raises(CheckpointError) as error:
        match(layout, source, headers(made))
    return str(error.value)


def test_sizes_that_the_config_can_not_hold() -> None:
    with pytest.raises(SizeError) as error:
        model(tied=True).plan({"key_dim": 11})
    assert str(error.value) == UNHELD
