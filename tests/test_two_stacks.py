"""Models of two stacks: which one grows, where the position bias stays, heads tied or apart, the proof."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import checkpoints
import command
import families as F
import pytest
import torch
import transformers
from breaking import changed, unscaled
from sweeping import swept

import isogrow
from isogrow.errors import CheckpointError, LawError, SizeError
from isogrow.laws import check
from isogrow.plans.expansions import HeadAddition, HiddenExpansion, LayerAddition, MlpExpansion, Size
from isogrow.plans.plan import Constant, Old
from isogrow.plans.words import named

FAMILY = F.FAMILIES["t5"]


@cache
def small(kind: str = "") -> F.Subject:
    return F.subject(FAMILY, kind, spread=0.1)


# Which stack


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (
            {"encoder.heads": 7},
            r"encoder\.heads=7 can't be had with encoder\.kv_heads=2.*give encoder\.heads=10",
        ),
        ({"encoder.kv_heads": 1}, r"would shrink encoder\.kv_heads from 2 to 1"),
        ({"heads": 12}, r"encoder\.heads=12, encoder\.hidden=30"),
    ],
)
def test_grouped_heads_of_a_stack_are_refused_in_its_words(wanted: dict[str, Size], why: str) -> None:
    with pytest.raises(SizeError, match=why):
        F.subject(F.FAMILIES["t5gemma"], spread=0.1).plan(wanted)


def test_a_tower_is_refused_in_its_words() -> None:
    why = (
        r"needs text\.heads \* text\.head_dim == text\.hidden, .* text\.hidden=48 with text\.heads=8 would do"
    )
    with pytest.raises(SizeError, match=why):
        F.subject(F.FAMILIES["clip"], spread=0.1).plan({"text.hidden": 50})


def test_each_stack_has_grouped_heads_of_its_own() -> None:
    two = F.subject(F.FAMILIES["t5gemma"], spread=0.1)
    made = two.plan({"hidden": 60, "encoder.heads": 12, "decoder.kv_heads": 5})
    grown = named(made.target, two.anatomy.layout.stacks)
    assert {word: n for word, n in grown.items() if word.endswith(("heads", "hidden"))} == {
        **{"hidden": 60, "encoder.hidden": 60, "decoder.hidden": 60},
        **{"encoder.heads": 12, "decoder.heads": 10, "encoder.kv_heads": 2, "decoder.kv_heads": 5},
    }
    assert two.error(made) < F.EXACT


def test_a_scale_in_a_nested_config_that_is_the_head_dim_stays_it() -> None:
    """The encoder's is its head dim, and the decoder's a number of its own."""
    two = F.subject(F.FAMILIES["t5gemma"], spread=0.1)
    made = two.plan({"head_dim": "x2"})
    assert made.config["encoder.query_pre_attn_scalar"] == 16
    assert "decoder.query_pre_attn_scalar" not in made.config
    assert two.error(made) < F.EXACT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "encoder", "decoder"),
    [
        ({"layers": "+2"}, 6, 5),
        ({"layers": 8}, 8, 8),
        ({"encoder.layers": 5}, 5, 3),
        ({"encoder_layers": 5}, 5, 3),
        ({"decoder.layers": "x2"}, 4, 6),
        ({"encoder.layers": 9, "decoder.layers": 5}, 9, 5),
    ],
)
def test_a_size_means_every_stack_or_the_one_it_names(
    wanted: dict[str, Size], encoder: int, decoder: int
) -> None:
    plan = small().plan(wanted)
    assert plan.target.of("encoder_layers") == encoder
    assert plan.target.of("decoder_layers") == decoder
    made = F.config_of(FAMILY, small().json(plan))
    assert (made.num_layers, made.num_decoder_layers) == (encoder, decoder)
    assert small().error(plan) < F.EXACT


def test_an_expansion_may_name_its_stack() -> None:
    plan = small().plan((LayerAddition("+1", "start", stack="decoder"), LayerAddition("+1")))
    assert [step.axis for step in plan.steps] == ["decoder_layers", "encoder_layers", "decoder_layers"]
    assert small().error(plan) < F.EXACT


def test_layers_of_the_encoder_leave_a_decoder_that_counted_on_them() -> None:
    """A config without `num_decoder_layers` means as many as the encoder has."""
    source = FAMILY.json(num_decoder_layers=None)
    del source["num_decoder_layers"]
    subject = F.subject(FAMILY, "", source)
    plan = subject.plan({"encoder.layers": 5})
    assert plan.config == {"num_layers": 5, "num_decoder_layers": 4}
    assert subject.error(plan) < F.EXACT


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"encoder.ffn": 51}, "'t5' config holds one ffn for all stacks; leave out the encoder"),
        ({"tower.layers": 9}, "tower is no stack of 't5', whose stacks are encoder, decoder"),
        ({"encoder.width": 9}, "encoder.width is no axis that grows"),
        ({"layers": 9, "encoder.layers": 9}, "layers is given for every stack, and for encoder alone"),
        ({"encoder.layers": 9, "encoder_layers": 8}, "encoder.layers is given twice, 9 and 8"),
    ],
)
def test_a_stack_that_is_not_there_is_refused(wanted: dict[str, Size], message: str) -> None:
    with pytest.raises(SizeError, match=message):
        small().plan(wanted)


def test_a_model_of_one_stack_has_no_others() -> None:
    llama = F.subject(F.FAMILIES["llama"])
    with pytest.raises(SizeError, match="encoder is no stack of 'llama', which has one stack"):
        llama.plan({"encoder.layers": 5})
    with pytest.raises(SizeError, match="encoder is no stack of 'llama'"):
        llama.plan((MlpExpansion(51, stack="encoder"),))
    with pytest.raises(SizeError, match=r"decoder\.layers is no axis of this model, which has no decoder"):
        small("T5EncoderModel").plan({"decoder.layers": 9})


# Relative positions


@pytest.mark.slow
@pytest.mark.parametrize("at", ["start", "even", "end"])
def test_the_position_bias_stays_at_layer_0(at: str) -> None:
    """It belongs to the stack: a layer put before layer 0 computes it with the old entries."""
    plan = small().plan({"layers": "+2"}, at=at)
    assert small().error(plan) < F.EXACT
    old, new = small().small.state_dict(), small().large(plan).state_dict()
    for stack in ("encoder", "decoder"):
        name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        assert torch.equal(old[name], new[name])
    assert sum("relative_attention_bias" in name for name in new) == 2


def test_new_heads_have_biases_of_their_own() -> None:
    plan = small().plan({"heads": 9})
    name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    old, new = small().small.state_dict()[name], small().large(plan).state_dict()[name]
    assert torch.equal(new[:, :6], old)
    assert new[:, 6:].all()


# The head


def apart(tied: bool, scaled: bool) -> F.Subject:
    """A model whose head's tensor is the embedding, or one of its own, and whose class scales its input."""
    source = FAMILY.json(tie_word_embeddings=scaled)
    assert source["scale_decoder_outputs"] == scaled
    found = F.subject(FAMILY, "", source, spread=0.1)
    if tied:
        return found
    state = dict(found.small.state_dict())
    state["lm_head.weight"] = torch.randn(state["lm_head.weight"].shape, dtype=torch.float64)
    small = F.build(F.class_of(found.kind), F.config_of(FAMILY, source), state)
    assert not torch.equal(small.state_dict()["lm_head.weight"], small.state_dict()["shared.weight"])
    return F.Subject(FAMILY, found.kind, source, small, found.anatomy)


@pytest.mark.parametrize(
    "steps", [(HeadAddition("x2"), HiddenExpansion("x2")), (HiddenExpansion("x2"), HeadAddition("x2"))]
)
def test_copies_of_an_encoders_last_norm_are_read(steps: tuple[Any, ...]) -> None:
    """Only the decoder's last norm is before the tied head, so only there the copies' gain is 0."""
    subject = F.subject(F.FAMILIES["mbart"])
    plan = subject.plan(steps)  # refused where nothing would ever read them
    assert subject.error(plan) < F.EXACT
    (wider,) = (step for step in plan.steps if step.axis == "hidden")
    gains = {stack: wider.rewrites[f"{stack}.final_norm"]["copy1"] for stack in ("encoder", "decoder")}
    assert gains == {"encoder": Old(), "decoder": Constant(0.0)}


@pytest.mark.slow
def test_a_tied_head_scales_its_input() -> None:
    """h^-½: the final norm's gain makes up for it, and for what growing does to the norm; here both are √."""
    subject = apart(tied=True, scaled=True)
    plan = subject.plan({"hidden": 35})
    assert subject.error(plan) < F.EXACT
    (step,) = (step for step in plan.steps if step.axis == "hidden")
    entry = step.entry("decoder.final_norm", "old")
    assert isinstance(entry, Old) and abs(entry.a - 1.0) < 1e-15
    encoder = step.entry("encoder.final_norm", "old")
    assert isinstance(encoder, Old) and abs(encoder.a - (26 / 35) ** 0.5) < 1e-15


@pytest.mark.slow
def test_a_head_of_its_own_is_not_scaled() -> None:
    subject = apart(tied=False, scaled=False)
    plan = subject.plan(FAMILY.together)
    assert subject.error(plan) < F.EXACT
    large = subject.large(plan).state_dict()
    assert not torch.equal(large["lm_head.weight"], large["shared.weight"])


def test_a_head_whose_multiplier_is_forgotten_is_refused_and_breaks() -> None:
    subject = apart(tied=True, scaled=True)
    plan = subject.plan({"hidden": 35})

    def other(step: Any, label: str, entry: Any) -> Any:
        return Old((26 / 35) ** 0.5) if label == "old" else entry

    wrong = changed(plan, ("decoder.final_norm",), other)
    assert subject.error(wrong) > F.BROKEN
    with pytest.raises(LawError, match="must scale the gains of a norm over hidden"):
        check(subject.anatomy, wrong)
    wrong = changed(plan, ("encoder.final_norm",), unscaled)
    assert subject.error(wrong) > F.BROKEN
    with pytest.raises(LawError, match="must scale the gains of a norm over hidden"):
        check(subject.anatomy, wrong)


def test_a_head_apart_from_a_config_that_ties_it_is_refused() -> None:
    subject = apart(tied=False, scaled=True)
    with pytest.raises(CheckpointError, match="lm_head.weight and shared.weight differ"):
        subject.error(subject.plan({"ffn": 51}))


def test_another_embedding_for_the_decoder_is_refused() -> None:
    """The class has one for both, and would quietly take one of the two."""
    state = dict(small().small.state_dict())
    state["decoder.embed_tokens.weight"] = state["shared.weight"] + 1.0
    with pytest.raises(CheckpointError, match="the model has one tensor for both"):
        F.grown_state(state, small().anatomy, small().plan({"ffn": 51}))


# The whole proof


# What decodes and generates, what decodes alone, and what does neither; the rest are heads on these.
PROVEN = ("T5ForConditionalGeneration", "T5Model", "T5EncoderModel")


@pytest.mark.slow
@pytest.mark.parametrize("kind", swept(FAMILY.classes, lambda kind: kind in PROVEN))
def test_on_disk_and_verified(kind: str, tmp_path: Path) -> None:
    """Every class: loaded whole, and proven with its cache, with padding, and by generating."""
    subject = small(kind)
    source: Any = subject.small.float()
    source.save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **FAMILY.together)
    checkpoints.loaded(tmp_path / "large", kind)
    report = isogrow.verify(tmp_path / "small", tmp_path / "large")
    assert report.passed, report.failed
    decodes = kind in ("T5ForConditionalGeneration", "T5Model")
    passed = {check.name: check.passed for check in report.checks}
    assert passed["kv cache"] is (True if decodes else None)
    assert passed["generate"] is (True if kind == "T5ForConditionalGeneration" else None)
    small.cache_clear()


@pytest.mark.slow
def test_a_class_that_can_not_generate_any_more_fails(tmp_path: Path) -> None:
    """transformers makes the cache of a decoder with as many layers as the encoder has."""
    source: Any = F.subject(FAMILY, spread=0.1).small.float()
    large = isogrow.grow(source, **{"decoder.layers": 5})
    report = isogrow.verify(source, large, liveness=False)
    assert [check.name for check in report.failed] == ["generate"]
    assert isogrow.verify(large, isogrow.grow(large, ffn=51), liveness=False).passed


@pytest.mark.parametrize("said", [{"tie_word_embeddings": False}, {"tie_word_embeddings": True}, {}], ids=str)
def test_a_umt5_whose_config_says_untied_scales_no_head(said: F.Json, tmp_path: Path) -> None:
    """Its class ties the head in any case, and scales what it reads unless the config says untied
    (transformers 5.24)."""
    family = F.FAMILIES["umt5"]
    source = {
        key: value
        for key, value in family.json().items()
        if key not in ("tie_word_embeddings", "scale_decoder_outputs")
    }
    subject = F.subject(family, "", {**source, **said}, spread=0.1)
    made = subject.plan({"hidden": 35})
    assert subject.error(made) < F.EXACT
    model: Any = subject.small
    assert model.config.scale_decoder_outputs == said.get("tie_word_embeddings", True)
    model.float().save_pretrained(tmp_path)  # its config.json says tied, and whether it scales
    again = F.subject(family, "", json.loads((tmp_path / "config.json").read_text()), spread=0.1)
    assert again.error(again.plan({"hidden": 35})) < F.EXACT


@pytest.mark.slow
def test_version_1_1_on_disk(tmp_path: Path) -> None:
    """Its config says that the head is not tied, and its file holds it; transformers keeps them apart."""
    subject = apart(tied=False, scaled=False)
    source: Any = subject.small.float()
    source.save_pretrained(tmp_path / "small")
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    config["tie_word_embeddings"] = False
    del config["scale_decoder_outputs"]
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", hidden=35, layers="+1")
    large = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "large")
    assert not torch.equal(large.lm_head.weight, large.shared.weight)
    report = isogrow.verify(tmp_path / "small", tmp_path / "large")
    assert report.passed, report.failed


def test_stacks_apart_on_the_command_line(tmp_path: Path) -> None:
    source: Any = F.subject(FAMILY, spread=0.1).small.float()
    source.save_pretrained(tmp_path / "small")
    told = command.isogrow("plan", tmp_path / "small", "--size", "encoder.layers=5", "--json")
    steps = [(step["axis"], step["old"], step["new"]) for step in told.json["steps"]]
    assert steps == [("encoder_layers", 4, 5)]
    told = command.isogrow("inspect", tmp_path / "small", "--json")
    axes = {each["axis"]: each["now"] for each in told.json["axes"]}
    assert (axes["encoder.layers"], axes["decoder.layers"]) == (4, 3)
    assert "layers" not in axes
