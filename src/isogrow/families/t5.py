"""T5: an encoder and a decoder with RMSNorm before each branch, no attention scale, relative positions."""

from __future__ import annotations

from typing import Any

from isogrow.families import heads
from isogrow.families.heads import BIAS
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Stream, Weight

PRE = Norm("rms", "pre", eps="layer_norm_epsilon")
ENCODER = "encoder.block.{encoder_layers}.layer."
DECODER = "decoder.block.{decoder_layers}.layer."
BUCKETS = "buckets -> heads"
GATED = "'gated' in feed_forward_proj"
STACKS = ("encoder", "decoder")
DECODES = "decoder.final_norm"  # a model without it is an encoder alone


def line(name: str, pattern: str, slot: str, stream: str, norm: Norm | None = None, when: str = "") -> Weight:
    """A row of one stack; cross-attention reads the other one."""
    return Weight(
        name,
        pattern,
        slot,
        norm,
        needs=DECODES if name.startswith("decoder") else "",
        when=when,
        stream=stream,
    )


def attention(name: str, slot: str, stream: str, memory: str = "") -> tuple[Weight, ...]:
    """An attention, whose keys and values may be of another stream."""
    return (
        line(f"{name}.q.weight", "(heads key_dim) <- hidden", f"{slot}.q", stream),
        line(f"{name}.k.weight", "(heads key_dim) <- hidden", f"{slot}.k", memory or stream),
        line(f"{name}.v.weight", "(heads value_dim) <- hidden", f"{slot}.v", memory or stream),
        line(f"{name}.o.weight", "hidden <- (heads value_dim)", f"{slot}.o", stream),
    )


def mlp(name: str, slot: str, stream: str) -> tuple[Weight, ...]:
    """An MLP: `wi`, or `wi_0` (gate) and `wi_1`."""
    return (
        line(f"{name}.wi.weight", "ffn <- hidden", f"{slot}.up", stream, when=f"not {GATED}"),
        line(f"{name}.wi_0.weight", "ffn <- hidden", f"{slot}.gate", stream, when=GATED),
        line(f"{name}.wi_1.weight", "ffn <- hidden", f"{slot}.up", stream, when=GATED),
        line(f"{name}.wo.weight", "hidden <- ffn", f"{slot}.down", stream),
    )


def bias(stack: str) -> Weight:
    """The position bias belongs to the stack: the 0 in its name is no layer's number."""
    name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return line(name, BUCKETS, f"{stack}.position_bias", stack)


def head(name: str, pattern: str, slot: str, stream: str, **said: Any) -> Weight:
    """A row of a head that reads a stack."""
    return heads.head(
        name, pattern, slot, needs=DECODES if stream == "decoder" else "", stream=stream, **said
    )


def again(stack: str) -> Weight:
    """Another name for the embedding."""
    name = f"{stack}.embed_tokens.weight"
    return Weight(name, "vocab -> hidden", f"{stack}.embed", required=False, tied="embed", shared=True)


T5 = Layout(
    family="t5",
    model_types=("t5",),
    weights=(
        Weight("shared.weight", "vocab -> hidden", "embed", stream="encoder decoder"),
        again("encoder"),
        again("decoder"),
        bias("encoder"),
        line(ENCODER + "0.layer_norm.weight", "* hidden", "encoder.attn_norm", "encoder", PRE),
        *attention(ENCODER + "0.SelfAttention", "encoder.attn", "encoder"),
        line(ENCODER + "1.layer_norm.weight", "* hidden", "encoder.mlp_norm", "encoder", PRE),
        *mlp(ENCODER + "1.DenseReluDense", "encoder.mlp", "encoder"),
        line("encoder.final_layer_norm.weight", "* hidden", "encoder.final_norm", "encoder", PRE),
        bias("decoder"),
        line(DECODER + "0.layer_norm.weight", "* hidden", "decoder.attn_norm", "decoder", PRE),
        *attention(DECODER + "0.SelfAttention", "decoder.attn", "decoder"),
        line(DECODER + "1.layer_norm.weight", "* hidden", "cross.attn_norm", "decoder", PRE),
        *attention(DECODER + "1.EncDecAttention", "cross.attn", "decoder", memory="encoder"),
        line(DECODER + "2.layer_norm.weight", "* hidden", "decoder.mlp_norm", "decoder", PRE),
        *mlp(DECODER + "2.DenseReluDense", "decoder.mlp", "decoder"),
        line("decoder.final_layer_norm.weight", "* hidden", "decoder.final_norm", "decoder", PRE),
        head(
            "lm_head.weight",
            "vocab <- hidden",
            "head",
            "decoder",
            tied="embed",
            times="hidden ** -0.5 if scale_decoder_outputs else 1",
        ),
        head("classification_head.dense.weight", "pooled <- hidden", "pooler", "decoder", bias=BIAS),
        head("classification_head.out_proj.weight", "labels <- pooled", "classifier", "decoder", bias=BIAS),
        head("classifier.weight", "labels <- hidden", "tag", "encoder", bias=BIAS),
        head("qa_outputs.weight", "labels <- hidden", "span", "decoder", bias=BIAS),
    ),
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
        Key("layer_norm_epsilon", default=1e-6),
        # transformers ties the head either way, and keeps it apart if its file does; version 1.1 says untied.
        Key("tie_word_embeddings", default=True),
        Key("scale_decoder_outputs", default="tie_word_embeddings"),
    ),
    prefixes=("", "transformer."),
    streams=(
        Stream("encoder", tie="scale_decoder_outputs"),
        Stream("decoder", tie="scale_decoder_outputs"),
    ),
    attentions=(
        Attention(
            "encoder.attn.q", "encoder.attn.k", "encoder.attn.v", scale="", bias="encoder.position_bias"
        ),
        Attention(
            "decoder.attn.q", "decoder.attn.k", "decoder.attn.v", scale="", bias="decoder.position_bias"
        ),
        Attention("cross.attn.q", "cross.attn.k", "cross.attn.v", scale=""),
    ),
    stacks=STACKS,
    follows={"pooled": "hidden"},
    constraints=("key_dim == value_dim",),
    # Old checkpoints hold one that no model reads.
    derived=(r"EncDecAttention\.relative_attention_bias\.weight$",),
    fixed=frozenset({"vocab", "buckets"}),
)

LAYOUTS = (T5,)
