"""Models whose positions are sines that the class computes from the width, so that the width stays: XGLM,
and FSMT, whose encoder and decoder have a vocabulary each."""

from __future__ import annotations

from isogrow.families.bart import BART, EPS, FROZEN, SINES, TIMES
from isogrow.families.biogpt import LAYERS
from isogrow.families.edits import alter, drop, like, swap, with_defaults
from isogrow.families.heads import head
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Weight

PRE = Norm("layer", "pre", eps=EPS)
L = "layers.{layers}."
A = L + "self_attn."
QK, V = "(heads key_dim)", "(heads value_dim)"


XGLM = Layout(
    family="xglm",
    model_types=("xglm",),
    weights=(
        Weight("embed_tokens.weight", "vocab -> hidden", "embed", times=TIMES),
        *LAYERS,
        head("lm_head.weight", "vocab <- hidden", "head", tied="embed"),
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "d_model",
        "ffn": "ffn_dim",
        "heads": "attention_heads",
        "key_dim": "d_model // attention_heads",
        "value_dim": "d_model // attention_heads",
        "layers": "num_layers",
    },
    keys=(
        Key("vocab_size", default=256008),
        Key("d_model", "hidden", 1024, alias="hidden_size"),
        Key("ffn_dim", "ffn", 4096),
        Key("num_layers", "layers", 24, alias="num_hidden_layers"),
        Key("attention_heads", "heads", 16, alias="num_attention_heads"),
        Key("scale_embedding", default=True),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("model.", ""),
    attentions=(Attention(),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    refusals={"hidden": SINES},
    fixed=frozenset({"vocab"}),
)

FSMT = like(
    BART,
    "fsmt",
    drop("encoder.embed decoder.embed encoder.embed_norm decoder.embed_norm"),
    drop("head.own_bias pooler classifier span"),
    swap(
        "embed",
        Weight("encoder.embed_tokens.weight", "words -> hidden", "embed", times=TIMES, stream="encoder"),
        Weight(
            "decoder.embed_tokens.weight", "vocab -> hidden", "decoder.embed", times=TIMES, stream="decoder"
        ),
    ),
    FROZEN,
    alter("encoder.positions", pattern="far -> hidden"),
    alter("head", name="decoder.output_projection.weight", head=False, tied="decoder.embed"),
    axes={
        **{axis: said for axis, said in BART.axes.items() if axis not in ("pooled", "rows", "positions")},
        "vocab": "tgt_vocab_size",
        "words": "src_vocab_size",
    },
    keys=(
        Key("src_vocab_size", default=42024),
        Key("tgt_vocab_size", default=42024),
        *with_defaults(BART.keys[2:], scale_embedding=True, tie_word_embeddings=False),
    ),
    follows={},
    refusals={"hidden": SINES},
    fixed=frozenset({"vocab", "words", "rows", "far"}),
)

LAYOUTS = (XGLM, FSMT)
