"""Arcee, Jais 2: Llama with a plain MLP; Jais 2 has LayerNorms."""

from __future__ import annotations

from isogrow.families.edits import alter, drop, like
from isogrow.families.heads import BIAS
from isogrow.families.llama import LLAMA
from isogrow.layouts.layout import Norm

ARCEE = like(
    LLAMA,
    "arcee",
    drop("mlp.gate"),
    defaults=dict(hidden_size=2560, intermediate_size=18432, rms_norm_eps=1e-5),
)

PRE = Norm("layer", "pre", eps="layer_norm_eps")

JAIS2 = like(
    LLAMA,
    "jais2",
    drop("mlp.gate"),
    alter("attn_norm mlp_norm final_norm", norm=PRE, bias=BIAS),
    lacks="rms_norm_eps",
    defaults=dict(
        vocab_size=150272,
        hidden_size=3328,
        intermediate_size=26624,
        num_attention_heads=26,
        layer_norm_eps=1e-5,
    ),
)

LAYOUTS = (ARCEE, JAIS2)
