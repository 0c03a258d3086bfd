"""What a config multiplies by, or caps, stays: no weight makes up for it, and the tests of growth see it."""

from __future__ import annotations

import dataclasses
from functools import cache
from math import sqrt

import families as F
import pytest
from breaking import changed

from isogrow.errors import LawError
from isogrow.laws import check
from isogrow.layouts.config import edited
from isogrow.layouts.layout import Slot
from isogrow.plans.plan import Entry, Old, Step

HELD = [
    ("granite", "embedding_multiplier", 1.0),
    ("granite", "attention_multiplier", 0.8),
    ("granite", "residual_multiplier", 1.0),
    ("granite", "logits_scaling", 1.0),
    ("gemma2", "attn_logit_softcapping", 0.05),
    ("gemma2", "final_logit_softcapping", 1.0),
    ("gemma2", "query_pre_attn_scalar", 256),
    ("gemma3_text", "final_logit_softcapping", 1.0),
    ("gemma3_text", "query_pre_attn_scalar", 256),
]


@cache
def small(name: str) -> F.Subject:
    return F.subject(F.FAMILIES[name], "", F.FAMILIES[name].json())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key", "value"), HELD)
def test_a_multiplier_stays_and_matters(name: str, key: str, value: float) -> None:
    subject = small(name)
    made = subject.plan({"hidden": 60, "head_dim": 20, "ffn": 51, "layers": 5})
    assert key not in made.config
    assert subject.error(made) < F.EXACT
    assert subject.error(made, edited(subject.json(made), {key: value})) > F.BROKEN


@pytest.mark.parametrize(
    ("name", "slots"),
    [("granite", ("attn.k",)), ("gemma2", ("attn.k",)), ("gemma3_text", ("attn.k_norm",))],
)
def test_no_key_is_scaled_where_the_config_holds_the_scale(name: str, slots: tuple[str, ...]) -> None:
    """As it would be if the scale were 1/√k."""
    made = small(name).plan({"head_dim": 20})
    factor = sqrt(2.0)

    def rescaled(step: Step, label: str, entry: Entry) -> Entry:
        grows = step.axis == "key_dim" and label.startswith("old")
        return Old(factor, offset(small(name).anatomy.slots[slots[0]]) * (factor - 1)) if grows else entry

    wrong = changed(made, slots, rescaled)
    with pytest.raises(LawError, match="so its old entries must be scaled by 1, not 1.41421"):
        check(small(name).anatomy, wrong)
    assert small(name).error(wrong) > F.BROKEN


def offset(slot: Slot) -> float:
    return slot.norm.offset if slot.norm is not None else 0.0


@pytest.mark.parametrize(("slot", "kept"), [("embed", sqrt(0.5)), ("final_norm", 1.0)])
def test_an_embedding_multiplier_is_undone(slot: str, kept: float) -> None:
    """Gemma 3 multiplies by √hidden: embeddings take √(h/ĥ). The last gain stays, since the head is tied."""
    subject = small("gemma3_text")
    (step,) = (made := subject.plan({"hidden": 60})).steps
    entry = step.rewrites[slot]["old"]
    assert isinstance(entry, Old) and entry.a == pytest.approx(kept, rel=1e-15)
    other = Old(2.0, offset(subject.anatomy.slots[slot]))
    rewrites = {**step.rewrites, slot: {**step.rewrites[slot], "old": other}}
    wrong = dataclasses.replace(made, steps=(dataclasses.replace(step, rewrites=rewrites),))
    with pytest.raises(LawError, match="unevenly|must scale the gains"):
        check(subject.anatomy, wrong)
    assert subject.error(wrong) > F.BROKEN
