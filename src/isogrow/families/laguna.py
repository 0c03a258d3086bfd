"""Laguna: a gate on each head, or channel, of what attention gives; a list says which layers are sparse."""

from __future__ import annotations

from isogrow.families.afmoe import AFMOE
from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.llama import LLAMA, MLP, A, M
from isogrow.families.mellum import rope
from isogrow.families.mlp_layer_types import ALONE, AS_ONE, DENSE, SPARSE, kinds
from isogrow.layouts.layout import Attention, Key, PerLayer, Weight

BY_LAYER = "its config lists how many heads each layer has, which no growth edits: grow ffn or layers instead"
SCALED = "gating == 'per-element'"

LAGUNA = like(
    AFMOE,
    "laguna",
    alter("embed", times=""),
    swap(
        "attn.gate",
        Weight(A + "g_proj.weight", "(kv_heads group value_dim) <- hidden", "attn.gate", when=SCALED),
        Weight(
            A + "g_proj.weight",
            "(kv_heads group) <- hidden",
            "attn.head_gate",
            when=f"not {SCALED}",
            scales="attn.o",
        ),
    ),
    drop("attn_after mlp_after"),
    swap("mlp_norm", LLAMA.weights[6]),
    alter(MLP, when=DENSE),
    swap(
        "router router.choice experts.gate experts.up experts.down shared.gate shared.up shared.down",
        router(M, SPARSE, ALONE),
        Weight(
            M + "experts.e_score_correction_bias", "-> experts", "router.choice", when=SPARSE, idle="True"
        ),
        *readers(M, "expert_ffn", SPARSE),
        *shared_readers(M + "shared_expert.", "shared_ffn", SPARSE),
        writer(M, "expert_ffn", SPARSE),
        shared_writer(M + "shared_expert.", "shared_ffn", SPARSE),
    ),
    drop("score span"),
    axes={
        **LLAMA.axes,
        "expert_ffn": "moe_intermediate_size",
        "shared_ffn": "shared_expert_intermediate_size",
        "experts": "num_experts",
    },
    lacks="num_dense_layers global_attn_every_n_layers mup_enabled num_shared_experts",
    defaults=dict(
        vocab_size=100352,
        intermediate_size=8192,
        moe_intermediate_size=512,
        num_hidden_layers=40,
        num_attention_heads=48,
        num_key_value_heads=8,
        rms_norm_eps=1e-6,
        num_experts=256,
        num_experts_per_tok=8,
        gating=True,
    ),
    more=(Key("shared_expert_intermediate_size", "shared_ffn", 512),),
    attentions=(
        Attention(
            rope=rope(
                "full",
                500000.0,
                rope("sliding", 10000.0, share=("rope_parameters.sliding_attention.partial_rotary_factor",)),
                share=("rope_parameters.full_attention.partial_rotary_factor",),
            )
        ),
    ),
    kinds=(),
    per_layer=(
        PerLayer("layer_types", "'full_attention'"),
        kinds("i == 0"),
        PerLayer("num_attention_heads_per_layer", "num_attention_heads"),
    ),
    fixed=LLAMA.fixed | {"experts"},
    refusals={"kv_heads": BY_LAYER, "group": BY_LAYER},
    foreign={},
    bindings=(
        stacked(
            M,
            "expert_ffn",
            **{"router.choice": "gate.e_score_correction_bias"},
            **AS_ONE,
        ),
    ),
)

LAYOUTS = (LAGUNA,)
