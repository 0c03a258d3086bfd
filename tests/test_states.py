"""Layers that hold a recurrence (docs/laws.md): what would change their function is refused, and shows."""

from __future__ import annotations

from functools import cache

import families as F
import pytest
from breaking import Change, changed, switched_on, unscaled

from isogrow.errors import LawError, SizeError
from isogrow.laws import check
from isogrow.layouts.config import edited


@cache
def small(name: str) -> F.Subject:
    return F.subject(F.FAMILIES[name], spread=0.1)


@pytest.mark.parametrize(
    ("name", "axis", "slot", "change"),
    [
        ("qwen3_5_text", "layers", "state.o", switched_on),
        ("qwen3_5_text", "hidden", "state.o", switched_on),
        ("qwen3_5_text", "hidden", "state.o", unscaled),
        ("falcon_h1", "hidden", "state.o", unscaled),
        ("nemotron_h", "layers", "mlp.down", switched_on),
        ("lfm2", "hidden", "conv.out", switched_on),
    ],
)
def test_a_broken_plan_is_refused_and_breaks(name: str, axis: str, slot: str, change: Change) -> None:
    plan = changed(small(name).plan(F.FAMILIES[name].growths[axis]), (slot,), change)
    assert small(name).error(plan) > F.BROKEN
    with pytest.raises(LawError):
        check(small(name).anatomy, plan)


def test_the_epsilon_that_a_state_s_norm_shares_stays() -> None:
    """Its input has gone through an activation, so no weight could follow ε."""
    subject = small("qwen3_5_text")
    plan = subject.plan({"hidden": 42})
    assert "rms_norm_eps" not in plan.config
    scaled = edited(subject.json(plan), {"rms_norm_eps": subject.source["rms_norm_eps"] * 30 / 42})
    assert subject.error(plan, scaled) > F.BROKEN


def test_a_width_that_the_class_computes_by_a_whole_number_names_its_constraint() -> None:
    with pytest.raises(SizeError, match="can't hold these sizes"):
        small("bamba").plan({"hidden": 42})


def test_a_list_that_the_config_leaves_out_says_each_layer_s_kind() -> None:
    """The class computes it by an interval; where new layers move it, it is written out."""
    family = F.FAMILIES["qwen3_next"]
    source = family.json(num_hidden_layers=4, layer_types=None)
    kinds = source.pop("layer_types")
    subject = F.subject(family, "", source)
    plan = subject.plan({"layers": "+1"}, at="start")
    assert plan.config["layer_types"] == [kinds[0], *kinds]
    assert subject.error(plan) < F.EXACT
