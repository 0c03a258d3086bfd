"""Norms of each head's queries and keys by gains of the head's own: they run over its channels alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import families as F
import pytest
import torch
from breaking import Change, changed, switched_on, unscaled, zeroed

from isogrow import families as registry
from isogrow.errors import CheckpointError, LawError, SizeError
from isogrow.interpreters.module import headers
from isogrow.laws import check
from isogrow.layouts.layout import Layout
from isogrow.plans.expansions import Size
from isogrow.plans.matching import match

DIM = {"stablelm": {"hidden": 96, "head_dim": 16}, "cohere": {"head_dim": 20}}
HEADS = {"stablelm": {"hidden": 96, "kv_heads": 4}, "cohere": {"kv_heads": 5}}
WIDE = {"stablelm": {"hidden": 80, "heads": 10}, "cohere": {"hidden": 42}}
either = pytest.mark.parametrize("name", ["stablelm", "cohere"])


def small(name: str) -> F.Subject:
    return F.subject(F.FAMILIES[name], spread=0.1)


@pytest.mark.slow
@either
@pytest.mark.parametrize(
    ("growths", "slots", "change"),
    [
        (DIM, ("attn.k_norm",), unscaled),
        (DIM, ("attn.k_norm",), switched_on),
        (DIM, ("attn.q",), zeroed),
        (WIDE, ("attn.q", "attn.q.bias"), unscaled),
        (HEADS, ("attn.o",), switched_on),
    ],
)
def test_a_broken_plan_is_refused_and_breaks(
    name: str, growths: Mapping[str, Mapping[str, Size]], slots: tuple[str, ...], change: Change
) -> None:
    plan = changed(small(name).plan(growths[name]), slots, change)
    assert small(name).error(plan) > F.BROKEN
    with pytest.raises(LawError):
        check(small(name).anatomy, plan)


def test_a_head_keeps_its_gain_where_its_number_changes() -> None:
    """Groups of three heads become groups of five, so the second group's numbers move."""
    subject = small("stablelm")
    before = subject.small.state_dict()
    after = subject.large(subject.plan(WIDE["stablelm"])).state_dict()
    name = "model.layers.1.self_attn.q_layernorm.norms.{}.weight"
    for head in range(6):
        moved = head // 3 * 5 + head % 3
        assert torch.equal(after[name.format(moved)], before[name.format(head)])
    assert name.format(9) in after and name.format(10) not in after


def test_a_number_beyond_the_config_is_refused() -> None:
    subject = small("stablelm")
    tensors = headers(subject.small)
    name = "model.layers.1.self_attn.q_layernorm.norms.{}.weight"
    with pytest.raises(CheckpointError, match="norms.6.weight is in the checkpoint, but the config has only"):
        match(subject.anatomy.layout, subject.source, {**tensors, name.format(6): tensors[name.format(5)]})


@either
@pytest.mark.parametrize("size", [11, 12, 25])
def test_a_dim_that_is_no_multiple_is_refused(name: str, size: int) -> None:
    with pytest.raises(SizeError, match="queries and keys are normalised over it, so only copies fit"):
        small(name).plan({"head_dim": size})


@pytest.fixture
def misread() -> Iterator[Layout]:
    """OLMo 2 as if its norms ran over each head alone."""
    right = registry.layout_for("olmo2")
    lines = (
        replace(w, norm=replace(w.norm, over=("key_dim",))) if w.norm and w.norm.of else w
        for w in right.weights
    )
    yield registry.register(replace(right, weights=tuple(lines)))
    registry.register(right)


def test_a_norm_over_all_heads_is_another(misread: Layout) -> None:
    """The test of the test: what a norm runs over is not told by its gain's shape."""
    subject = F.subject(F.FAMILIES["olmo2"], spread=0.1)
    assert subject.anatomy.layout == misread
    assert subject.error(subject.plan({"heads": 12, "kv_heads": 4})) > F.BROKEN
