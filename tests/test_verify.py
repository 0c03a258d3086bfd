"""`isogrow.verify`: it passes on what grow makes, and every one of its checks can fail."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMultipleChoice,
    BertForPreTraining,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mamba2Config,
    Mamba2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.mamba2 import modeling_mamba2 as mamba2

import isogrow
from isogrow.cli.tables import checks
from isogrow.errors import CheckpointError, LawError
from isogrow.paper import Config, HeadConfig, LayerConfig, Transformer, init_
from isogrow.verification import inputs, learning, sounds
from isogrow.verification.float64 import rebuilt
from isogrow.verification.memory import available, parameters, shortage
from isogrow.verification.pair import pair
from isogrow.verification.report import Check, Report
from isogrow.verification.stored import proof, weights_

VOCAB = 61


def llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=24,
        intermediate_size=34,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        attention_bias=True,
    )
    return filled(LlamaForCausalLM(config))


def gpt2() -> GPT2LMHeadModel:
    return filled(
        GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=20, n_layer=3, n_head=4, n_positions=26))
    )


def bert() -> BertModel:
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=18,
        intermediate_size=28,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=26,
    )
    return filled(BertModel(config))


def sighted(vocab: int) -> Any:
    """A Llava."""
    text = dict(model_type="llama", vocab_size=vocab, hidden_size=24, intermediate_size=36)
    vision = dict(model_type="clip_vision_model", hidden_size=16, intermediate_size=24, num_hidden_layers=3)
    config = LlavaConfig(
        text_config=text | dict(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2),
        vision_config=vision | dict(num_attention_heads=2, image_size=16, patch_size=8, projection_dim=16),
        image_token_index=vocab - 2,
        image_seq_length=4,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    return filled(LlavaForConditionalGeneration(config))


def filled(model: Any) -> Any:
    """Trained-like weights: gains around 1, nothing zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15 + float(gain))
    return model.eval()


def named(report: Report) -> dict[str, Check]:
    return {check.name: check for check in report.checks}


GROWTHS: list[tuple[Callable[[], Any], dict[str, Any]]] = [
    (llama, {"hidden": 30, "ffn": 40, "heads": 6, "kv_heads": 3, "head_dim": 14, "layers": "+2"}),
    (gpt2, {"hidden": 30, "heads": 6, "ffn": 90, "layers": "+1"}),
    (bert, {"hidden": "x2", "heads": "x2", "ffn": 31}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "sizes"), GROWTHS, ids=["llama", "gpt2", "bert"])
def test_passes_on_what_grow_makes(make: Callable[[], Any], sizes: dict[str, Any]) -> None:
    small = make()
    report = isogrow.verify(small, isogrow.grow(small, **sizes))
    assert report.passed, report.failed
    assert named(report)["float64"].value is not None
    assert named(report)["liveness"].value == 1.0
    skipped = {check.name for check in report.skipped}
    assert skipped == ({"kv cache", "generate"} if make is bert else set())


@pytest.mark.slow
def test_another_dtype_is_held_against_its_own_rounding() -> None:
    small = llama()
    large = isogrow.grow(small, ffn="+7", hidden=28).to(torch.bfloat16)
    plan = isogrow.plan_of(large)
    report = isogrow.verify(small, large, plan=plan)
    assert report.passed, report.failed


@pytest.mark.slow
def test_a_report_reads_as_the_verb_s_table() -> None:
    report = isogrow.verify(llama(), isogrow.grow(llama(), ffn="+7"), liveness=False)
    shown = [" ".join(line.split()) for line in str(report).splitlines()]
    assert shown[0] == "check value limit" and len(shown) == 1 + len(report.checks)
    assert next(line for line in shown if " float64 " in line).startswith("✓ float64 ")
    console = Console(file=StringIO(), width=200)
    console.print(checks.report(report.to_dict()))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    for line in str(report).splitlines():
        assert " ".join(line.split()) in " ".join(told.split())
    failed = dataclasses.replace(report, checks=(Check("float64", False, 0.5, 1e-12, "logits"),))
    assert "✗  float64    0.5  1e-12  logits" in str(failed)


@pytest.mark.slow
def test_every_check_is_reported_as_data() -> None:
    small = gpt2()
    report = isogrow.verify(small, isogrow.grow(small, ffn="+7"))
    found = json.loads(json.dumps(report.to_dict()))
    assert [check["name"] for check in found["checks"]] == [
        "config",
        "weights",
        "float64",
        "own dtype",
        "kv cache",
        "padding left",
        "padding right",
        "generate",
        "reload",
        "liveness",
        "distinct",
    ]
    assert found["passed"] is True
    assert found["figures"]["new_channels"]["new"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_nudged_weight_fails_and_the_layer_is_named(layer: int) -> None:
    small = llama()
    large = isogrow.grow(small, ffn="+6", hidden=28)
    with torch.no_grad():
        large.model.layers[layer].mlp.up_proj.weight[5, 7] += 1e-2
    report = isogrow.verify(small, large)
    assert not report.passed
    (failed,) = report.failed
    assert failed.name == "weights"
    assert f"model.layers.{layer}.mlp.up_proj.weight" in failed.detail
    assert failed.detail.endswith(f"first difference in model.layers.{layer}")


def test_a_nudged_weight_of_a_new_layer_is_found_there() -> None:
    small = llama()
    large = isogrow.grow(small, layers="+2", layers_at=(1, 3))
    for new in (1, 4):
        switch = large.model.layers[new].mlp.down_proj.weight
        with torch.no_grad():
            switch[5, 7] = 1e-2
        (failed,) = isogrow.verify(small, large).failed
        assert failed.detail.endswith(f"first difference in model.layers.{new}")
        with torch.no_grad():
            switch[5, 7] = 0


@pytest.mark.slow
def test_a_nudged_row_of_an_embedding_is_found_whichever_it_is() -> None:
    """The last position is in no small batch, and a small batch does not hold every token."""
    small = bert()
    large = isogrow.grow(small, ffn="+6")
    embeddings = large.embeddings
    for name, row in (("position", 25), *(("word", row) for row in range(0, VOCAB, 20))):
        weight = getattr(embeddings, f"{name}_embeddings").weight
        with torch.no_grad():
            weight[row, 3] += 1e-2
        (failed,) = isogrow.verify(small, large).failed
        assert failed.detail.endswith(f"first difference in embeddings.{name}_embeddings")
        with torch.no_grad():
            weight.copy_(getattr(small.embeddings, f"{name}_embeddings").weight)


def test_a_nudged_weight_that_no_output_depends_on_is_said_to_be_one() -> None:
    """Without rotary positions a key bias shifts each softmax by a constant."""
    small = bert()
    large = isogrow.grow(small, ffn="+6")
    with torch.no_grad():
        large.encoder.layer[1].attention.self.key.bias[4] += 1e-2
    (failed,) = isogrow.verify(small, large).failed
    assert failed.detail.startswith("first of 1 that differ: encoder.layer.1.attention.self.key.bias")
    assert failed.detail.endswith("no layer's output depends on it")


def test_rows_of_one_token_have_no_room_for_padding() -> None:
    small = filled(
        GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=20, n_layer=1, n_head=4, n_positions=1))
    )
    report = isogrow.verify(small, isogrow.grow(small, ffn="+6"))
    assert report.passed, report.failed
    assert named(report)["padding"].detail == "a row has room for one token"


def test_one_ulp_in_one_old_weight_fails() -> None:
    small = gpt2()
    large = isogrow.grow(small, ffn="+6")
    with torch.no_grad():
        entry = large.transformer.h[2].mlp.c_fc.weight[3, 5]
        entry.copy_(torch.nextafter(entry, torch.tensor(9.0)))
    (failed,) = isogrow.verify(small, large).failed
    assert (failed.name, failed.value) == ("weights", 1.0)


def test_weights_are_compared_under_the_model_s_own_names_whatever_the_layout_calls_them() -> None:
    small = gpt2()
    large = isogrow.grow(small, ffn="+6")
    both = pair(small, large)
    called = tuple(dataclasses.replace(each, name=f"other.{each.name}") for each in both.after.stored)
    other = dataclasses.replace(both, after=dataclasses.replace(both.after, stored=called))
    exact = proof(other, rebuilt(small))
    assert weights_(other, exact).passed
    with torch.no_grad():
        large.transformer.h[1].mlp.c_fc.weight[3, 5] += 1e-3
    assert weights_(other, exact).value == 1.0


def test_a_wrong_config_fails_the_float64_comparison() -> None:
    """The weights are right and the function is not: ε was left at its old value."""
    small = filled(LlamaForCausalLM(LlamaConfig(**{**llama().config.to_dict(), "rms_norm_eps": 1e-2})))
    large = isogrow.grow(small, hidden=28)
    wrong = LlamaForCausalLM(LlamaConfig(**{**large.config.to_dict(), "rms_norm_eps": 1e-2}))
    wrong.load_state_dict(large.state_dict())
    plan = isogrow.plan_of(large)
    report = isogrow.verify(small, wrong, plan=plan)
    assert [check.name for check in report.failed] == ["config", "float64"]
    assert named(report)["float64"].detail == "first difference in model.layers.0"


def test_free_entries_may_be_the_users_own() -> None:
    small = gpt2()
    large = isogrow.grow(small, ffn="+6")
    with torch.no_grad():
        large.transformer.h[0].mlp.c_fc.weight[:, 80:].mul_(3.0)
    report = isogrow.verify(small, large)
    assert report.passed
    assert named(report)["weights"].detail.endswith("1 with free entries of their own")


@pytest.mark.slow
def test_exact_but_dead_fails() -> None:
    """New query and key channels both zero: nothing changes, and nothing ever will."""
    small = llama()
    large = isogrow.grow(small, head_dim=14)
    with torch.no_grad():
        for layer in large.model.layers:
            query, key = layer.self_attn.q_proj, layer.self_attn.k_proj
            query.weight.view(4, 2, 7, 24)[:, :, 5:] = 0
            query.bias.view(4, 2, 7)[:, :, 5:] = 0
            key.bias.view(2, 2, 7)[:, :, 5:] = 0
    report = isogrow.verify(small, large)
    assert {check.name for check in report.failed} == {"liveness", "distinct"}
    assert "key_dim channels of attn.q" in named(report)["liveness"].detail
    assert named(report)["distinct"].detail == "copies for ever: key_dim of layers 0 and 2 more"


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_behind_the_old_model_s_own_zeros_wakes_later(streamed: bool) -> None:
    """A layer that was just added writes nothing yet: new keys wait for that, and new queries for them."""
    small = _classifier("llama")
    mid = isogrow.grow(small, layers="+1")
    large = isogrow.grow(mid, head_dim=8)
    report = isogrow.verify(mid, large, streamed=streamed)
    assert report.passed, report.failed
    detail = named(report)["liveness"].detail
    assert "by step 3, behind zeros that the old model has itself" in detail
    with torch.no_grad():  # the new layer's queries and keys zero: nothing will ever change that
        large.model.layers[2].self_attn.q_proj.weight.view(4, 2, 4, 24)[:, :, 3:] = 0
    report = isogrow.verify(mid, large, streamed=streamed)
    assert {check.name for check in report.failed} == {"liveness", "distinct"}
    assert "no gradient: 8 of 24 key_dim channels of attn.q" in named(report)["liveness"].detail


def test_what_is_behind_more_zeros_than_are_looked_at_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    small = _classifier("llama")
    mid = isogrow.grow(small, layers="+1")
    large = isogrow.grow(mid, head_dim=8)
    monkeypatch.setattr(learning, "LATER", 0)
    assert [check.name for check in isogrow.verify(mid, large).failed] == ["liveness"]


@pytest.mark.slow
def test_copies_that_stay_copies_fail() -> None:
    small = gpt2()
    large = isogrow.grow(small, ffn="+6")
    with torch.no_grad():
        for layer in large.transformer.h:
            layer.mlp.c_fc.weight[:, 81] = layer.mlp.c_fc.weight[:, 82]
            layer.mlp.c_fc.bias[81] = layer.mlp.c_fc.bias[82]
    report = isogrow.verify(small, large)
    assert [check.name for check in report.failed] == ["distinct"]
    assert named(report)["distinct"].detail == "copies for ever: ffn of layers 0 and 2 more"


def reference() -> Transformer:
    """The paper's own model, with ReLUs."""
    small = Transformer(Config(19, 9, 10, 13, (LayerConfig(11, (HeadConfig(4, 6), HeadConfig(5, 7))),)))
    init_(small, torch.Generator().manual_seed(0))
    return small


def test_relus_that_no_token_switches_on_are_listed_apart() -> None:
    small = reference()
    large = isogrow.grow(small, ffn="+3")
    with torch.no_grad():
        large.layers[0].mlp.b1[-1] = -1e3
    report = isogrow.verify(small, large)
    assert report.passed, report.failed
    assert report.figures["new_channels"]["inactive"] == 3  # its row, its column, its bias
    assert "3 inactive" in named(report)["liveness"].detail


def test_new_units_that_are_all_switched_off_fail() -> None:
    """The old ones beside them are on, so it is no matter of the activation function."""
    small = reference()
    large = isogrow.grow(small, ffn="+7")
    with torch.no_grad():
        large.layers[0].mlp.b1[-6:] = -1e3
    check = named(isogrow.verify(small, large))["liveness"]
    assert check.passed is False
    assert "6 of 7 new ffn channels of mlp.up (of old ones 0 of 11)" in check.detail


@pytest.mark.slow
def test_relus_that_one_pass_switches_off_are_no_fault() -> None:
    """T5's are often silent on all but a few tokens, and come and go as the rest learns."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
        )
        small: Any = T5ForConditionalGeneration(config).eval()
        with torch.no_grad():
            for x in small.parameters():
                x.normal_(0, 0.1) if x.dim() > 1 else x.add_(0.2 * torch.randn_like(x))
    for seed in range(3):
        check = named(isogrow.verify(small, isogrow.grow(small, ffn="x4", seed=seed)))["liveness"]
        assert check.passed and "inactive" in check.detail, check


def test_models_that_do_not_belong_together_are_refused() -> None:
    small, other = llama(), gpt2()
    large = isogrow.grow(small, ffn="+6")
    with pytest.raises(LawError, match="the plan starts at .*, and the small model has"):
        isogrow.verify(other, large)
    with pytest.raises(LawError, match="no plan is known for this model"):
        isogrow.verify(small, llama())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "qwen3": ({"model_type": "qwen3"}, "the plan is for 'llama', the small model is 'qwen3'"),
    "biases": ({"attention_bias": True}, "small model has weights of its own for attn.k.bias, and the large"),
    "tied": ({"tie_word_embeddings": True}, "large model has weights of its own for head, and the small"),
    "no head": ({"head": False}, "large model has weights of its own for head, and the small"),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_another_model_of_the_same_sizes_is_refused(name: str, streamed: bool, tmp_path: Path) -> None:
    edits, said = WRONG[name]
    _alike("right").save_pretrained(tmp_path / "right")
    isogrow.grow_checkpoint(tmp_path / "right", tmp_path / "large", ffn="+3", layers="+1")
    _alike(**edits).save_pretrained(tmp_path / "wrong")
    with pytest.raises(LawError, match=said):
        isogrow.verify(tmp_path / "wrong", tmp_path / "large", streamed=streamed)
    isogrow.grow_checkpoint(tmp_path / "wrong", tmp_path / "other", ffn="+3", layers="+1")
    with pytest.raises(LawError, match="give the model that this one was grown from"):
        isogrow.verify(tmp_path / "right", tmp_path / "other", streamed=streamed)


def _alike(_: str = "", model_type: str = "llama", head: bool = True, **edits: Any) -> Any:
    sizes = {"hidden_size": 24, "intermediate_size": 34, "num_hidden_layers": 1, "num_attention_heads": 4}
    more: dict[str, Any] = {"num_key_value_heads": 4, "head_dim": 6, **edits}
    config = AutoConfig.for_model(model_type, vocab_size=VOCAB, **sizes, **more)
    return filled((AutoModelForCausalLM if head else AutoModel).from_config(config))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("edits", [{"num_attention_heads": 2}, {"vocab_size": VOCAB + 1}])
def test_a_config_that_does_not_fit_its_weights_is_refused(
    edits: dict[str, int], streamed: bool, tmp_path: Path
) -> None:
    _alike().save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", heads=8)
    path = tmp_path / "large" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **edits}))
    with pytest.raises(CheckpointError, match="the config and the weights do not belong together"):
        isogrow.verify(tmp_path / "small", tmp_path / "large", streamed=streamed)


@pytest.mark.parametrize(
    ("edits", "streamed", "said"),
    [
        ({"rms_norm_eps": None}, False, "TypeError: Field 'rms_norm_eps' expected float, got NoneType"),
        ({"rms_norm_eps": None}, True, "TypeError: Field 'rms_norm_eps' expected float, got NoneType"),
        ({"quantization_config": {}}, False, "ValueError: The model's quantization config"),
        ({}, False, "KeyError: 'metadata'"),
    ],
)
def test_what_transformers_does_not_load_is_refused(
    edits: dict[str, Any], streamed: bool, said: str, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    _alike().save_pretrained(small, **({} if edits else {"max_shard_size": "9KB"}))
    isogrow.grow_checkpoint(small, tmp_path / "large", ffn="+3")
    path = small / ("config.json" if edits else "model.safetensors.index.json")
    found = json.loads(path.read_text())
    found.pop("metadata", None)
    path.write_text(json.dumps({**found, **edits}))
    with pytest.raises(CheckpointError, match=f"transformers does not load small .{said}"):
        isogrow.verify(small, tmp_path / "large", streamed=streamed)


def test_a_folder_without_its_record_is_refused(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="isogrow.json is missing"):
        isogrow.verify(llama(), tmp_path)


def test_a_tower_that_nothing_runs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    small = sighted(101)
    large = isogrow.grow(small, **{"vision.ffn": "+6"})
    assert "towers" not in named(isogrow.verify(small, large, liveness=False))
    monkeypatch.setattr(sounds, "pictured", lambda *_: None)
    monkeypatch.setattr(inputs, "_RAN", type(inputs._RAN)())  # pyright: ignore
    found = named(isogrow.verify(small, large))
    assert (
        found["towers"].passed is None
        and "reaches vision.mlp.up and 2 more, which ran in neither" in found["towers"].detail
    )
    assert found["liveness"].detail == "what is new was run by nothing"


def test_nothing_compared_is_no_pass() -> None:
    assert not Report((Check("float64", None, detail="too large"),)).passed
    assert not Report(()).passed
    assert not Report((Check("float64", True), Check("reload", False))).passed
    assert Report((Check("float64", True), Check("kv cache", None))).passed


def test_too_large_for_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isogrow.verification.memory.available", lambda: 1000)
    small = gpt2()
    report = isogrow.verify(small, isogrow.grow(small, ffn="+6"))
    assert not report.passed
    assert "nothing was compared" in report.checks[0].detail


def test_what_memory_does_not_hold_is_not_even_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    gpt2().save_pretrained(small)
    isogrow.grow_checkpoint(small, large, ffn="+6")
    monkeypatch.setattr("isogrow.verification.pair", lambda *_: pytest.fail("they were loaded"))
    monkeypatch.setattr("isogrow.verification.memory.available", lambda: 1000)
    assert "nothing was compared" in isogrow.verify(small, large).checks[0].detail


def test_memory_is_asked_of_the_system() -> None:
    assert available() > 1 << 20
    assert shortage(10, 20) == ""
    assert "GB of memory in float64" in shortage(10, 10**15)
    model = gpt2()
    assert parameters(model) == sum(x.numel() for x in model.parameters())


@pytest.mark.slow
def test_neither_model_nor_random_state_is_touched() -> None:
    small = gpt2()
    large = isogrow.grow(small, ffn="+6")
    before = {name: x.clone() for name, x in large.state_dict().items()}
    state = torch.get_rng_state()
    isogrow.verify(small, large)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(x, before[name]) for name, x in large.state_dict().items())
    assert not any(isinstance(m, nn.Module) and m.training for m in large.modules())


# What a count over all heads or layers would hide


def spoilt(sizes: dict[str, int], spoil: Callable[[LlamaForCausalLM], None]) -> Report:
    """The report on a grown Llama of which one unit was spoilt."""
    small = llama()
    large = isogrow.grow(small, **sizes)
    assert isogrow.verify(small, large).passed
    with torch.no_grad():
        spoil(large)
    return isogrow.verify(small, large)


def twin_in_one_layer(large: LlamaForCausalLM) -> None:
    mlp = large.model.layers[1].mlp
    for projection in (mlp.gate_proj, mlp.up_proj):
        projection.weight[36] = projection.weight[35]


def dead_in_one_layer(large: LlamaForCausalLM) -> None:
    large.model.layers[1].mlp.gate_proj.weight[36] = 0  # what up writes is multiplied by 0, for ever


def twin_heads_in_one_group(large: LlamaForCausalLM) -> None:
    query = large.model.layers[0].self_attn.q_proj
    query.weight.view(2, 4, 10, 24)[1, 3] = query.weight.view(2, 4, 10, 24)[1, 2]
    query.bias.view(2, 4, 10)[1, 3] = query.bias.view(2, 4, 10)[1, 2]


def dead_in_one_head(large: LlamaForCausalLM) -> None:
    value = large.model.layers[0].self_attn.v_proj
    value.weight.view(2, 14, 24)[1, 12] = 0
    value.bias.view(2, 14)[1, 12] = 0


def unread_in_hidden(large: LlamaForCausalLM) -> None:
    for name, parameter in large.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight")) or (
            name.endswith(("up_proj.weight", "lm_head.weight"))
        ):
            parameter[:, 27] = 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "spoil", "failed", "said"),
    [
        ({"ffn": 40}, twin_in_one_layer, ["distinct"], "copies for ever: ffn of layers 1"),
        ({"ffn": 40}, dead_in_one_layer, ["liveness"], "no gradient: 1 of 18 ffn channels of mlp.gate"),
        ({"heads": 8}, twin_heads_in_one_group, ["distinct"], "copies for ever: group of layers 0"),
        (
            {"head_dim": 14},
            dead_in_one_head,
            ["liveness"],
            "no gradient: 1 of 24 value_dim channels of attn.v",
        ),
        ({"hidden": 28}, unread_in_hidden, ["liveness"], "no gradient: 1 of 4 hidden channels of embed"),
    ],
)
def test_one_unit_that_does_not_learn_fails(
    sizes: dict[str, int], spoil: Callable[[LlamaForCausalLM], None], failed: list[str], said: str
) -> None:
    report = spoilt(sizes, spoil)
    assert [check.name for check in report.failed] == failed
    assert named(report)[failed[0]].detail.startswith(said)


# Checkpoints and models that are not as plain as they could be


@pytest.mark.slow
def test_a_config_key_that_the_probe_does_not_reach_fails(tmp_path: Path) -> None:
    small = llama()
    small.save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", ffn="+3")
    path = tmp_path / "large" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_position_embeddings": 77}))
    report = isogrow.verify(tmp_path / "small", tmp_path / "large")
    assert [check.name for check in report.failed] == ["config"]
    assert named(report)["config"].detail == "max_position_embeddings is 77, expected 2048"


@pytest.mark.slow
def test_more_tensors_than_the_class_uses(tmp_path: Path) -> None:
    """bert-base-uncased names BertForMaskedLM, and holds a pooler and a head for next sentences too."""
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=18,
        intermediate_size=28,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=26,
    )
    filled(BertForPreTraining(config)).save_pretrained(tmp_path / "small")
    path = tmp_path / "small" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["BertForMaskedLM"]}))
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", hidden="x2", heads="x2")
    report = isogrow.verify(tmp_path / "small", tmp_path / "large")
    assert report.passed, report.failed
    assert (
        named(report)["unread"].detail
        == "4 tensors that BertForMaskedLM has under other names, or not at all"
    )
    weights = load_file(tmp_path / "large" / "model.safetensors")
    weights["cls.seq_relationship.weight"][1, 4] += 1e-2
    save_file(weights, tmp_path / "large" / "model.safetensors", metadata={"format": "pt"})
    (failed,) = isogrow.verify(tmp_path / "small", tmp_path / "large").failed
    assert (failed.name, failed.detail) == ("unread", "first of 1 that differ: cls.seq_relationship.weight")
    bare = {name.removeprefix("bert."): value for name, value in weights.items()}
    bare["pooler.dense.weight"][1, 4] += 1e-2
    save_file(bare, tmp_path / "large" / "model.safetensors", metadata={"format": "pt"})
    (failed,) = isogrow.verify(tmp_path / "small", tmp_path / "large").failed
    assert failed.value == 2.0  # under whatever names the two have them
    del bare["pooler.dense.weight"]
    save_file(bare, tmp_path / "large" / "model.safetensors", metadata={"format": "pt"})
    (failed,) = isogrow.verify(tmp_path / "small", tmp_path / "large").failed
    assert (failed.name, failed.detail) == ("unread", "pooler is not stored")


def test_a_class_that_compares_choices() -> None:
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=18,
        intermediate_size=28,
        num_hidden_layers=2,
        num_attention_heads=3,
        max_position_embeddings=26,
    )
    small = filled(BertForMultipleChoice(config))
    report = isogrow.verify(small, isogrow.grow(small, ffn="+3"))
    assert report.passed, report.failed


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_classifier_without_a_padding_token(kind: str, streamed: bool) -> None:
    """More token ids than a row has, so that every check runs several rows."""
    small = _classifier(kind)
    sizes: dict[str, Any] = {"heads": 8} if kind == "llama" else {}
    large = isogrow.grow(small, ffn="+3", layers="+1", **sizes)
    report = isogrow.verify(small, large, streamed=streamed)
    assert report.passed, report.failed
    checks = named(report)
    assert all(checks[f"padding {side}"].passed for side in ("left", "right"))
    assert streamed or checks["kv cache"].passed
    assert checks["liveness"].passed


@pytest.mark.parametrize("streamed", [False, True])
def test_a_nudged_weight_of_a_classifier_without_a_padding_token_fails(streamed: bool) -> None:
    small = _classifier("llama")
    large = isogrow.grow(small, ffn="+3")
    with torch.no_grad():
        large.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-2
    (failed,) = isogrow.verify(small, large, streamed=streamed).failed
    assert "model.layers.1" in failed.detail


def _classifier(kind: str) -> Any:
    sizes: dict[str, dict[str, Any]] = {
        "llama": {"hidden_size": 24, "intermediate_size": 34, "num_hidden_layers": 2},
        "gpt2": {"n_embd": 20, "n_layer": 2, "n_positions": 26},
    }
    made = AutoConfig.for_model(kind, vocab_size=VOCAB, num_labels=3, num_attention_heads=4, **sizes[kind])
    made.pad_token_id = None
    return filled(AutoModelForSequenceClassification.from_config(made))


@pytest.mark.slow
def test_attention_that_insists_on_float32() -> None:
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=20, n_layer=3, n_head=4, n_positions=26, reorder_and_upcast_attn=True
    )
    small = filled(GPT2LMHeadModel(config))
    report = isogrow.verify(small, isogrow.grow(small, ffn="+3", layers="+1"))
    assert report.passed, report.failed


@pytest.mark.slow
def test_a_cache_that_is_not_the_full_pass() -> None:
    """Long rows switch LongRoPE to other factors, so that the model's own cache is not its full pass."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 10}
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=24,
        intermediate_size=34,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=40,
        rope_parameters={**rope, "short_factor": [1.0] * 3, "long_factor": [2.0] * 3},
    )
    small = filled(LlamaForCausalLM(config))
    report = isogrow.verify(small, isogrow.grow(small, ffn="+3"))
    assert report.passed, report.failed
    assert named(report)["kv cache"].detail.startswith("step by step on both sides")


def recurrent() -> Any:
    config = Mamba2Config(
        vocab_size=VOCAB,
        hidden_size=24,
        num_heads=6,
        head_dim=8,
        n_groups=2,
        state_size=5,
        num_hidden_layers=2,
        chunk_size=8,
        **dict.fromkeys(("bos_token_id", "eos_token_id")),
    )
    return filled(Mamba2ForCausalLM(config))


@pytest.mark.slow
def test_a_cache_of_states_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mamba 2 calls its cache otherwise, and keeps no keys: what a grown model makes of it is seen."""
    small = recurrent()
    large = isogrow.grow(small, hidden=48, layers="+1")
    report = named(isogrow.verify(small, large, liveness=False))
    assert report["kv cache"].passed and report["generate"].passed
    mixer: Any = mamba2.Mamba2Mixer
    right = mixer.forward

    def wrong(self: Any, states: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        """Off in the grown model alone, and there in steps of one token."""
        off = states.shape[1:] == (1, 48)
        return right(self, states, *given, **named) * (1.5 if off else 1.0)

    monkeypatch.setattr(mixer, "forward", wrong)
    report = named(isogrow.verify(small, large, liveness=False))
    assert report["float64"].passed
    assert report["kv cache"].passed is False and report["generate"].passed is False


def test_a_model_that_is_not_finite_is_said() -> None:
    small = llama()
    with torch.no_grad():
        small.model.norm.weight[0] = float("nan")
    report = isogrow.verify(small, isogrow.grow(small, ffn="+3"))
    assert (
        named(report)["float64"].detail == "the small model's own outputs are not finite: correct its weights"
    )
    assert not report.passed


# Weights in another dtype than the config says

HALF, FULL = torch.bfloat16, torch.float32
DTYPES = {
    "narrower than the config": (HALF, HALF, "float32", "bfloat16"),
    "wider than the config": (FULL, FULL, "bfloat16", "bfloat16"),
    "norms wider than matrices": (HALF, FULL, "bfloat16", "bfloat16"),
    "float16 beside bfloat16": (HALF, torch.float16, "float16", "bfloat16"),
}


def stored_as(folder: Path, matrices: torch.dtype, norms: torch.dtype, said: str, tied: bool = False) -> Path:
    """A checkpoint whose files are not in the dtype that its config states."""
    model = llama()
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    model.save_pretrained(folder)
    weights = {
        name: x.to(norms if "norm" in name else matrices)
        for name, x in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": said}))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("matrices", "norms", "said", "runs"), DTYPES.values(), ids=DTYPES)
def test_what_is_compared_is_what_is_stored(
    tmp_path: Path, matrices: torch.dtype, norms: torch.dtype, said: str, runs: str, tied: bool
) -> None:
    small, large = stored_as(tmp_path / "small", matrices, norms, said, tied), tmp_path / "large"
    isogrow.grow_checkpoint(small, large, hidden=32, ffn=40)
    written = {name: x.dtype for name, x in load_file(large / "model.safetensors").items()}
    assert written == {name: x.dtype for name, x in load_file(small / "model.safetensors").items()}
    report = isogrow.verify(small, large)
    assert report.passed, report.failed
    assert report.figures["own_dtype"]["dtype"] == runs
    rounds = "loading rounds what is stored" in named(report)["own dtype"].detail
    assert rounds == (FULL in (matrices, norms) and said == "bfloat16" or said == "float16")


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_last_bit_that_loading_would_round_away_is_seen(tmp_path: Path, name: str) -> None:
    small, large = stored_as(tmp_path / "small", FULL, FULL, "bfloat16"), tmp_path / "large"
    isogrow.grow_checkpoint(small, large, hidden=32)
    weights = load_file(large / "model.safetensors")
    weights[name].view(-1)[0:1].view(torch.int32).add_(1)
    save_file(weights, large / "model.safetensors", {"format": "pt"})
    check = named(isogrow.verify(small, large))["weights"]
    assert check.passed is False and name in check.detail
