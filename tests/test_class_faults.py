"""A proof where a model's class fails, or takes other ids for padding than its config says."""

from __future__ import annotations

from pathlib import Path

import families as F
import pytest
from command import isogrow as command
from transformers import AutoConfig, AutoModelForCausalLM

import isogrow

pytestmark = pytest.mark.slow  # models are grown and proven


@pytest.mark.parametrize("name", ["mpnet", "prophetnet"])
def test_it_is_told_and_the_rest_is_proven(name: str, tmp_path: Path) -> None:
    """MPNet gives the id 1 no position, whatever the config's padding is, so rows of others are shorter;
    ProphetNet's decoder stops with an error where a cache is longer than what its encoder reads."""
    family = F.FAMILIES[name]
    F.subject(family, family.classes[0], spread=0.1).small.float().save_pretrained(tmp_path / "small")
    ran = command("grow", tmp_path / "small", tmp_path / "large", "--size", f"{family.alone}=x2", columns=200)
    assert ran.code == 0, ran.err
    said = " ".join(ran.out.split())
    why = (
        "the old model's class fails with its cache: ValueError" if name == "prophetnet" else "gives no cache"
    )
    assert why in said and "✗" not in said


def test_each_stack_may_know_tokens_of_its_own(tmp_path: Path) -> None:
    """T5Gemma's encoder and decoder each say how many: the proof takes those that both know."""
    family = F.FAMILIES["t5gemma"]
    F.subject(family, family.classes[0], spread=0.1).small.float().save_pretrained(tmp_path / "small")
    ran = command("grow", tmp_path / "small", tmp_path / "large", "--size", "decoder.ffn=x2", columns=200)
    assert ran.code == 0, ran.err
    assert f"all {F.VOCAB} token ids" in ran.out and "✗" not in ran.out


def test_layers_with_a_state_alone_are_proven() -> None:
    """A cache of states has no length to tell, which LFM2's class asks for, without a growth as after it."""
    sizes = dict(
        vocab_size=53, hidden_size=24, intermediate_size=40, num_attention_heads=2, num_key_value_heads=1
    )
    config = AutoConfig.for_model("lfm2", **sizes, num_hidden_layers=2, layer_types=["conv"] * 2)
    small = AutoModelForCausalLM.from_config(config)
    found = isogrow.verify(small, isogrow.grow(small, ffn="x2", layers="+1"))
    why = "the old model's class fails with its cache: ValueError"
    checks = {check.name: check for check in found.checks}
    assert found.passed and checks["float64"].passed and checks["padding left"].passed
    assert checks["kv cache"].passed is None and why in checks["kv cache"].detail
    assert (
        checks["generate"].passed is None
        and "the old model does not: ValueError" in checks["generate"].detail
    )


def test_a_cache_that_fails_after_the_growth_alone_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from isogrow.verification.checks import as_decoded

    fault = ValueError("no room")
    found = as_decoded(None, {}, {}, fault)  # type: ignore[arg-type]
    assert found.passed is False and "its class fails: ValueError: no room" in found.detail
    skipped = as_decoded(None, {}, fault, fault)  # type: ignore[arg-type]
    assert skipped.passed is None and "the old model's class fails with its cache" in skipped.detail


def test_a_decoder_deeper_than_its_encoder_does_not_generate_with_its_cache() -> None:
    """transformers 5.23 gives T5 a cache of as many layers as the encoder has: the sentence says what still
    works, and where both grow all does."""
    family = F.FAMILIES["t5"]
    small = F.subject(family, family.classes[0], spread=0.1).small.float()
    encoder, decoder = small.config.num_layers, small.config.num_decoder_layers
    deeper = isogrow.verify(small, isogrow.grow(small, **{"decoder.layers": max(encoder, decoder) + 1}))
    failed = {check.name: check.detail for check in deeper.failed}
    assert [*failed] == ["generate"]
    assert "its class fails: IndexError" in failed["generate"]
    assert failed["generate"].endswith("(with use_cache=False it gives the same tokens)")
    both = {"decoder.layers": decoder + 1, "encoder.layers": max(encoder, decoder + 1)}
    assert isogrow.verify(small, isogrow.grow(small, **both)).passed
