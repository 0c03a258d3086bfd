"""What the laws leave open, chosen: an ε that stays, a scale that follows by convention, kinds by number,
both names of a θ. Each is as exact as the default, and each has a broken one that is refused and shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import families as F
import pytest
from breaking import Change, changed, unscaled, zeroed
from sweeping import swept

import isogrow
from isogrow.errors import LawError, SizeError
from isogrow.laws import check
from isogrow.layouts.config import edited
from isogrow.planning.planner import check_fits
from isogrow.plans.choices import Choices
from isogrow.plans.expansions import Size
from isogrow.plans.plan import Plan
from isogrow.plans.serial import from_json, to_json
from isogrow.verification import verify

pytestmark = pytest.mark.slow  # models of many kinds are built, grown and run

EPS, SPREAD = 1e-2, 0.2  # where an ε that is wrong shows


@cache
def subject(name: str, **keys: Any) -> F.Subject:
    """A model of a family whose norms have an ε that matters."""
    family = F.FAMILIES[name]
    source = {**family.json(), **keys}
    source |= dict.fromkeys(epsilons(F.subject(family)) & source.keys(), EPS)
    return F.subject(family, source=source, spread=SPREAD)


def epsilons(subject: F.Subject) -> set[str]:
    """The config keys of its norms' ε."""
    norms = (slot.norm for slot in subject.anatomy.layout.table)
    return {norm.eps for norm in norms if norm is not None and isinstance(norm.eps, str)}


def kept(subject: F.Subject) -> Choices:
    return Choices(kept=tuple(sorted(epsilons(subject))))


def wider(name: str) -> Mapping[str, Size]:
    growths = F.FAMILIES[name].growths.values()
    return next((sizes for sizes in growths if "hidden" in sizes), F.FAMILIES[name].together)


# ── an ε that stays ──


@pytest.mark.parametrize("name", swept(name for name in F.FAMILIES if name != "minimax"))
def test_an_epsilon_may_stay_in_every_family(name: str) -> None:
    """And the grown model then computes what it computes with an ε that is edited."""
    own = subject(name)
    plan = own.plan(wider(name), choices=kept(own))
    assert epsilons(own).isdisjoint(plan.config)
    assert own.error(plan) < F.EXACT
    check_fits(own.anatomy, from_json(to_json(plan)))


def test_where_an_rms_norm_writes_the_residual_no_epsilon_stays() -> None:
    own = subject("minimax")
    with pytest.raises(SizeError, match="an RMSNorm writes the residual"):
        own.plan({"hidden": "x2"}, choices=kept(own))


def test_keeping_it_changes_nothing_where_hidden_stays() -> None:
    own = subject("llama")
    plain = own.plan({"ffn": "x2", "layers": "+1"})
    asked = own.plan({"ffn": "x2", "layers": "+1"}, choices=kept(own))
    assert [replace(step, choices=Choices()) for step in asked.steps] == list(plain.steps)


@pytest.mark.parametrize(
    ("name", "slots", "change"),
    [
        ("gpt2", ("final_norm.bias",), unscaled),
        ("gpt2", ("final_norm",), unscaled),
        ("gpt2", ("positions",), zeroed),
        ("llama", ("embed",), unscaled),
        ("llama", ("attn_norm",), unscaled),
        ("gemma2", ("attn_after",), zeroed),
        ("olmo2", ("attn.q",), unscaled),
        ("qwen3_moe", ("experts.down",), unscaled),
    ],
)
def test_a_broken_one_is_refused_and_breaks(name: str, slots: tuple[str, ...], change: Change) -> None:
    own = subject(name)
    if change is zeroed and name == "gemma2":
        change = lambda step, label, entry: replace(entry, a=0.5) if label == "old" else entry  # noqa: E731
    plan = changed(own.plan(wider(name), choices=kept(own)), slots, change)
    assert own.error(plan) > F.BROKEN
    with pytest.raises(LawError):
        check(own.anatomy, plan)


def test_an_edit_that_is_left_out_is_no_kept_epsilon() -> None:
    """What else is scaled makes the difference, not the config alone."""
    own = subject("llama")
    plan = own.plan(wider("llama"))
    stale = edited(own.source, {path: x for path, x in plan.config.items() if path not in epsilons(own)})
    assert own.error(plan, stale) > F.BROKEN
    assert own.error(own.plan(wider("llama"), choices=kept(own))) < F.EXACT


def test_a_plan_without_its_choices_is_another() -> None:
    own = subject("gpt2")
    plan = own.plan(wider("gpt2"), choices=kept(own))
    plain = replace(plan, steps=tuple(replace(step, choices=Choices()) for step in plan.steps))
    check_fits(own.anatomy, plan)
    with pytest.raises(SizeError, match="would be done otherwise on this model"):
        check_fits(own.anatomy, plain)
    record = to_json(plan)
    assert from_json(record) == plan and record["steps"][0]["choices"]["kept"] == ["layer_norm_epsilon"]
    assert all("choices" not in step for step in to_json(own.plan({"ffn": "x2"}))["steps"])


def test_plans_for_different_readers_are_one_plan() -> None:
    """What is chosen belongs to its step."""
    own = subject("llama")
    first = own.plan({"hidden": wider("llama")["hidden"]}, choices=kept(own))
    both = first.then(replace(own.plan({"layers": "+1"}), source=first.target))
    assert isinstance(both, Plan) and own.error(both) < F.EXACT
    check_fits(own.anatomy, both)


# ── a scale that follows the head dim by convention ──


@pytest.mark.parametrize(("name", "growth"), [("gemma2", "x2"), ("gemma2", "+4"), ("gemma3_text", "x2")])
def test_a_scale_that_is_the_head_dim_stays_it(name: str, growth: str) -> None:
    """Keys, or the gain of their norm, take √(k̂/k); a number of its own in the config stays, and they do
    too."""
    dim = F.FAMILIES[name].json()["head_dim"]
    usual, own = subject(name, query_pre_attn_scalar=dim), subject(name)
    plan = usual.plan({"head_dim": growth})
    assert plan.config["query_pre_attn_scalar"] == plan.config["head_dim"] > dim
    assert usual.error(plan) < F.EXACT
    stale = edited(usual.source, {**plan.config, "query_pre_attn_scalar": dim})
    assert usual.error(plan, stale) > F.BROKEN
    other = own.plan({"head_dim": growth})
    assert "query_pre_attn_scalar" not in other.config and own.error(other) < F.EXACT
    with pytest.raises(LawError, match="changes the attention scale"):
        check(usual.anatomy, replace(plan, steps=tuple(replace(s, config={}) for s in plan.steps)))


# ── kinds by number ──


def test_new_layers_are_what_a_reader_takes_them_for() -> None:
    own = subject("gemma2", num_hidden_layers=3)
    pattern = "'full_attention' if i == 4 else 'sliding_attention'"
    plan = own.plan({"layers": "+2"}, choices=Choices(kinds=(("layer_types", pattern),)))
    old = own.plan({"layers": "+2"}).config["layer_types"]
    assert plan.config["layer_types"] == [*old[:3], "sliding_attention", "full_attention"]
    assert own.error(plan) < F.EXACT
    check_fits(own.anatomy, from_json(to_json(plan)))


# ── both names of a θ ──


def test_an_edited_theta_stands_under_both_names() -> None:
    own = subject("llama")
    head = own.anatomy.sizes.of("key_dim")
    plan = own.plan({"head_dim": head + 4})
    assert plan.config["rope_theta"] == plan.config["rope_parameters.rope_theta"]
    assert own.error(plan) < F.EXACT
    assert "rope_theta" not in own.plan({"head_dim": "x2"}).config


def test_the_old_name_says_what_the_new_one_says() -> None:
    own = subject("llama")
    plan = own.plan({"ffn": "x2"}, choices=Choices(legacy=True))
    assert plan.config["rope_theta"] == own.source["rope_parameters"]["rope_theta"]
    assert own.error(plan) < F.EXACT
    wrong = replace(plan, steps=(replace(plan.steps[0], config={"rope_theta": 3.0}),))
    with pytest.raises(SizeError, match="would be done otherwise"):
        check_fits(own.anatomy, wrong)


# ── with a whole engine in mind ──

MADE = [
    ("gpt2", "ctranslate2", wider("gpt2")),
    ("gptj", "ctranslate2", wider("gptj")),
    ("falcon", "ctranslate2", {"hidden": "x2", "heads": "x2"}),
    ("t5", "ctranslate2", wider("t5")),
    ("gemma2", "llama.cpp", {"hidden": "x2", "head_dim": "x2", "layers": "+2"}),
    ("smollm3", "llama.cpp", {"layers": "+4"}),
    ("mistral", "mlx", {"hidden": "x2", "head_dim": "x2"}),
]


@pytest.mark.parametrize(("name", "engine", "sizes"), MADE)
def test_a_growth_for_an_engine_is_exact(name: str, engine: str, sizes: Mapping[str, Size]) -> None:
    dim = F.FAMILIES[name].json().get("head_dim")
    own = subject(name, **({"query_pre_attn_scalar": dim} if name == "gemma2" else {}))
    start = {"layers_at": "start"} if name == "smollm3" else {}
    plan = isogrow.Request(dict(sizes), engines=engine, **start).plan(own.anatomy)
    assert own.error(plan) < F.EXACT


def test_in_python_and_verified() -> None:
    small = subject("gpt2").small.float()
    large = isogrow.grow(small, **wider("gpt2"), engines=["ctranslate2", "openvino"])
    assert large.config.layer_norm_epsilon == EPS
    report = verify(small, large)
    assert report.passed, report.failed
