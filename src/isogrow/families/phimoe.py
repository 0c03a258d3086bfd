"""Phi-3.5-MoE: Mixtral with LayerNorms and biases."""

from __future__ import annotations

from isogrow.families.edits import alter, like, swap
from isogrow.families.experts import stacked
from isogrow.families.llama import ATTENTION, LLAMA, M
from isogrow.families.mixtral import MIXTRAL
from isogrow.layouts.layout import Attention, Bias, Norm, Rope

SAID = Bias("attention_bias")
PRE = Norm("layer", "pre", eps="rms_norm_eps")

PHIMOE = like(
    MIXTRAL,
    "phimoe",
    alter("attn_norm mlp_norm final_norm", norm=PRE, bias=Bias()),
    alter(ATTENTION, bias=SAID),
    # In training experts are drawn at random; otherwise none but those near the best one have a weight.
    alter("router", idle="True"),
    swap("head", like(LLAMA, "head", alter("head", bias=Bias("lm_head_bias"))).weights[-3]),
    defaults=dict(
        vocab_size=32064,
        intermediate_size=6400,
        num_local_experts=16,
        attention_bias=False,
        lm_head_bias=False,
    ),
    attentions=(Attention(rope=Rope()),),
    bindings=(stacked(M, "ffn", router="router.weight"),),
)

LAYOUTS = (PHIMOE,)
