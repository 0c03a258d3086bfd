"""Families with layers that hold a recurrence."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import BOOLS, NORMED, Family, Json, Requests, gated, partial_options
from hypothesis import strategies as st

from rows.kin_sparse import narrow
from rows.sparse import ALL, EACH, MIXED, ROUTED, SHARED

KIN = True

LINEAR: Json = dict(
    linear_num_key_heads=2,
    linear_num_value_heads=6,
    linear_key_head_dim=5,
    linear_value_head_dim=7,
    linear_conv_kernel_dim=4,
    head_dim=16,
    attention_bias=True,
    rope_parameters={"rope_type": "default", "rope_theta": 300.0, "partial_rotary_factor": 0.5},
)
KINDS = ("linear_attention", "full_attention", "linear_attention")
HEAD: Requests = {**NORMED, "head_dim, a multiple": {"head_dim": 32}}
STATES = {
    "linear_num_value_heads": st.sampled_from([2, 4]),
    "attention_bias": BOOLS,
}


def kinds(draw: st.DrawFn, found: Json, names: tuple[str, str]) -> Json:
    """Any layers of either kind, the last of the second: transformers 5.23 runs no model whose cache has no
    layer of attention (`get_seq_length` of a cache of states alone raises)."""
    n = found["num_hidden_layers"] - 1
    return {**found, "layer_types": [*draw(st.lists(st.sampled_from(names), min_size=n, max_size=n)), names[1]]}


def delta_options(**choices: st.SearchStrategy[object]):
    def options(draw: st.DrawFn) -> Json:
        found = partial_options(plain=True, **STATES, **choices)(draw)
        return kinds(draw, found, ("linear_attention", "full_attention"))

    return options


TOGETHER = {"head_dim": 32}
QWEN3_NEXT = gated(
    "qwen3_next",
    transformers.Qwen3NextConfig,
    delta_options(**MIXED),
    {**HEAD, **SHARED},
    {**ALL, **TOGETHER, "shared_ffn": "+3"},
    absent=("full_attention_interval",),
    layer_types=list(KINDS),
    num_experts=4,
    num_experts_per_tok=4,
    moe_intermediate_size=11,
    mlp_only_layers=[1],
    shared_expert_intermediate_size=17,
    **LINEAR,
)
QWEN3_5 = replace(
    gated(
        "qwen3_5_text",
        transformers.Qwen3_5TextConfig,
        delta_options(),
        HEAD,
        dict(hidden=75, ffn="x3", heads=15, kv_heads=3, head_dim=32, layers="+2"),
        absent=("full_attention_interval",),
        layer_types=list(KINDS),
        **LINEAR,
    ),
    classes=("Qwen3_5ForCausalLM", "Qwen3_5TextModel"),
)
QWEN3_5_MOE = narrow(
    replace(
        gated(
            "qwen3_5_moe_text",
            transformers.Qwen3_5MoeTextConfig,
            delta_options(**ROUTED),
            {**HEAD, **EACH, "shared_ffn": {"shared_ffn": 20}},
            {**ALL, **TOGETHER, "shared_ffn": "+3"},
            absent=("full_attention_interval",),
            layer_types=list(KINDS),
            num_experts=4,
            num_experts_per_tok=4,
            moe_intermediate_size=11,
            shared_expert_intermediate_size=17,
            **LINEAR,
        ),
        classes=("Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextModel"),
    )
)

ROWS: tuple[Family, ...] = (QWEN3_NEXT, QWEN3_5, QWEN3_5_MOE)

MAMBA: Json = dict(
    mamba_n_heads=6,
    mamba_n_groups=2,
    mamba_d_head=20,
    mamba_d_state=7,
    mamba_d_conv=4,
    mamba_expand=4,
    mamba_chunk_size=8,
    mamba_proj_bias=True,
    time_step_limit=[0.01, 2.0],
)
GRANITE = gated(
    "granitemoehybrid",
    transformers.GraniteMoeHybridConfig,
    delta_options(),
    {"hidden": {"hidden": 60}, "shared_ffn": {"shared_ffn": 20}},
    dict(hidden=60, ffn="x3", shared_ffn="+5", heads=15, kv_heads=3, head_dim=20, layers="+2"),
    absent=("head_dim", "position_embedding_type"),
    attention_bias=True,
    attention_multiplier=0.3,
    embedding_multiplier=3.0,
    residual_multiplier=0.4,
    logits_scaling=2.0,
    shared_intermediate_size=17,
    num_local_experts=4,
    num_experts_per_tok=4,
    layer_types=list(KINDS),
    **MAMBA,
)
ROWS = (*ROWS, GRANITE)
