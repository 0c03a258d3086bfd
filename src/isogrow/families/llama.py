"""Llama, Mistral, Qwen2: RMSNorm before each branch, grouped-query attention with RoPE, gated MLP."""

from __future__ import annotations

from isogrow.families.edits import like
from isogrow.families.heads import LM, SCORE, SPAN
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, PerLayer, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
MAYBE = Bias(required=False)
L = "layers.{layers}."
A, M = L + "self_attn.", L + "mlp."

WEIGHTS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
    Weight(A + "q_proj.weight", "(kv_heads group key_dim) <- hidden", "attn.q", bias=MAYBE),
    Weight(A + "k_proj.weight", "(kv_heads key_dim) <- hidden", "attn.k", bias=MAYBE),
    Weight(A + "v_proj.weight", "(kv_heads value_dim) <- hidden", "attn.v", bias=MAYBE),
    Weight(A + "o_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o", bias=MAYBE),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE),
    Weight(M + "gate_proj.weight", "ffn <- hidden", "mlp.gate", bias=MAYBE),
    Weight(M + "up_proj.weight", "ffn <- hidden", "mlp.up", bias=MAYBE),
    Weight(M + "down_proj.weight", "hidden <- ffn", "mlp.down", bias=MAYBE),
    Weight("norm.weight", "* hidden", "final_norm", PRE),
    LM,
    SCORE,
    SPAN,
)
ATTENTION, MLP = "attn.q attn.k attn.v attn.o", "mlp.gate mlp.up mlp.down"

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

EQUAL = ("key_dim == value_dim",)
MISTRAL = like(
    LLAMA, "mistral", defaults={"intermediate_size": 14336, "num_key_value_heads": 8}, constraints=EQUAL
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

QWEN2 = like(
    LLAMA,
    "qwen2",
    defaults={"vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32},
    more=WINDOWS,
    constraints=EQUAL,
    per_layer=(WINDOWED,),
)

LAYOUTS = (LLAMA, MISTRAL, QWEN2)
