"""ALBERT: BERT with one layer (or a few) that is gone through again and again, and embeddings of a width of
their own, by which masked tokens are read as well.

Its axes mean what they mean in BERT, of the one layer: its inner width, its heads, and hidden, the width of
the residual, grow once for all turns. Embeddings stay as wide as they are. What counts layers counts turns,
of which each gives LN(x), never x.
"""

from __future__ import annotations

from isogrow.families.bert import BERT, OWN, POST
from isogrow.families.edits import like
from isogrow.families.heads import BIAS, SPAN, head
from isogrow.layouts.layout import Attention, Key, Norm, Weight

L = "encoder.albert_layer_groups.{groups}.albert_layers.0."
A, E, P = L + "attention.", "embeddings.", "predictions."
EPS = "layer_norm_eps"

ALBERT = like(
    BERT,
    "albert",
    weights=(
        Weight(E + "word_embeddings.weight", "vocab -> narrow", "embed"),
        Weight(E + "position_embeddings.weight", "positions -> narrow", "positions"),
        Weight(E + "token_type_embeddings.weight", "types -> narrow", "types"),
        Weight(
            E + "LayerNorm.weight",
            "* narrow",
            "embed_norm",
            Norm("layer", "inner", eps=EPS, of="embed"),
            BIAS,
        ),
        Weight("encoder.embedding_hidden_mapping_in.weight", "hidden <- narrow", "project", bias=BIAS),
        Weight(A + "query.weight", "(heads key_dim) <- hidden", "attn.q", bias=BIAS),
        Weight(A + "key.weight", "(heads key_dim) <- hidden", "attn.k", bias=BIAS),
        Weight(A + "value.weight", "(heads value_dim) <- hidden", "attn.v", bias=BIAS),
        Weight(A + "dense.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
        Weight(A + "LayerNorm.weight", "* hidden", "attn_norm", POST, BIAS),
        Weight(L + "ffn.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(L + "ffn_output.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight(L + "full_layer_layer_norm.weight", "* hidden", "mlp_norm", POST, BIAS),
        Weight("pooler.weight", "pooled <- hidden", "pooler", bias=BIAS, required=False),
        head(P + "dense.weight", "read <- hidden", "transform", bias=BIAS),
        head(
            P + "LayerNorm.weight",
            "* read",
            "transform_norm",
            norm=Norm("layer", "inner", eps=EPS, of="transform"),
            bias=BIAS,
        ),
        head(P + "decoder.weight", "vocab <- read", "decoder", bias=OWN, tied="embed"),
        head(P + "bias", "-> vocab", "decoder.own_bias"),
        head("sop_classifier.classifier.weight", "choices <- pooled", "next", bias=BIAS),
        head("classifier.weight", "labels <- pooled", "classifier", needs="pooler"),
        head("classifier.weight", "labels <- hidden", "tagger"),
        head("classifier.bias", "-> labels", "classifier.bias"),  # of either
        SPAN,
    ),
    axes={axis: said for axis, said in BERT.axes.items() if axis not in ("memory", "transform")}
    | {"narrow": "embedding_size", "read": "embedding_size", "groups": "num_hidden_groups"},
    defaults=dict(vocab_size=30000, hidden_size=4096, intermediate_size=16384, num_attention_heads=64),
    more=(
        Key("embedding_size", default=128),
        Key("num_hidden_groups", default=1),
        Key("inner_group_num", default=1),
    ),
    lacks="add_cross_attention",
    prefixes=("albert.", ""),
    attentions=(Attention(),),
    fixed=BERT.fixed | {"narrow", "read", "groups"},
    follows={"pooled": "hidden"},
    refusals={
        "layers": "all of them are one layer's weights, gone through again, and each turn normalises the"
        " residual itself (post-norm), so one more is never the identity; grow ffn, heads or hidden instead"
    },
    foreign={
        r"albert_layers\.[1-9]": "is of a group of several layers (inner_group_num), which no table says:"
        " grow a model with one a group"
    },
)

LAYOUTS = (ALBERT,)
