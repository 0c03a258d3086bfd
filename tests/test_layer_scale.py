"""LayerScale, a gain without a norm on each branch of DINOv2: the switch of new layers, and the weights of
the mean in new channels."""

from __future__ import annotations

from functools import cache

import families as F
import pytest
import torch
from breaking import changed, switched_on
from test_chains import agrees_with_the_oracle, filled, same
from test_family_life import NEVER, ZERO, edited, faults, predicted, run

from isogrow.errors import LawError
from isogrow.laws import check
from isogrow.plans.expansions import HeadAddition, HiddenExpansion, LayerAddition, MlpExpansion
from isogrow.plans.plan import Constant, Entry, Mean, Old, Plan, Step

SCALES = ("attn.scale", "mlp.scale")
WRITERS = ("attn.o", "attn.o.bias", "mlp.down", "mlp.down.bias")
WIDER = {"hidden": 42, "heads": 7, "ffn": 84}


@cache
def small() -> F.Subject:
    return F.subject(F.FAMILIES["dinov2"], spread=0.15)


@cache
def layers() -> Plan:
    return small().plan({"layers": "+2"}, at="even")


def test_the_scale_is_the_switch_of_a_new_layer() -> None:
    """λ = 0 and the weights free: λ gets gradient at the first pass, and opens the rest for the second."""
    large = small().large(layers())
    assert small().error(layers()) < F.EXACT
    new = [i for i in range(5) if layers().steps[0].source(i)[1] == "new"]
    for i in new:
        layer = large.get_submodule(f"encoder.layer.{i}")
        assert not layer.get_parameter("layer_scale1.lambda1").any()
        assert not layer.get_parameter("layer_scale2.lambda1").any()
        assert layer.get_parameter("attention.o_proj.weight").all()
    expected, one = predicted(small(), layers()), run(small(), layers())
    assert faults(expected, one.first, {}, strict=False) == []
    for name, steps in ((n, s) for n, s in one.first.items() if any(f".{i}." in n for i in new)):
        if "k_proj.bias" not in name:  # softmax cancels it
            assert (steps == (1 if "layer_scale" in name else 2)).all(), name


@pytest.mark.parametrize("slot", SCALES)
def test_a_scale_that_is_not_zero_is_refused_and_breaks(slot: str) -> None:
    plan = changed(layers(), (slot,), switched_on)
    assert small().error(plan) > F.BROKEN
    with pytest.raises(LawError, match=f"new entries of {slot} .* would reach old channels"):
        check(small().anatomy, plan)


def test_a_scale_and_weights_of_zero_are_dead() -> None:
    plan = edited(edited(layers(), "mlp.down", ZERO), "mlp.down.bias", ZERO)
    with pytest.raises(LawError, match="mlp.* would never get gradient"):
        check(small().anatomy, plan)
    first = run(small(), plan).first
    new = next(i for i in range(5) if layers().steps[0].source(i)[1] == "new")
    assert (first[f"encoder.layer.{new}.mlp.fc2.weight"] == NEVER).all()
    assert (first[f"encoder.layer.{new}.layer_scale2.lambda1"] == NEVER).all()


def test_new_channels_get_the_mean_of_what_reaches_the_residual() -> None:
    """New rows are the mean of λ_j · row_j, and a new λ is 1."""
    plan = small().plan(WIDER)
    state, grown = small().small.state_dict(), small().large(plan).state_dict()
    assert small().error(plan) < F.EXACT
    for scale, fc in (("layer_scale1.lambda1", "attention.o_proj"), ("layer_scale2.lambda1", "mlp.fc2")):
        for kind in ("weight", "bias"):
            scales, rows = state[f"encoder.layer.1.{scale}"], state[f"encoder.layer.1.{fc}.{kind}"]
            mean = (scales.reshape(-1, *[1] * (rows.dim() - 1)) * rows).mean(0)
            wide = grown[f"encoder.layer.1.{fc}.{kind}"][30:]
            wide = wide[:, : mean.shape[0]] if mean.dim() else wide
            assert torch.allclose(wide, mean.expand_as(wide), rtol=1e-13, atol=1e-15)
        assert (grown[f"encoder.layer.1.{scale}"][30:] == 1.0).all()


def unweighted(step: Step, label: str, entry: Entry) -> Entry:
    return Mean() if isinstance(entry, Mean) else entry


def doubled(step: Step, label: str, entry: Entry) -> Entry:
    return Constant(2.0) if entry == Constant(1.0) else entry


def kept(step: Step, label: str, entry: Entry) -> Entry:
    return Old(2.0) if isinstance(entry, Old) else entry


@pytest.mark.parametrize("slot", WRITERS)
def test_a_mean_without_its_weights_is_refused_and_breaks(slot: str) -> None:
    plan = changed(small().plan(WIDER), (slot,), unweighted)
    assert small().error(plan) > F.BROKEN
    with pytest.raises(LawError, match="fills what feeds a layer norm over hidden with"):
        check(small().anatomy, plan)


@pytest.mark.parametrize("slot", SCALES)
def test_a_new_scale_that_is_not_one_is_refused_and_breaks(slot: str) -> None:
    plan = changed(small().plan(WIDER), (slot,), doubled)
    assert small().error(plan) > F.BROKEN
    with pytest.raises(LawError, match="fills what feeds a layer norm over hidden with"):
        check(small().anatomy, plan)


@pytest.mark.parametrize("slot", SCALES)
def test_an_old_scale_that_is_scaled_is_refused_and_breaks(slot: str) -> None:
    plan = changed(small().plan(WIDER), (slot,), kept)
    assert small().error(plan) > F.BROKEN
    with pytest.raises(LawError, match=f"makes old entries of {slot}"):
        check(small().anatomy, plan)


@pytest.mark.slow
def test_layers_before_and_after_a_wider_stream() -> None:
    """A layer of λ = 0 whose channels grow: the mean is of zeros, and what is behind the new λ wakes."""
    for wanted in (small().plan({"layers": "+1"}), small().plan(WIDER)):
        large = small().large(wanted)
        found = F.subject(F.FAMILIES["dinov2"], source=small().json(wanted))
        other = {"layers": "+1"} if "hidden_size" in wanted.config else WIDER
        second = found.plan(other)
        both = wanted.then(second)
        check(small().anatomy, both)
        assert small().error(both) < F.EXACT
        assert faults(predicted(small(), both), run(small(), both).first, {}, strict=False) == []
        assert large.training is False


def test_the_patches_of_swiglu() -> None:
    """Its ffn is 2/3 of what the config says, rounded up to eights."""
    source = F.FAMILIES["dinov2"].json(use_swiglu_ffn=True)
    subject = F.subject(F.FAMILIES["dinov2"], source=source)
    assert subject.anatomy.sizes.of("ffn") == 40
    assert subject.error(subject.plan({"hidden": 42, "heads": 7, "ffn": 56})) < F.EXACT


@pytest.mark.slow
def test_interpreters_agree_on_weighted_means() -> None:
    """After layers and new heads too, in chunks of any size; an earlier step may have grown the weights."""
    chain = [LayerAddition(4), HeadAddition(6), HiddenExpansion(36), MlpExpansion(72)]
    further = [HiddenExpansion(42), HeadAddition(7), MlpExpansion(84), LayerAddition("+1", (0,))]
    found, state = small().anatomy, small().small.state_dict()
    plan = small().plan((*chain, *further))
    grown = filled(found, plan, state)
    assert small().error(plan) < F.EXACT
    assert list(agrees_with_the_oracle(found, plan, state, grown)) == []
    assert same(grown, filled(found, plan, state, limit=17, order=1))
