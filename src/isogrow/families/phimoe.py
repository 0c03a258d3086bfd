"""Phi-3.5-MoE: Mixtral with LayerNorms and biases; its router draws experts by SparseMixer."""

from __future__ import annotations

from isogrow.families.edits import alter, like, swap
from isogrow.families.experts import router, stacked
from isogrow.families.heads import BIAS, head
from isogrow.families.llama import ATTENTION, M
from isogrow.families.mixtral import FILES, MIXTRAL
from isogrow.layouts.layout import Bias, Norm

PRE = Norm("layer", "pre", eps="rms_norm_eps")

PHIMOE = like(
    MIXTRAL,
    "phimoe",
    alter("attn_norm mlp_norm final_norm", norm=PRE, bias=BIAS),
    alter(ATTENTION, bias=Bias("attention_bias")),
    swap("router", router(FILES)),
    swap("head", head("lm_head.weight", "vocab <- hidden", "head", tied="embed", bias=Bias("lm_head_bias"))),
    defaults=dict(
        vocab_size=32064,
        intermediate_size=6400,
        num_local_experts=16,
        attention_bias=False,
        lm_head_bias=False,
    ),
    bindings=(stacked(M, "ffn", router="router.weight"),),
)

LAYOUTS = (PHIMOE,)
