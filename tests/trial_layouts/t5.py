"""T5: two stacks, cross-attention, no attention scale, a position bias in each stack's first block."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, Weight

PRE = Norm("rms", "pre", eps="layer_norm_epsilon")
ENCODER = "encoder.block.{encoder_layers}.layer."
DECODER = "decoder.block.{decoder_layers}.layer."


def attention(name: str, slot: str, required: bool) -> tuple[Weight, ...]:
    """The lines of one attention."""
    qk, v = "(heads key_dim) <- hidden", "(heads value_dim) <- hidden"
    return (
        Weight(f"{name}.q.weight", qk, f"{slot}.q", required=required),
        Weight(f"{name}.k.weight", qk, f"{slot}.k", required=required),
        Weight(f"{name}.v.weight", v, f"{slot}.v", required=required),
        Weight(f"{name}.o.weight", "hidden <- (heads value_dim)", f"{slot}.o", required=required),
    )


def mlp(name: str, slot: str, required: bool) -> tuple[Weight, ...]:
    """The lines of one MLP: `wi`, or `wi_0` (gate) and `wi_1`."""
    return (
        Weight(f"{name}.wi.weight", "ffn <- hidden", f"{slot}.up", required=False),
        Weight(f"{name}.wi_0.weight", "ffn <- hidden", f"{slot}.gate", required=False),
        Weight(f"{name}.wi_1.weight", "ffn <- hidden", f"{slot}.up", required=False),
        Weight(f"{name}.wo.weight", "hidden <- ffn", f"{slot}.down", required=required),
    )


def norm(name: str, slot: str, required: bool) -> Weight:
    """A line of a norm."""
    return Weight(name, "* hidden", slot, PRE, required=required)


def bias(stack: str, required: bool) -> Weight:
    """The position bias belongs to the stack: the 0 in its name is no layer's number."""
    name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return Weight(name, "buckets -> heads", f"{stack}.position_bias", required=required)


def head(name: str, pattern: str, slot: str, tied: str = "") -> Weight:
    """A line of a head."""
    return Weight(name, pattern, slot, required=False, head=True, tied=tied)


WEIGHTS = (
    Weight("shared.weight", "vocab -> hidden", "embed"),
    Weight("encoder.embed_tokens.weight", "vocab -> hidden", "encoder.embed", required=False, tied="embed"),
    bias("encoder", True),
    norm(ENCODER + "0.layer_norm.weight", "encoder.attn_norm", True),
    *attention(ENCODER + "0.SelfAttention", "encoder.attn", True),
    norm(ENCODER + "1.layer_norm.weight", "encoder.mlp_norm", True),
    *mlp(ENCODER + "1.DenseReluDense", "encoder.mlp", True),
    norm("encoder.final_layer_norm.weight", "encoder.final_norm", True),
    Weight("decoder.embed_tokens.weight", "vocab -> hidden", "decoder.embed", required=False, tied="embed"),
    bias("decoder", False),
    norm(DECODER + "0.layer_norm.weight", "decoder.attn_norm", False),
    *attention(DECODER + "0.SelfAttention", "decoder.attn", False),
    norm(DECODER + "1.layer_norm.weight", "cross.attn_norm", False),
    *attention(DECODER + "1.EncDecAttention", "cross.attn", False),
    norm(DECODER + "2.layer_norm.weight", "decoder.mlp_norm", False),
    *mlp(DECODER + "2.DenseReluDense", "decoder.mlp", False),
    norm("decoder.final_layer_norm.weight", "decoder.final_norm", False),
    head("lm_head.weight", "vocab <- hidden", "head", tied="embed"),
    head("classification_head.dense.weight", "pooled <- hidden", "pooler"),
    head("classification_head.dense.bias", "-> pooled", "pooler.bias"),
    head("classification_head.out_proj.weight", "labels <- pooled", "classifier"),
    head("classification_head.out_proj.bias", "-> labels", "classifier.bias"),
    head("classifier.weight", "labels <- hidden", "tag"),
    head("classifier.bias", "-> labels", "tag.bias"),
    head("qa_outputs.weight", "labels <- hidden", "span"),
    head("qa_outputs.bias", "-> labels", "span.bias"),
)

GATED, DECODES = "'gated' in feed_forward_proj", "is_encoder_decoder"
WHEN = {
    **{w.slot: DECODES for w in WEIGHTS if w.slot.startswith(("decoder.", "cross."))},
    "encoder.mlp.up": "True",
    "encoder.mlp.gate": GATED,
    "decoder.mlp.gate": f"{DECODES} and {GATED}",
}

LAYOUT = Layout(
    family="t5",
    model_types=("t5",),
    weights=WEIGHTS,
    axes={
        "vocab": "vocab_size",
        "hidden": "d_model",
        "pooled": "d_model",
        "ffn": "d_ff",
        "heads": "num_heads",
        "key_dim": "d_kv",
        "value_dim": "d_kv",
        "buckets": "relative_attention_num_buckets",
        "encoder_layers": "num_layers",
        "decoder_layers": "num_decoder_layers",
    },
    keys=(
        Key("vocab_size", default=32128),
        Key("d_model", "hidden", 512),
        Key("d_kv", "key_dim", 64),
        Key("d_ff", "ffn", 2048),
        Key("num_layers", "encoder_layers", 6),
        Key("num_decoder_layers", "decoder_layers", "num_layers"),
        Key("num_heads", "heads", 8),
        Key("relative_attention_num_buckets", default=32),
        Key("feed_forward_proj", default="'relu'"),
        Key("is_encoder_decoder", default=True),
        Key("layer_norm_epsilon", default=1e-6),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("", "transformer."),
    attentions=tuple(
        Attention(f"{at}.q", f"{at}.k", f"{at}.v", scale="")
        for at in ("encoder.attn", "decoder.attn", "cross.attn")
    ),
    follows={"pooled": "hidden"},
    constraints=("key_dim == value_dim",),
    derived=(r"EncDecAttention\.relative_attention_bias\.weight$",),
    fixed=frozenset({"vocab", "buckets"}),
)
