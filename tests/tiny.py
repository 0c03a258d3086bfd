"""Tiny random Hugging Face models, their sizes pairwise distinct, and changes that keep them.

Every weight is random (gains and biases too), drawn from a generator of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn

VOCAB, HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, POSITIONS = 53, 24, 44, 3, 4, 2, 10, 32

GATED = dict(
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    intermediate_size=FFN,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    num_key_value_heads=KV_HEADS,
    head_dim=HEAD_DIM,
    max_position_embeddings=POSITIONS,
    bos_token_id=None,
    eos_token_id=None,
)


def llama(**changes: Any) -> transformers.LlamaConfig:
    return transformers.LlamaConfig(**(GATED | changes))


def qwen3(**changes: Any) -> transformers.Qwen3Config:
    return transformers.Qwen3Config(**(GATED | {"tie_word_embeddings": False} | changes))


def gpt2(**changes: Any) -> transformers.GPT2Config:
    sizes = dict(
        vocab_size=VOCAB,
        n_embd=HIDDEN,
        n_inner=FFN,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=POSITIONS,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.GPT2Config(**(sizes | changes))


def bert(**changes: Any) -> transformers.BertConfig:
    sizes = dict(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=POSITIONS,
        num_labels=5,
    )
    return transformers.BertConfig(**(sizes | changes))


CONFIGS: dict[str, Any] = {
    "LlamaForCausalLM": llama,
    "LlamaModel": llama,
    "Qwen3ForCausalLM": qwen3,
    "GPT2LMHeadModel": gpt2,
    "GPT2Model": gpt2,
    "BertForMaskedLM": bert,
    "BertModel": bert,
    "BertForSequenceClassification": bert,
    "BertForTokenClassification": bert,
}
DECODERS = [name for name in CONFIGS if not name.startswith("Bert")]
HEADLESS = ("LlamaModel", "GPT2Model", "BertModel")


def model(name: str, seed: int = 0, **changes: Any) -> transformers.PreTrainedModel:
    """A float32 model of this class in eval mode, its weights drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        made = getattr(transformers, name)(CONFIGS[name](**changes))
    randomize_(made, seed)
    return made.eval()


def randomize_(made: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in made.named_parameters():
            gain = value.ndim == 1 and name.endswith("weight")
            noise = torch.randn(value.shape, generator=generator)
            value.copy_((1.0 if gain else 0.0) + 0.3 * noise)


# Where the hidden axis lies in each stored weight, by the end of its name.
HIDDEN_DIMS: dict[str, Mapping[str, int]] = {
    "gated": {
        "embed_tokens.weight": 1,
        **{f"{name}_proj.weight": 1 for name in ("q", "k", "v", "gate", "up")},
        **{f"{name}_proj.weight": 0 for name in ("o", "down")},
        "lm_head.weight": 1,
    },
    "gpt2": {
        **{f"{name}.weight": 1 for name in ("wte", "wpe", "attn.c_proj", "mlp.c_proj", "lm_head")},
        **{f"{name}.weight": 0 for name in ("c_attn", "c_fc", "ln_1", "ln_2", "ln_f")},
        **{f"{name}.bias": 0 for name in ("c_proj", "ln_1", "ln_2", "ln_f")},
    },
    "bert": {
        **{f"{name}_embeddings.weight": 1 for name in ("word", "position", "token_type")},
        **{f"self.{name}.weight": 1 for name in ("query", "key", "value")},
        **{f"output.dense.{name}": 0 for name in ("weight", "bias")},
        **{f"LayerNorm.{name}": 0 for name in ("weight", "bias")},
        "intermediate.dense.weight": 1,
        "transform.dense.bias": 0,
        "cls.predictions.decoder.weight": 1,
    },
}


BOTH_HIDDEN = "predictions.transform.dense.weight"


def turned(weights: Mapping[str, Tensor], dims: Mapping[str, int], turn: Tensor) -> dict[str, Any]:
    """The weights with the hidden axis multiplied by `turn`, an orthogonal (hidden, hidden)."""

    def one(name: str, value: Tensor) -> Tensor:
        if name.endswith(BOTH_HIDDEN):
            return turn.T @ value.double() @ turn
        ends = [dim for end, dim in dims.items() if f".{name}".endswith(f".{end}")]
        if not ends:
            return value
        return (value.double().movedim(ends[0], -1) @ turn).movedim(-1, ends[0]).contiguous()

    return {name: one(name, value) for name, value in weights.items()}


WIDE = 32  # of a hand-grown hidden axis
LAST = 1  # where the hand-added layer goes: before the old layer of this number


def grown_llama(
    small: transformers.PreTrainedModel,
) -> tuple[transformers.PreTrainedModel, Tensor, dict[str, str]]:
    """A float64 LlamaForCausalLM grown by hand in hidden and layers.

    Returned with the old channels, scattered over the new hidden axis, and with the counterpart of
    each of the small model's layers, of its embedding, norm and head.
    """
    generator = torch.Generator().manual_seed(5)
    channels = torch.randperm(WIDE, generator=generator)[:HIDDEN]
    ratio = HIDDEN / WIDE
    config = llama(
        hidden_size=WIDE,
        num_hidden_layers=LAYERS + 1,
        rms_norm_eps=small.config.rms_norm_eps * ratio,
        attn_implementation="eager",
    )
    large = model("LlamaForCausalLM", seed=6, **config.to_diff_dict()).double()
    layers = [f"model.layers.{at}" for at in range(LAYERS)]
    moved = [f"model.layers.{at + (at >= LAST)}" for at in range(LAYERS)]
    names = dict(zip(layers, moved, strict=True))
    values = large.state_dict()
    with torch.no_grad():
        for end in ("o_proj", "down_proj"):
            for at in range(LAYERS + 1):
                block = "self_attn" if end == "o_proj" else "mlp"
                values[f"model.layers.{at}.{block}.{end}.weight"].zero_()
        values["model.embed_tokens.weight"].zero_()
        for name, old in small.state_dict().items():
            layer = ".".join(name.split(".")[:3])
            new = values[name.replace(layer, names.get(layer, layer))]
            if name.endswith("norm.weight"):
                new[channels] = old.double() * ratio**0.5
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                new[channels] = old.double()
            else:
                new[:, channels] = old.double()
    kept = {name: name for name in ("model.embed_tokens", "model.norm", "lm_head")}
    return large, channels, {"model.embed_tokens": "model.embed_tokens"} | names | kept
