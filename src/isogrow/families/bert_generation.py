"""BERT for generation: without types of tokens and a pooler, its head reads the residual itself."""

from __future__ import annotations

from isogrow.families.bert import BERT
from isogrow.families.edits import after, drop, like
from isogrow.families.heads import head
from isogrow.layouts.layout import Bias

LAST = Bias(tied="head.own_bias")

GENERATION = like(
    BERT,
    "bert-generation",
    drop("types pooler transform transform_norm next decoder decoder.own_bias"),
    drop("classifier tagger classifier.bias span"),
    after(
        "mlp_norm",
        head("lm_head.decoder.weight", "vocab <- hidden", "head", tied="embed", bias=LAST),
        head("lm_head.bias", "-> vocab", "head.own_bias"),
    ),
    axes={axis: said for axis, said in BERT.axes.items() if axis not in ("types", "pooled", "transform")},
    defaults=dict(
        vocab_size=50358,
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=16,
        num_hidden_layers=24,
    ),
    lacks="type_vocab_size",
    fixed=BERT.fixed - {"types"},
    follows={"memory": "hidden"},
)

LAYOUTS = (GENERATION,)
