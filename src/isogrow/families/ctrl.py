"""CTRL (arXiv 1909.05858): a decoder whose positions are sines of as many channels as the residual has, so
that its width stays, and heads, which fill it, with it."""

from __future__ import annotations

from isogrow.families.bart import SINES
from isogrow.families.heads import BIAS, head
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Stream, Weight

L = "h.{layers}."
A, F = L + "multi_head_attention.", L + "ffn."
PRE = Norm("layer", "pre", eps=1e-6)  # whatever the config says
QK, V = "(heads key_dim)", "(heads value_dim)"

CTRL = Layout(
    family="ctrl",
    model_types=("ctrl",),
    weights=(
        Weight("w.weight", "vocab -> hidden", "embed", times="hidden ** 0.5"),
        Weight(L + "layernorm1.weight", "* hidden", "attn_norm", PRE, BIAS),
        Weight(A + "Wq.weight", f"{QK} <- hidden", "attn.q", bias=BIAS),
        Weight(A + "Wk.weight", f"{QK} <- hidden", "attn.k", bias=BIAS),
        Weight(A + "Wv.weight", f"{V} <- hidden", "attn.v", bias=BIAS),
        Weight(A + "dense.weight", f"hidden <- {V}", "attn.o", bias=BIAS),
        Weight(L + "layernorm2.weight", "* hidden", "mlp_norm", PRE, BIAS),
        Weight(F + "0.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(F + "2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight(
            "layernorm.weight", "* hidden", "final_norm", Norm("layer", "pre", eps="layer_norm_epsilon"), BIAS
        ),
        head("lm_head.weight", "vocab <- hidden", "head", tied="embed", bias=BIAS),
        head("classifier.weight", "labels <- hidden", "classifier"),
    ),
    axes={
        "vocab": "vocab_size",
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
    attentions=(Attention(),),
    streams=(Stream(longest="n_positions"),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    refusals={"hidden": SINES},
    fixed=frozenset({"vocab"}),
    derived=(r"h\.\d+\.multi_head_attention\.bias$", r"pos_encoding$"),
)

LAYOUTS = (CTRL,)
