"""What a config says of each layer beside its kind: a θ of its own; and what scales with the number of
layers, or is a number of the code that files hold."""

from __future__ import annotations

import dataclasses

import families as F
import pytest

from isogrow import laws
from isogrow.errors import LawError
from isogrow.layouts.config import edited
from isogrow.plans.plan import Plan


def without(plan: Plan, key: str) -> Plan:
    """The same plan, which leaves a config key as it is."""
    steps = tuple(
        dataclasses.replace(step, config={k: v for k, v in step.config.items() if k != key})
        for step in plan.steps
    )
    return dataclasses.replace(plan, steps=steps, config={k: v for k, v in plan.config.items() if k != key})


@pytest.fixture(scope="module")
def swa() -> F.Subject:
    return F.subject(F.FAMILIES["granite_swa"])


def test_each_layer_s_theta_takes_the_same_power(swa: F.Subject) -> None:
    """Layers of θ 0 have no positions, and get none."""
    plan = swa.plan({"head_dim": 14})
    assert plan.config["layer_rope_theta"] == [0, 70.0 ** (14 / 10), 900.0 ** (14 / 10)]
    assert swa.error(plan) < F.EXACT
    assert swa.plan({"layers": 4}).config["layer_rope_theta"] == [0, 70.0, 900.0, 900.0]


def test_a_list_of_thetas_that_is_left_alone_is_refused_and_breaks(swa: F.Subject) -> None:
    broken = without(swa.plan({"head_dim": 14}), "layer_rope_theta")
    assert swa.error(broken) > F.BROKEN
    with pytest.raises(LawError, match="would turn at another frequency"):
        laws.check(swa.anatomy, broken)


def test_a_layer_without_positions_gets_none(swa: F.Subject) -> None:
    plan = swa.plan({"head_dim": 14})
    begun = {"layer_rope_theta": [5.0, *plan.config["layer_rope_theta"][1:]]}
    step = dataclasses.replace(plan.steps[0], config={**plan.steps[0].config, **begun})
    broken = dataclasses.replace(plan, steps=(step, *plan.steps[1:]), config={**plan.config, **begun})
    assert swa.error(broken) > F.BROKEN
    with pytest.raises(LawError, match=r"makes the θ of a layer 5\.0, and it was 0"):
        laws.check(swa.anatomy, broken)


def test_a_scale_that_falls_with_the_number_of_layers_follows_it() -> None:
    """MiniCPM3 adds each branch times scale_depth / √layers."""
    subject = F.subject(F.FAMILIES["minicpm3"])
    plan = subject.plan({"layers": 12})
    assert plan.config["scale_depth"] == pytest.approx(2.8)
    assert subject.error(plan) < F.EXACT
    left = edited(subject.source, {"num_hidden_layers": 12})
    assert subject.error(plan, left) > F.BROKEN


def test_a_new_layer_has_the_numbers_of_the_code() -> None:
    """Apertus' files hold the β and ε of its activation, which nothing trains."""
    subject = F.subject(F.FAMILIES["apertus"])
    plan = subject.plan({"layers": 5})
    small, large = subject.small.state_dict(), subject.large(plan).state_dict()
    for name in ("beta", "eps"):
        found = [large[f"model.layers.{i}.mlp.act_fn.{name}"] for i in range(5)]
        assert found == [small[f"model.layers.{i}.mlp.act_fn.{name}"] for i in (0, 1, 2, 2, 2)]


def test_a_theta_that_the_class_does_not_read_is_none() -> None:
    """Without a table Ministral 3 fills in its own, θ and all, whatever rope_theta says (transformers 5.23):
    it is written out where its θ changes."""
    source = F.FAMILIES["ministral3"].json()
    del source["rope_parameters"]
    subject = F.subject(F.FAMILIES["ministral3"], "", {**source, "rope_theta": 50.0})
    same = F.subject(F.FAMILIES["ministral3"], "", source)
    assert F.error(subject.answers, same.answers) == 0
    plan = subject.plan({"head_dim": 14})
    assert subject.error(plan) < F.EXACT
    assert plan.config["rope_parameters.rope_theta"] == pytest.approx(1e6 ** (14 / 10))
    assert subject.error(plan, edited(subject.source, {"head_dim": 14})) > F.BROKEN
