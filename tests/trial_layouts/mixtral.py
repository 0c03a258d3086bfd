"""Mixtral: experts one by one on disk (w1, w3, w2), stacked and with gate and up fused in memory."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
L = "layers.{layers}."
A = L + "self_attn."
DISK = L + "block_sparse_moe."
W = DISK + "experts.{experts}."

WEIGHTS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
    Weight(A + "q_proj.weight", "(kv_heads group key_dim) <- hidden", "attn.q"),
    Weight(A + "k_proj.weight", "(kv_heads key_dim) <- hidden", "attn.k"),
    Weight(A + "v_proj.weight", "(kv_heads value_dim) <- hidden", "attn.v"),
    Weight(A + "o_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o"),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE),
    Weight(DISK + "gate.weight", "experts <- hidden", "router", required=False),
    Weight(W + "w1.weight", "ffn <- hidden", "experts.gate", required=False),
    Weight(W + "w3.weight", "ffn <- hidden", "experts.up", required=False),
    Weight(W + "w2.weight", "hidden <- ffn", "experts.down", required=False),
    Weight(L + "mlp.gate.weight", "experts <- hidden", "router", required=False),
    Weight(
        L + "mlp.experts.gate_up_proj",
        "{experts} (gate: ffn + up: ffn) <- hidden",
        "experts.*",
        required=False,
    ),
    Weight(L + "mlp.experts.down_proj", "{experts} hidden <- ffn", "experts.down", required=False),
    Weight("norm.weight", "* hidden", "final_norm", PRE),
    Weight("lm_head.weight", "vocab <- hidden", "head", required=False, head=True, tied="embed"),
    Weight("score.weight", "labels <- hidden", "score", required=False, head=True),
    Weight("score.bias", "-> labels", "score.bias", required=False, head=True),
    Weight("qa_outputs.weight", "labels <- hidden", "span", required=False, head=True),
    Weight("qa_outputs.bias", "-> labels", "span.bias", required=False, head=True),
)

WHEN = dict.fromkeys(("router", "experts.*", "experts.gate", "experts.up", "experts.down"), "True")

LAYOUT = Layout(
    family="mixtral",
    model_types=("mixtral",),
    weights=WEIGHTS,
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "experts": "num_local_experts",
        "kv_heads": "num_key_value_heads",
        "group": "num_attention_heads // num_key_value_heads",
        "key_dim": "head_dim",
        "value_dim": "head_dim",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=32000),
        Key("hidden_size", "hidden", 4096),
        Key("intermediate_size", "ffn", 14336),
        Key("num_local_experts", "experts", 8),
        Key("num_hidden_layers", "layers", 32),
        Key("num_attention_heads", "kv_heads * group", 32),
        Key("num_key_value_heads", "kv_heads", 8),
        Key("head_dim", "key_dim", "hidden_size // num_attention_heads"),
        Key("rms_norm_eps", default=1e-5),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("model.", ""),
    attentions=(Attention(rope=Rope(default=1e6)),),
    constraints=("key_dim == value_dim",),
    derived=(r"rotary_emb\.inv_freq$",),
    fixed=frozenset({"vocab", "positions", "experts"}),
)
