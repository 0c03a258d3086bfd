"""Flint: Qwen3-MoE with a shared expert and sinks, and no positions in layers without a window."""

from __future__ import annotations

from isogrow.families.edits import after, alter, drop, like
from isogrow.families.experts import shared_readers, shared_writer, stacked
from isogrow.families.llama import ATTENTION, A, M
from isogrow.families.qwen_moe import QWEN3_MOE, SHARED, SPARSE
from isogrow.layouts.layout import Attention, Bias, Binding, Key, PerLayer, Rope, Weight

FLINT = like(
    QWEN3_MOE,
    "flint",
    alter(ATTENTION, bias=Bias("attention_bias")),
    after("attn.v", Weight(A + "softmax_offset", "-> (kv_heads group)", "attn.sinks")),
    after("experts.up", *shared_readers(SHARED, "shared_ffn", SPARSE)),
    after("experts.down", shared_writer(SHARED, "shared_ffn", SPARSE)),
    drop("score span"),
    axes={**QWEN3_MOE.axes, "shared_ffn": "shared_expert_intermediate_size"},
    lacks="num_experts num_local_experts use_sliding_window sliding_window max_window_layers mlp_only_layers",
    defaults=dict(
        vocab_size=150144,
        intermediate_size=6144,
        moe_intermediate_size=512,
        num_hidden_layers=49,
        head_dim=128,
        norm_topk_prob=True,
        num_experts_per_tok=6,
        attention_bias=False,
    ),
    more=(
        Key("num_experts", "experts", 256),
        Key("shared_expert_intermediate_size", "shared_ffn", 1024),
        Key("mlp_only_layers", default=[0, 1]),
    ),
    attentions=(Attention(rope=Rope(everywhere=False), sink="attn.sinks"),),
    per_layer=(
        PerLayer(
            "layer_types",
            "'full_attention' if i < 2 or i % 4 == 1 or i == num_hidden_layers - 1 else 'sliding_attention'",
        ),
    ),
    bindings=(Binding("memory", {**stacked(M, "expert_ffn").places, A + "sinks": "attn.sinks"}),),
)

LAYOUTS = (FLINT,)
