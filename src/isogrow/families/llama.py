"""Llama, Mistral, Qwen2: RMSNorm before each branch, grouped-query attention with RoPE, gated MLP."""

from __future__ import annotations

from dataclasses import replace

from isogrow.layout import Attention, Key, Layout, Norm, PerLayer, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
L = "layers.{layers}."

WEIGHTS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
    Weight(L + "self_attn.q_proj.weight", "(kv_heads group key_dim) <- hidden", "attn.q"),
    Weight(L + "self_attn.q_proj.bias", "-> (kv_heads group key_dim)", "attn.q.bias", required=False),
    Weight(L + "self_attn.k_proj.weight", "(kv_heads key_dim) <- hidden", "attn.k"),
    Weight(L + "self_attn.k_proj.bias", "-> (kv_heads key_dim)", "attn.k.bias", required=False),
    Weight(L + "self_attn.v_proj.weight", "(kv_heads value_dim) <- hidden", "attn.v"),
    Weight(L + "self_attn.v_proj.bias", "-> (kv_heads value_dim)", "attn.v.bias", required=False),
    Weight(L + "self_attn.o_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o"),
    Weight(L + "self_attn.o_proj.bias", "-> hidden", "attn.o.bias", required=False),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE),
    Weight(L + "mlp.gate_proj.weight", "ffn <- hidden", "mlp.gate"),
    Weight(L + "mlp.gate_proj.bias", "-> ffn", "mlp.gate.bias", required=False),
    Weight(L + "mlp.up_proj.weight", "ffn <- hidden", "mlp.up"),
    Weight(L + "mlp.up_proj.bias", "-> ffn", "mlp.up.bias", required=False),
    Weight(L + "mlp.down_proj.weight", "hidden <- ffn", "mlp.down"),
    Weight(L + "mlp.down_proj.bias", "-> hidden", "mlp.down.bias", required=False),
    Weight("norm.weight", "* hidden", "final_norm", PRE),
    Weight("lm_head.weight", "vocab <- hidden", "head", required=False, head=True, tied="embed"),
    Weight("score.weight", "labels <- hidden", "score", required=False, head=True),
    Weight("score.bias", "-> labels", "score.bias", required=False, head=True),
    Weight("qa_outputs.weight", "labels <- hidden", "span", required=False, head=True),
    Weight("qa_outputs.bias", "-> labels", "span.bias", required=False, head=True),
)

AXES = {
    "vocab": "vocab_size",
    "hidden": "hidden_size",
    "ffn": "intermediate_size",
    "kv_heads": "num_key_value_heads",
    "group": "num_attention_heads // num_key_value_heads",
    "key_dim": "head_dim",
    "value_dim": "head_dim",
    "layers": "num_hidden_layers",
}

KEYS = (
    Key("vocab_size", default=32000),
    Key("hidden_size", "hidden", 4096),
    Key("intermediate_size", "ffn", 11008),
    Key("num_hidden_layers", "layers", 32),
    Key("num_attention_heads", "kv_heads * group", 32),
    Key("num_key_value_heads", "kv_heads", "num_attention_heads", null="num_attention_heads"),
    Key("head_dim", "key_dim", "hidden_size // num_attention_heads"),
    Key("rms_norm_eps", default=1e-6),
    Key("tie_word_embeddings", default=False),
)


def line(weights: tuple[Weight, ...], slot: str) -> int:
    """Where the line of a slot stands."""
    return next(i for i, weight in enumerate(weights) if weight.slot == slot)


def biased(weights: tuple[Weight, ...], when: str) -> tuple[Weight, ...]:
    """The same lines, whose biases are there if the config says so."""
    return tuple(
        replace(weight, required=True, when=when) if weight.slot.endswith(".bias") else weight
        for weight in weights
    )


def with_defaults(keys: tuple[Key, ...], **defaults: object) -> tuple[Key, ...]:
    """The same keys with another class's defaults; keys that the table lacks are added."""
    changed = tuple(replace(k, default=defaults.pop(k.name)) if k.name in defaults else k for k in keys)
    return (*changed, *(Key(name, default=default) for name, default in defaults.items()))


def without(keys: tuple[Key, ...], *names: str) -> tuple[Key, ...]:
    """The same keys but for those that a class does not have."""
    return tuple(key for key in keys if key.name not in names)


LLAMA = Layout(
    family="llama",
    model_types=("llama",),
    weights=WEIGHTS,
    axes=AXES,
    keys=KEYS,
    prefixes=("model.", "transformer.", ""),
    attentions=(Attention(rope=Rope()),),
    constraints=("key_dim == value_dim", "hidden % (kv_heads * group) == 0"),
    derived=(r"rotary_emb\.inv_freq$",),
)

MISTRAL = replace(
    LLAMA,
    family="mistral",
    model_types=("mistral",),
    keys=with_defaults(KEYS, intermediate_size=14336, num_key_value_heads=8),
    constraints=("key_dim == value_dim",),
)

WINDOWS = (
    Key("use_sliding_window", default=False),
    Key("sliding_window", default=4096, null=0),
    Key("max_window_layers", default=28),
)
WINDOWED = PerLayer(
    "layer_types",
    "'sliding_attention' if use_sliding_window and sliding_window and i >= max_window_layers"
    " else 'full_attention'",
)

QWEN2 = replace(
    LLAMA,
    family="qwen2",
    model_types=("qwen2",),
    keys=(
        *with_defaults(KEYS, vocab_size=151936, intermediate_size=22016, num_key_value_heads=32),
        *WINDOWS,
    ),
    constraints=("key_dim == value_dim",),
    per_layer=(WINDOWED,),
)

LAYOUTS = (LLAMA, MISTRAL, QWEN2)
