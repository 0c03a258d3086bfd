"""RoBERTa: BERT with other heads, and positions that count from behind the padding's number; XLM-R, CamemBERT
and data2vec are the same. RoBERTa-PreLayerNorm and XLM-R-XL have their norms before each branch."""

from __future__ import annotations

from isogrow.families.bert import BERT, CROSS, HEAD, OWN, A, L, X
from isogrow.families.edits import after, alter, before, drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.layouts.layout import Layout, Norm, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
LM = (
    head("lm_head.dense.weight", "transform <- hidden", "transform", bias=BIAS),
    head("lm_head.layer_norm.weight", "* transform", "transform_norm", norm=HEAD, bias=BIAS),
    head("lm_head.decoder.weight", "vocab <- transform", "decoder", bias=OWN, tied="embed"),
    head("lm_head.bias", "-> vocab", "decoder.own_bias"),
)
# A classifier of whole texts has a layer of its own, which no pooler is asked for.
DENSE = (
    head("classifier.dense.weight", "features <- hidden", "features", bias=BIAS),
    head("classifier.out_proj.weight", "labels <- features", "classifier.out", bias=BIAS),
)

ROBERTA = like(
    BERT,
    "roberta",
    swap("transform transform_norm decoder decoder.own_bias next", *LM),
    after("classifier.bias", *DENSE),
    axes={**BERT.axes, "features": "hidden_size"},
    follows={**BERT.follows, "features": "hidden"},
    defaults=dict(vocab_size=50265),
    prefixes=("roberta.", ""),
    renames=BERT.renames,
)

XLM_ROBERTA = like(ROBERTA, "xlm-roberta", defaults=dict(vocab_size=30522))
CAMEMBERT = like(ROBERTA, "camembert", defaults=dict(vocab_size=30522))
DATA2VEC = like(ROBERTA, "data2vec-text", defaults=dict(vocab_size=30522), prefixes=("data2vec_text.", ""))


def pre(base: Layout, family: str, attn: str, cross: str, mlp: str, last: str) -> Layout:
    """The same with its norms before each branch, under these names.

    An activation stands between the head's first weight and its norm: that weight undoes no scale of ε.
    """
    return like(
        base,
        family,
        drop("attn_norm cross_norm mlp_norm"),
        before("attn.q", Weight(attn, "* hidden", "attn_norm", PRE, BIAS)),
        before("cross.q", Weight(cross, "* hidden", "cross_norm", PRE, BIAS, when=CROSS)),
        before("mlp.up", Weight(mlp, "* hidden", "mlp_norm", PRE, BIAS)),
        alter("transform", clamp="True"),
        after("mlp.down", Weight(last, "* hidden", "final_norm", PRE, BIAS)),
    )


PRELAYERNORM = like(
    pre(
        ROBERTA,
        "roberta-prelayernorm",
        A + "LayerNorm.weight",
        X + "LayerNorm.weight",
        L + "intermediate.LayerNorm.weight",
        "LayerNorm.weight",
    ),
    "roberta-prelayernorm",
    prefixes=("roberta_prelayernorm.", ""),
)

XL = like(
    pre(
        ROBERTA,
        "xlm-roberta-xl",
        A + "self_attn_layer_norm.weight",
        X + "self_attn_layer_norm.weight",
        L + "LayerNorm.weight",
        "encoder.LayerNorm.weight",
    ),
    "xlm-roberta-xl",
    drop("embed_norm"),
    defaults=dict(
        vocab_size=250880,
        max_position_embeddings=514,
        type_vocab_size=1,
        hidden_size=2560,
        intermediate_size=10240,
        num_attention_heads=32,
        num_hidden_layers=36,
        layer_norm_eps=1e-5,
    ),
)

LAYOUTS = (ROBERTA, XLM_ROBERTA, CAMEMBERT, DATA2VEC, PRELAYERNORM, XL)
