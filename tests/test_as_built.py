"""What somebody changed in a model since its class made it is carried over or refused, never lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
import transformers
from torch import nn

import isogrow
from isogrow.errors import CheckpointError

IDS = torch.arange(40).reshape(2, 20) % 60
Model = Any


def llama(**changes: Any) -> Model:
    return tiny.model("LlamaForCausalLM", **changes)


class Doubled(nn.Linear):
    """A layer with a forward of its own, whose tensors have the usual names."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def set_config(model: Model) -> None:
    model.config.rms_norm_eps = 0.01


def set_epsilon(model: Model) -> None:
    for part in model.modules():
        if hasattr(part, "variance_epsilon"):
            part.variance_epsilon = 0.01


def set_theta(model: Model) -> None:
    model.config.rope_parameters = {**model.config.rope_parameters, "rope_theta": 77.0}


def set_activation(model: Model) -> None:
    model.model.layers[1].mlp.act_fn = nn.GELU()


def set_scale(model: Model) -> None:
    model.model.layers[0].self_attn.scaling *= 0.5


def set_table(model: Model) -> None:
    model.model.rotary_emb.inv_freq *= 0.5


def set_class(model: Model) -> None:
    mlp = model.model.layers[0].mlp
    old, mlp.up_proj = mlp.up_proj, Doubled(mlp.up_proj.in_features, mlp.up_proj.out_features, bias=False)
    mlp.up_proj.load_state_dict(old.state_dict())


def set_forward(model: Model) -> None:
    mlp = model.model.layers[0].mlp
    forward = mlp.forward
    mlp.forward = lambda x: 2 * forward(x)


def add_part(model: Model) -> None:
    model.model.layers[0].mlp.after = nn.Tanh()


CHANGES: dict[Callable[[Model], None], str] = {
    set_config: "model.layers.0.input_layernorm.variance_epsilon is 1e-06, and 0.01 by the model's config",
    set_epsilon: "model.layers.0.input_layernorm.variance_epsilon is 0.01, and 1e-06 by the model's config",
    set_theta: "model.rotary_emb.inv_freq has other numbers than its class computes by the model's config",
    set_activation: "model.layers.1.mlp.act_fn is a GELU, and a SiLUActivation by the model's config",
    set_scale: r"model.layers.0.self_attn.scaling is 0\.\d+, and 0\.\d+ by the model's config",
    set_table: "by which it is grown and proven: save and load the model, or put them back",
    set_class: "model.layers.0.mlp.up_proj is a Doubled, and a Linear by the model's config",
    set_forward: "model.layers.0.mlp has a forward of its own",
    add_part: "model.layers.0.mlp.after is a Tanh, and not there by the model's config, by which it is",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_of_the_function_is_refused(change: Callable[[Model], None]) -> None:
    model = llama()
    change(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for grow in (isogrow.grow, isogrow.grow_):
        with pytest.raises(CheckpointError, match=CHANGES[change]):
            grow(model, ffn="x2")
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("in_place", [False, True], ids=["anew", "in place"])
def test_a_cast_model_keeps_its_tables(dtype: torch.dtype, in_place: bool) -> None:
    """`model.half()` casts the rotary table, which `from_pretrained(dtype=…)` does not."""
    model = llama().to(dtype).eval()
    with torch.no_grad():
        before = model(IDS).logits
        if in_place:
            isogrow.grow_(model, ffn="x2")
        grown = model if in_place else isogrow.grow(model, ffn="x2")
        assert grown.model.rotary_emb.inv_freq.dtype == dtype
        assert torch.equal(grown(IDS).logits, before)


def test_a_table_that_grows_has_the_dtype_of_the_old_one() -> None:
    grown: Model = isogrow.grow(llama().half(), head_dim="x2", heads="+0")
    assert grown.model.rotary_emb.inv_freq.dtype == torch.float16
    assert grown.model.rotary_emb.inv_freq.shape != llama().model.rotary_emb.inv_freq.shape


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning")  # its newer name
@pytest.mark.parametrize("in_place", [False, True], ids=["anew", "in place"])
def test_how_parts_are_trained_is_carried_over(in_place: bool) -> None:
    """By the layer that each comes from: a new layer is trained as the one that it extends."""
    model: Model = tiny.model("GPT2LMHeadModel").train()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    model.gradient_checkpointing_enable()
    first, second, _ = model.transformer.h
    first.eval()
    first.mlp.dropout.p, second.gradient_checkpointing = 0.25, False
    if in_place:
        isogrow.grow_(model, layers="+1", layers_at="start")
    grown: Model = model if in_place else isogrow.grow(model, layers="+1", layers_at="start")
    assert grown.training and [layer.training for layer in grown.transformer.h] == [False, False, True, True]
    assert [layer.mlp.dropout.p for layer in grown.transformer.h] == [0.25, 0.25, 0.0, 0.0]
    assert [layer.gradient_checkpointing for layer in grown.transformer.h] == [True, True, False, True]
    assert grown.transformer.drop.p == 0.0


@pytest.mark.parametrize("in_place", [False, True], ids=["anew", "in place"])
def test_what_tokens_mean_is_carried_over(in_place: bool) -> None:
    """A Trainer sets the tokenizer's padding in the config alone, and more tokens change no number of them
    that an inner part keeps."""
    model = llama().eval()
    model.resize_token_embeddings(61)
    model.config.pad_token_id = 7
    assert (model.model.padding_idx, model.model.vocab_size) == (None, 53), "as the class made them"
    with torch.no_grad():
        before = model(IDS).logits
        if in_place:
            isogrow.grow_(model, ffn="x2")
        grown: Model = model if in_place else isogrow.grow(model, ffn="x2")
        assert torch.equal(grown(IDS).logits, before)
    assert grown.model.padding_idx is None and grown.model.embed_tokens.padding_idx is None
    assert grown.config.pad_token_id == 7 and grown.model.embed_tokens.num_embeddings == 61


def test_another_position_of_the_first_token_is_carried_over() -> None:
    """RoBERTa counts positions from the token of padding, so the function is the old number's."""
    sizes = dict(vocab_size=50, hidden_size=24, intermediate_size=44, num_hidden_layers=2)
    config = transformers.RobertaConfig(**sizes, num_attention_heads=4, max_position_embeddings=40)
    model: Model = transformers.RobertaForMaskedLM(config).eval()
    was = model.roberta.embeddings.padding_idx
    model.config.pad_token_id = was + 2
    given = IDS[:, :9] % 40 + 7
    with torch.no_grad():
        grown: Model = isogrow.grow(model, ffn="x2")
        assert torch.equal(grown(given).logits, model(given).logits)
    assert grown.roberta.embeddings.padding_idx == was


def test_a_longer_sequence_changes_no_model() -> None:
    """A table that is computed anew for long inputs is no change of the model's."""
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = llama(rope_parameters=scaled, max_position_embeddings=16).eval()
    with torch.no_grad():
        model(IDS)
        assert model.model.rotary_emb.max_seq_len_cached > 16
        grown: Model = isogrow.grow(model, ffn="x2")
        assert torch.allclose(grown(IDS).logits, model(IDS).logits, atol=1e-5)


def test_a_proof_is_of_the_models_that_are_given() -> None:
    """A float64 model is made by the config as well, so that it could prove another function."""
    small = llama()
    large: Model = isogrow.grow(small, ffn="x2")
    assert isogrow.verify(small, large, liveness=False).passed
    set_scale(large)
    with pytest.raises(CheckpointError, match="self_attn.scaling is .*, by which it is grown and proven"):
        isogrow.verify(small, large, liveness=False)


def test_a_class_that_computes_its_table_in_its_dtype_keeps_it() -> None:
    """GPT-J's class computes its table in the model's dtype, and `from_pretrained`, which makes the grown
    one, does not (transformers 5.23 and 5.24: findings/gptj_rotates_otherwise_once_loaded.sh). The table is
    each attention's in 5.23, the model's in 5.24."""
    sizes = dict(vocab_size=50, n_embd=24, n_layer=1, n_head=2, rotary_dim=4, n_positions=64)
    config = transformers.GPTJConfig(**sizes, bos_token_id=None, eos_token_id=None)
    model: Model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    usual: Model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    (name,) = [name for name, _ in model.named_buffers() if name.endswith("embed_positions")]
    table = model.get_buffer(name)
    assert not torch.equal(table, usual.get_buffer(name).to(table.dtype))
    with torch.no_grad():
        grown: Model = isogrow.grow(model, ffn="x2")
        assert torch.equal(grown.get_buffer(name), table)
        assert torch.equal(grown(IDS[:, :10] % 50).logits, model(IDS[:, :10] % 50).logits)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_loss_of_ones_own_is_carried_over(in_place: bool) -> None:
    model: Any = tiny.model("LlamaForCausalLM")
    own = model.loss_function = lambda **_: torch.zeros(())
    if in_place:
        isogrow.grow_(model, ffn="x2")
    large: Any = model if in_place else isogrow.grow(model, ffn="x2")
    assert large.loss_function is own
