"""MPNet: BERT under other names, with relative positions as a bias beside learned ones, which count from
behind the padding's number, 1 whatever the config says."""

from __future__ import annotations

from isogrow.families.bert import BERT, POST, L
from isogrow.families.edits import drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.roberta import DENSE, LM
from isogrow.layouts.layout import Attention, Key, Weight

A = L + "attention."

MPNET = like(
    BERT,
    "mpnet",
    drop("types cross.q cross.k cross.v cross.o cross_norm next"),
    swap(
        "attn.q attn.k attn.v attn.o attn_norm",
        Weight("encoder.relative_attention_bias.weight", "buckets -> heads", "position_bias"),
        Weight(A + "attn.q.weight", "(heads key_dim) <- hidden", "attn.q", bias=BIAS),
        Weight(A + "attn.k.weight", "(heads key_dim) <- hidden", "attn.k", bias=BIAS),
        Weight(A + "attn.v.weight", "(heads value_dim) <- hidden", "attn.v", bias=BIAS),
        Weight(A + "attn.o.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
        Weight(A + "LayerNorm.weight", "* hidden", "attn_norm", POST, BIAS),
    ),
    swap("transform transform_norm decoder decoder.own_bias", *LM, *DENSE),
    axes={
        **{name: said for name, said in BERT.axes.items() if name not in ("types", "memory")},
        "buckets": "relative_attention_num_buckets",
        "features": "hidden_size",
    },
    lacks="type_vocab_size add_cross_attention",
    defaults=dict(vocab_size=30527),
    more=(Key("relative_attention_num_buckets", default=32),),
    prefixes=("mpnet.", ""),
    attentions=(Attention(bias="position_bias"),),
    follows={"pooled": "hidden", "transform": "hidden", "features": "hidden"},
    fixed=frozenset({"vocab", "positions", "buckets"}),
)

LAYOUTS = (MPNET,)
