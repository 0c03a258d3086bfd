"""Models whose positions are sines that the class computes from the width, so that the width stays: XGLM and
CTRL, and FSMT, whose encoder and decoder have a vocabulary each."""

from __future__ import annotations

from isogrow.families.bart import BART, EPS, FROZEN, SINES, TIMES
from isogrow.families.edits import alter, drop, like, swap, with_defaults
from isogrow.families.heads import BIAS, head
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
        Weight(L + "self_attn_layer_norm.weight", "* hidden", "attn_norm", PRE, BIAS),
        Weight(A + "q_proj.weight", f"{QK} <- hidden", "attn.q", bias=BIAS),
        Weight(A + "k_proj.weight", f"{QK} <- hidden", "attn.k", bias=BIAS),
        Weight(A + "v_proj.weight", f"{V} <- hidden", "attn.v", bias=BIAS),
        Weight(A + "out_proj.weight", f"hidden <- {V}", "attn.o", bias=BIAS),
        Weight(L + "final_layer_norm.weight", "* hidden", "mlp_norm", PRE, BIAS),
        Weight(L + "fc1.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(L + "fc2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight("layer_norm.weight", "* hidden", "final_norm", PRE, BIAS),
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

H = "h.{layers}."
M = H + "multi_head_attention."
OWN = Norm("layer", "pre", eps="layer_norm_epsilon")
CTRL = like(
    XGLM,
    "ctrl",
    weights=(
        Weight("w.weight", "vocab -> hidden", "embed", times="hidden ** 0.5"),
        Weight(H + "layernorm1.weight", "* hidden", "attn_norm", OWN, BIAS),
        Weight(M + "Wq.weight", f"{QK} <- hidden", "attn.q", bias=BIAS),
        Weight(M + "Wk.weight", f"{QK} <- hidden", "attn.k", bias=BIAS),
        Weight(M + "Wv.weight", f"{V} <- hidden", "attn.v", bias=BIAS),
        Weight(M + "dense.weight", f"hidden <- {V}", "attn.o", bias=BIAS),
        Weight(H + "layernorm2.weight", "* hidden", "mlp_norm", OWN, BIAS),
        Weight(H + "ffn.0.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(H + "ffn.2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight("layernorm.weight", "* hidden", "final_norm", OWN, BIAS),
        head("lm_head.weight", "vocab <- hidden", "head", tied="embed", bias=BIAS),
        head("classifier.weight", "labels <- hidden", "classifier"),
    ),
    axes={
        **XGLM.axes,
        "hidden": "n_embd",
        "ffn": "dff",
        "heads": "n_head",
        "key_dim": "n_embd // n_head",
        "value_dim": "n_embd // n_head",
        "layers": "n_layer",
    },
    keys=(
        Key("vocab_size", default=246534),
        Key("n_embd", "hidden", 1280, alias="hidden_size"),
        Key("dff", "ffn", 8192),
        Key("n_layer", "layers", 48, alias="num_hidden_layers"),
        Key("n_head", "heads", 16, alias="num_attention_heads"),
        Key("layer_norm_epsilon", default=1e-6),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("transformer.", ""),
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

LAYOUTS = (XGLM, CTRL, FSMT)
