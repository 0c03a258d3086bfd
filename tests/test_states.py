"""Layers that hold a recurrence (docs/laws.md): what would change their function is refused, and shows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import families as F
import pytest
import transformers
from breaking import Change, changed, switched_on, unscaled, zeroed
from sweeping import swept

from isogrow.errors import LawError, SizeError
from isogrow.laws import check
from isogrow.layouts.config import edited
from isogrow.rules.places import append


@cache
def small(name: str) -> F.Subject:
    return F.subject(F.FAMILIES[name], spread=0.1)


BREAKS: list[tuple[str, str, str, Change]] = [
    ("qwen3_5_text", "layers", "state.o", switched_on),
    ("qwen3_5_text", "hidden", "state.o", switched_on),
    ("qwen3_5_text", "hidden", "state.o", unscaled),
    ("falcon_h1", "hidden", "state.o", unscaled),
    ("nemotron_h", "layers", "mlp.down", switched_on),
    ("lfm2", "hidden", "conv.out", switched_on),
    ("mamba2", "state_dim", "state.read_conv", switched_on),
    ("bamba", "state_dim", "state.read_conv.bias", switched_on),
    ("falcon_h1", "taps", "state.x_conv", switched_on),
    ("mamba", "layers", "state.o", switched_on),
    ("mamba", "hidden", "state.o", switched_on),
    ("mamba", "state_width", "state.o", switched_on),
    ("mamba", "state_width", "state.read", switched_on),
    ("mamba", "state_width", "state.rate", switched_on),
    ("mamba", "state_dim", "state.read", switched_on),
    ("mamba", "dt_rank", "state.step", switched_on),
    ("mamba", "taps", "state.conv", switched_on),
    ("jamba", "state_dim", "state.read_norm", switched_on),
    ("jamba", "state_dim", "state.write", zeroed),
    ("jamba", "dt_rank", "state.rate", unscaled),
    ("jamba", "hidden", "state.rate", unscaled),
    ("olmo_hybrid", "layers", "state_mlp.down", switched_on),
    ("olmo_hybrid", "ffn", "state_mlp.down", switched_on),
    ("kimi_linear", "hidden", "state.o", unscaled),
    ("kimi_linear", "taps", "state.k_conv", switched_on),
    ("minimax", "hidden", "attn_norm", unscaled),
    ("lfm2_moe", "expert_ffn", "experts.down", switched_on),
    ("ctrl", "layers", "mlp.down", switched_on),
]
# What has a rule of its own; kin are asked in turns.
OWN = ("qwen3_5_text", "falcon_h1", "nemotron_h", "lfm2", "mamba", "mamba2", "jamba")


@pytest.mark.parametrize(("name", "axis", "slot", "change"), swept(BREAKS, lambda name, *_: name in OWN))
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


def test_taps_that_move_are_refused_and_break() -> None:
    """The last tap is the newest token's: new ones behind it would shift what each old one reads."""
    plan = small("mamba").plan({"taps": 6})
    (step,) = plan.steps
    behind = replace(plan, steps=(replace(step, places=append(4, 6)),))
    assert small("mamba").error(behind) > F.BROKEN
    with pytest.raises(LawError, match="new ones must come before the old"):
        check(small("mamba").anatomy, behind)


def test_layers_extend_the_last_of_the_kind_that_their_number_says() -> None:
    """Jamba's class computes kinds from a layer's number, so a new layer's is given: at the end old layers
    keep theirs, and elsewhere they could not."""
    subject = small("jamba")
    plan = subject.plan({"layers": "+3"})
    assert [plan.steps[0].source(layer) for layer in range(3, 6)] == [(1, "new"), (2, "new"), (1, "new")]
    assert subject.error(plan) < F.EXACT
    with pytest.raises(SizeError, match="of its predecessor's kind.*give --layers-at 3$"):
        subject.plan({"layers": "+1"}, at="start")
    alone = F.subject(F.FAMILIES["jamba"], "", F.FAMILIES["jamba"].json(num_hidden_layers=1))
    with pytest.raises(SizeError, match="no config of 'jamba' says"):
        alone.plan({"layers": "+1"})


def test_widths_as_the_real_classes_read_them() -> None:
    """transformers 5.23: a Mamba config's intermediate_size counts, whatever `expand` says; a rank that is
    not said is a 16th of hidden, rounded up. Jamba's width is `expand` times hidden, and the
    dim of its heads the key head_dim, which its config class does not list."""
    said = transformers.MambaConfig.from_dict({"hidden_size": 33, "expand": 2, "intermediate_size": 37})
    assert (said.intermediate_size, said.time_step_rank) == (37, 3)
    source = F.FAMILIES["mamba"].json()
    del source["intermediate_size"], source["time_step_rank"]
    source |= {"hidden_size": 33, "expand": 3}
    subject = F.subject(F.FAMILIES["mamba"], "", source)
    assert (subject.anatomy.sizes.of("state_width"), subject.anatomy.sizes.of("dt_rank")) == (99, 3)
    plan = subject.plan({"hidden": 50})
    assert (plan.config["intermediate_size"], plan.config["time_step_rank"]) == (99, 3)
    assert subject.error(plan) < F.EXACT
    assert "head_dim" not in transformers.JambaConfig().to_dict()
    assert small("jamba").json(small("jamba").plan({"head_dim": 14}))["head_dim"] == 14


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
