"""Phi-3: Llama with concatenated q, k, v and gate, up; partial rotary, LongRoPE."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
L = "layers.{layers}."
QKV = "(q: kv_heads group key_dim + k: kv_heads key_dim + v: kv_heads value_dim)"

WEIGHTS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
    Weight(L + "self_attn.qkv_proj.weight", f"{QKV} <- hidden", "attn.*"),
    Weight(L + "self_attn.o_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o"),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE),
    Weight(L + "mlp.gate_up_proj.weight", "(gate: ffn + up: ffn) <- hidden", "mlp.*"),
    Weight(L + "mlp.down_proj.weight", "hidden <- ffn", "mlp.down"),
    Weight("norm.weight", "* hidden", "final_norm", PRE),
    Weight("lm_head.weight", "vocab <- hidden", "head", required=False, head=True, tied="embed"),
    Weight("score.weight", "labels <- hidden", "score", required=False, head=True),
    Weight("score.bias", "-> labels", "score.bias", required=False, head=True),
)

WHEN: dict[str, str] = {}

LAYOUT = Layout(
    family="phi3",
    model_types=("phi3",),
    weights=WEIGHTS,
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "kv_heads": "num_key_value_heads",
        "group": "num_attention_heads // num_key_value_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=32064),
        Key("hidden_size", "hidden", 3072),
        Key("intermediate_size", "ffn", 8192),
        Key("num_hidden_layers", "layers", 32),
        Key("num_attention_heads", "kv_heads * group", 32),
        Key("num_key_value_heads", "kv_heads", "num_attention_heads"),
        Key("rms_norm_eps", default=1e-5),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("model.", ""),
    attentions=(Attention(rope=Rope()),),
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
    derived=(r"rotary_emb\.inv_freq$",),
)
