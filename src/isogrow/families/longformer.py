"""Longformer: RoBERTa with windows, and projections of their own for tokens that all others read."""

from __future__ import annotations

from isogrow.families.bert import A
from isogrow.families.edits import after, drop, like
from isogrow.families.roberta import ROBERTA
from isogrow.layouts.layout import Attention, Bias, Weight

S = A + "self."

# What a token that all others read has of its own; whether there is one, the input says.
GLOBAL = tuple(
    Weight(
        f"{S}{name}_global.weight",
        f"(heads {axis}) <- hidden",
        f"global.{name[0]}",
        bias=Bias(idle="True"),
        idle="True",
    )
    for name, axis in (("query", "key_dim"), ("key", "key_dim"), ("value", "value_dim"))
)

LONGFORMER = like(
    ROBERTA,
    "longformer",
    after("attn.v", *GLOBAL),
    drop("cross.q cross.k cross.v cross.o cross_norm classifier"),
    axes={k: v for k, v in ROBERTA.axes.items() if k != "memory"},
    defaults=dict(vocab_size=30522),
    lacks="add_cross_attention",
    attentions=(Attention(), Attention("global.q", "global.k", "global.v")),
    prefixes=("longformer.", ""),
    follows={"pooled": "hidden", "transform": "hidden", "features": "hidden"},
)

LAYOUTS = (LONGFORMER,)
