"""A LayerNorm that writes the residual of a pre-norm model (BLOOM): whole copies, and the final norm as the
switch before a tied head."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
import transformers

import isogrow
from isogrow.errors import LawError, SizeError
from isogrow.laws import check, idle
from isogrow.plans.expansions import HeadAddition, HiddenExpansion
from isogrow.plans.plan import Constant, Entry, Free, Mean, Old, Plan, Step

BLOOM = F.FAMILIES["bloom"]
NORMED = "apply_residual_connection_post_layernorm"
tied_or_not = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])

Change = Callable[[str, Entry], Entry]


def bloom(tied: bool, kind: str = "", **changes: Any) -> F.Subject:
    return F.subject(BLOOM, kind, BLOOM.json(tie_word_embeddings=tied, **changes), spread=0.1)


def changed(plan: Plan, slots: tuple[str, ...], change: Change) -> Plan:
    """The plan with other new entries in some slots where hidden grows."""

    def step(made: Step) -> Step:
        rewrites = {
            slot: {
                label: change(label, entry) if slot in slots else entry for label, entry in rewrite.items()
            }
            for slot, rewrite in made.rewrites.items()
        }
        return dataclasses.replace(made, rewrites=rewrites)

    steps = tuple(step(s) if s.axis == "hidden" else s for s in plan.steps)
    assert steps != plan.steps
    return dataclasses.replace(plan, steps=steps)


FINAL = ("final_norm", "final_norm.bias")
WIDER = {"hidden": 90, "heads": 15}


@pytest.mark.slow
@tied_or_not
@pytest.mark.parametrize("times", [2, 3, 4, 5])
def test_whole_copies_are_exact(tied: bool, times: int) -> None:
    subject = bloom(tied)
    plan = subject.plan({"hidden": 30 * times, "heads": 5 * times})
    assert subject.error(plan) < F.EXACT
    step = next(step for step in plan.steps if step.axis == "hidden")
    assert {*step.rewrites["final_norm"].values()} == {Constant(0.0) if tied else Old()}
    assert {*step.rewrites["embed"].values(), *step.rewrites["mlp_norm"].values()} == {Old()}


@pytest.mark.slow
@tied_or_not
def test_the_residual_may_be_the_norms_output(tied: bool) -> None:
    """Each norm of a layer then writes it, as in a post-norm model: no new layer is the identity."""
    subject = bloom(tied, **{NORMED: True})
    assert subject.error(subject.plan(WIDER)) < F.EXACT
    with pytest.raises(SizeError, match="normalises the residual itself .post-norm., so no new layer"):
        subject.plan({"layers": 4})
    assert bloom(tied).error(bloom(tied).plan({"layers": 4})) < F.EXACT


@pytest.mark.parametrize("slot", FINAL)
def test_a_tied_head_without_its_switch_is_refused_and_breaks(slot: str) -> None:
    subject = bloom(tied=True)
    wrong = changed(subject.plan(WIDER), (slot,), lambda _, entry: Old())
    assert subject.error(wrong) > F.BROKEN
    with pytest.raises(LawError, match="would reach old channels"):
        check(subject.anatomy, wrong)


FILLS: Mapping[str, Entry] = {"zero": Constant(0.0), "mean": Mean(), "free": Free()}


@pytest.mark.slow
@tied_or_not
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("slots", [("embed",), ("attn.o", "attn.o.bias"), ("embed_norm",)], ids=str)
def test_another_fill_is_refused_and_breaks(tied: bool, fill: str, slots: tuple[str, ...]) -> None:
    """The embedding norm's output has no mean that a fixed fill could match."""
    subject = bloom(tied)
    wrong = changed(subject.plan(WIDER), slots, lambda _, entry: FILLS[fill])
    assert subject.error(wrong) > F.BROKEN
    with pytest.raises(LawError):
        check(subject.anatomy, wrong)


def test_readers_that_see_every_copy_are_refused_and_break() -> None:
    subject = bloom(tied=True)
    wrong = changed(subject.plan(WIDER), ("mlp.up",), lambda _, entry: Old())
    assert subject.error(wrong) > F.BROKEN
    with pytest.raises(LawError, match="would reach old channels"):
        check(subject.anatomy, wrong)


def test_what_grows_with_hidden_parts_its_copies() -> None:
    """ffn is four times hidden, and its new units read every copy with numbers of their own: so copies part
    even where all else that reads them is zero, and hidden may be copied twice."""
    subject = bloom(tied=True)
    silent = changed(subject.plan(WIDER), ("attn.q", "attn.k", "attn.v", "mlp.up"), lambda *_: Constant(0.0))
    check(subject.anatomy, silent)
    twice = (HeadAddition("x4"), HiddenExpansion("x2"), HiddenExpansion("x2"))
    assert subject.error(subject.plan(twice)) < F.EXACT


@tied_or_not
def test_sizes_between_are_refused(tied: bool) -> None:
    with pytest.raises(
        SizeError, match="only whole copies keep its mean.* multiples of 30: give 30 or 60|give 60"
    ):
        bloom(tied).plan({"hidden": 50, "heads": 10})


def test_ffn_is_hidden_times_four() -> None:
    subject = bloom(tied=True)
    assert subject.plan(WIDER).target.of("ffn") == 360
    assert subject.plan({**WIDER, "ffn": 360}).target.of("ffn") == 360
    with pytest.raises(
        SizeError, match="ffn=130 can't be had: ffn is 4 . hidden .* here 120; .* grow hidden"
    ):
        subject.plan({"ffn": 130})


# Names without a prefix do not tell whether a head is tied


@pytest.mark.slow
@pytest.mark.parametrize("keys", ["new keys", "old keys"])
def test_a_bare_checkpoint_is_grown_for_both_classes(keys: str, tmp_path: Path) -> None:
    """As BLOOM is published: names of the base model, loaded by the language model's class."""
    source = BLOOM.json()
    small = F.model(BLOOM, "BloomModel", source).float()
    small.save_pretrained(tmp_path / "small")
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    config["architectures"] = ["BloomForCausalLM"]
    if keys == "old keys":
        old = {"hidden_size": "n_embed", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers"}
        config = {old.get(key, key): value for key, value in config.items()}
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", hidden=60, heads=10, layers=4)
    edited = json.loads((tmp_path / "large" / "config.json").read_text())
    assert {key: value for key, value in config.items() if edited[key] != value}.keys() == edited.keys() & {
        "hidden_size", "n_embed", "n_head", "num_attention_heads", "n_layer", "num_hidden_layers"
    }  # fmt: skip
    assert list(edited) == list(config)
    for kind in ("BloomForCausalLM", "BloomModel"):
        models: list[Any] = []
        for folder in ("small", "large"):
            made, report = getattr(transformers, kind).from_pretrained(
                tmp_path / folder, output_loading_info=True
            )
            assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
            models.append(F.rebuilt(made))
        assert F.error(*(F.outputs(model, F.batch(kind)) for model in models)) < F.EXACT


def test_a_head_of_another_kind_needs_no_switch(tmp_path: Path) -> None:
    """It has a tensor, and the config's tie is of a head that is not there."""
    subject = bloom(True, "BloomForTokenClassification")
    plan = subject.plan(WIDER)
    step = next(step for step in plan.steps if step.axis == "hidden")
    assert {*step.rewrites["final_norm"].values()} == {Old()}
    assert subject.error(plan) < F.EXACT


def test_the_slow_path_leaves_biases_out() -> None:
    """So they get no gradient, in the old model as in the grown one, and are not waited for."""
    subject = bloom(True, slow_but_exact=True, pretraining_tp=3)
    large = subject.large(subject.plan({**WIDER, "layers": 4}))
    assert idle(subject.anatomy) == {"attn.k.bias", "attn.o.bias", "mlp.down.bias"}
    assert idle(bloom(True).anatomy) == {"attn.k.bias"}
    given = F.batch(subject.kind)
    before = F.outputs(large, given)
    assert F.error(F.outputs(subject.small, given), before) < F.EXACT
    with torch.no_grad():
        for name, value in large.named_parameters():
            if name.endswith(("attention.dense.bias", "4h_to_h.bias")):
                value += 1.0
    assert F.error(before, F.outputs(large, given)) == 0.0
