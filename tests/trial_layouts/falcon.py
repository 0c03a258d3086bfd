"""Falcon: one fused qkv line for grouped (new), multi-query and plain heads; ALiBi or RoPE."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_epsilon")
L = "h.{layers}."
A = L + "self_attention."
# Multi-query heads are one group, plain heads are groups of one: [q q q k v], and [q k v] per head.
QKV = "(kv_heads (q: group key_dim + k: key_dim + v: value_dim))"
KV_HEADS = "num_kv_heads if new_decoder_architecture else 1 if multi_query else num_attention_heads"

WEIGHTS = (
    Weight("word_embeddings.weight", "vocab -> hidden", "embed"),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE, required=False),
    Weight(L + "input_layernorm.bias", "-> hidden", "attn_norm.bias", PRE, required=False),
    Weight(L + "ln_attn.weight", "* hidden", "attn_norm", PRE, required=False),
    Weight(L + "ln_attn.bias", "-> hidden", "attn_norm.bias", PRE, required=False),
    Weight(A + "query_key_value.weight", f"{QKV} <- hidden", "attn.*"),
    Weight(A + "query_key_value.bias", f"-> {QKV}", "attn.*.bias", required=False),
    Weight(A + "dense.weight", "hidden <- (kv_heads group value_dim)", "attn.o"),
    Weight(A + "dense.bias", "-> hidden", "attn.o.bias", required=False),
    Weight(L + "ln_mlp.weight", "* hidden", "mlp_norm", PRE, required=False),
    Weight(L + "ln_mlp.bias", "-> hidden", "mlp_norm.bias", PRE, required=False),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE, required=False),
    Weight(L + "post_attention_layernorm.bias", "-> hidden", "mlp_norm.bias", PRE, required=False),
    Weight(L + "mlp.dense_h_to_4h.weight", "ffn <- hidden", "mlp.up"),
    Weight(L + "mlp.dense_h_to_4h.bias", "-> ffn", "mlp.up.bias", required=False),
    Weight(L + "mlp.dense_4h_to_h.weight", "hidden <- ffn", "mlp.down"),
    Weight(L + "mlp.dense_4h_to_h.bias", "-> hidden", "mlp.down.bias", required=False),
    Weight("ln_f.weight", "* hidden", "final_norm", PRE),
    Weight("ln_f.bias", "-> hidden", "final_norm.bias", PRE),
    Weight("lm_head.weight", "vocab <- hidden", "head", required=False, head=True, tied="embed"),
    Weight("score.weight", "labels <- hidden", "score", required=False, head=True),
    Weight("classifier.weight", "labels <- hidden", "tag", required=False, head=True),
    Weight("classifier.bias", "-> labels", "tag.bias", required=False, head=True),
    Weight("qa_outputs.weight", "labels <- hidden", "span", required=False, head=True),
    Weight("qa_outputs.bias", "-> labels", "span.bias", required=False, head=True),
)

TWO_NORMS = "not parallel_attn or num_ln_in_parallel_attn == 2"
WHEN = {
    "attn_norm": "True",
    "attn_norm.bias": "True",
    "mlp_norm": TWO_NORMS,
    "mlp_norm.bias": TWO_NORMS,
    **dict.fromkeys(("attn.*.bias", "attn.o.bias", "mlp.up.bias", "mlp.down.bias"), "bias"),
}

LAYOUT = Layout(
    family="falcon",
    model_types=("falcon",),
    weights=WEIGHTS,
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "ffn_hidden_size",
        "kv_heads": KV_HEADS,
        "group": f"num_attention_heads // ({KV_HEADS})",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=65024),
        Key("hidden_size", "hidden", 4544),
        Key("ffn_hidden_size", "ffn", "4 * hidden_size"),
        Key("num_hidden_layers", "layers", 32),
        Key("num_attention_heads", "kv_heads * group", 71),
        Key(
            "num_kv_heads",
            "kv_heads if new_decoder_architecture or not multi_query else kv_heads * group",
            "num_attention_heads",
        ),
        Key("new_decoder_architecture", default=False),
        Key("multi_query", default=True),
        Key("parallel_attn", default=True),
        Key("num_ln_in_parallel_attn", default="2 if new_decoder_architecture else 1"),
        Key("bias", default=False),
        Key("alibi", default=False),
        Key("layer_norm_epsilon", default=1e-5),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("transformer.", ""),
    attentions=(Attention(rope=Rope()),),
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
    derived=(r"rotary_emb\.inv_freq$",),
)
