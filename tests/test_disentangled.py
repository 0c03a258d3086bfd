"""DeBERTa's three contractions, and ALBERT's one layer (docs/laws.md): what would change their function is
refused, and shows; and what the real classes do where one would guess otherwise."""

from __future__ import annotations

from functools import cache

import families as F
import pytest
import transformers
from breaking import Change, changed, switched_on, unscaled

from isogrow.errors import LawError, SizeError
from isogrow.laws import check


@cache
def small(name: str) -> F.Subject:
    return F.subject(F.FAMILIES[name], spread=0.3)


@pytest.mark.parametrize(
    ("name", "axis", "slot", "change"),
    [
        ("deberta", "hidden and head_dim", "far.k", switched_on),
        ("deberta", "hidden and head_dim", "far.k", unscaled),
        ("deberta", "hidden and head_dim", "attn.k", unscaled),
        ("deberta", "hidden and heads", "far.q", switched_on),
        ("deberta-v2", "hidden and head_dim", "far.k", unscaled),
        ("deberta-v2", "hidden and heads", "conv", switched_on),
        ("albert", "hidden and heads", "mlp.up", switched_on),
        ("albert", "ffn", "mlp.down", switched_on),
    ],
)
def test_a_broken_plan_is_refused_and_breaks(name: str, axis: str, slot: str, change: Change) -> None:
    plan = changed(small(name).plan(F.FAMILIES[name].growths[axis]), (slot,), change)
    assert small(name).error(plan) > F.BROKEN
    with pytest.raises(LawError):
        check(small(name).anatomy, plan)


def test_projections_that_read_distances_as_well() -> None:
    """With share_att_key queries and keys read both streams; each grows by the same copies."""
    family = F.FAMILIES["deberta-v2"]
    subject = F.subject(family, "", family.json(share_att_key=True))
    plan = subject.plan({"hidden": 60, "head_dim": 12})
    assert not {"far.q", "far.k"} & subject.anatomy.slots.keys()
    assert subject.error(plan) < F.EXACT
    broken = changed(plan, ("attn.k",), switched_on)
    assert subject.error(broken) > F.BROKEN
    with pytest.raises(LawError):
        check(subject.anatomy, broken)


def test_turns_through_one_layer_are_no_layers() -> None:
    subject = small("albert")
    assert {
        block.index for stored in subject.anatomy.stored for _, block in stored.blocks(subject.anatomy.sizes)
    } == {
        (),
        (("groups", 0),),
    }
    with pytest.raises(SizeError, match="layers can't grow in 'albert': all of them are one layer's weights"):
        subject.plan({"layers": "+1"})


def test_widths_as_the_real_classes_read_them() -> None:
    """transformers 5.23: a config that was saved holds the pooler's width as a key that its class does not
    list, so it follows hidden; an embedding_size is looked for, too."""
    family = F.FAMILIES["deberta"]
    assert "pooler_hidden_size" not in transformers.DebertaConfig.__annotations__
    assert family.json()["pooler_hidden_size"] == 30
    plan = small("deberta").plan({"hidden": 60, "heads": 10})
    assert plan.config["pooler_hidden_size"] == 60
    wide = F.subject(family, "", family.json(embedding_size=30))
    grown = wide.plan({"hidden": 60, "heads": 10})
    assert grown.config["embedding_size"] == 60
    assert wide.error(grown) < F.EXACT
