"""Mixtures of experts beside Llama's attention: GLM-4.5's like, FlexOLMo, MiniMax M2, Hunyuan, Granite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import transformers
from family import BOOLS, NORMED, NORMED_HEADS, Family, Json, Requests, gated, more_options, partial_options
from hypothesis import strategies as st

from isogrow.plans.expansions import Size

KIN = True

GROUPS = {"n_group": 2, "topk_group": 2}
SHARED: Json = dict(
    n_routed_experts=4,
    n_shared_experts=5,
    num_experts_per_tok=4,
    moe_intermediate_size=11,
    first_k_dense_replace=1,
    **GROUPS,
)
EACH: Requests = {"expert_ffn": {"expert_ffn": 16}}
ALL: Mapping[str, Size] = dict(
    hidden=75, ffn="x3", heads=15, kv_heads=3, head_dim=20, layers="+2", expert_ffn="+5"
)
WHOLE: Mapping[str, Size] = dict(hidden=75, ffn="x3", heads=24, kv_heads=4, head_dim=20, layers="+2")
ROUTED = {
    "first_k_dense_replace": st.sampled_from([0, 1, 2, 5]),
    "n_shared_experts": st.sampled_from([1, 2]),
    "num_experts_per_tok": st.sampled_from([1, 2, 4]),
    "norm_topk_prob": BOOLS,
}
LOCAL = {"num_local_experts": st.sampled_from([2, 4]), "num_experts_per_tok": st.sampled_from([1, 2])}
GRANITE = dict(
    attention_multiplier=0.3, embedding_multiplier=3.0, residual_multiplier=0.4, logits_scaling=2.0
)
FULL = {"num_local_experts": 4, "num_experts_per_tok": 4}


def narrow(row: Family) -> Family:
    """The same where no layer is dense."""
    sizes = {key: size for key, size in row.sizes.items() if key not in ("intermediate_size",)}
    return replace(
        row,
        sizes={key: size for key, size in sizes.items() if key != "first_k_dense_replace"},
        growths={axis: wanted for axis, wanted in row.growths.items() if axis != "ffn"},
        together={axis: size for axis, size in row.together.items() if axis != "ffn"},
        alone="expert_ffn",
    )


SPREAD = {key: choice for key, choice in ROUTED.items() if key != "first_k_dense_replace"}
ROWS = (
    gated(
        "glm4_moe",
        transformers.Glm4MoeConfig,
        partial_options(attention_bias=BOOLS, **ROUTED),
        EACH,
        {**ALL, "head_dim": 20},
        absent=("head_dim",),
        attention_bias=True,
        **{**SHARED, "head_dim": 12},
    ),
    gated(
        "dots1",
        transformers.Dots1Config,
        more_options(
            attention_bias=BOOLS,
            sliding_window=st.just(5),
            max_window_layers=st.sampled_from([0, 2]),
            **ROUTED,
        ),
        {**NORMED, **EACH},
        ALL,
        absent=("head_dim", "n_routed_experts", "n_shared_experts", "num_experts_per_tok"),
        said={"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
        sliding_window=5,
        max_window_layers=1,
        attention_bias=True,
        **SHARED,
    ),
    narrow(
        gated(
            "solar_open",
            transformers.SolarOpenConfig,
            more_options(attention_bias=BOOLS, **SPREAD),
            EACH,
            ALL,
            attention_bias=True,
            **SHARED,
        )
    ),
    gated(
        "flex_olmo",
        transformers.FlexOlmoConfig,
        more_options(
            attention_bias=BOOLS,
            num_experts=st.sampled_from([2, 4]),
            num_experts_per_tok=st.sampled_from([1, 2]),
            norm_topk_prob=BOOLS,
        ),
        NORMED_HEADS,
        WHOLE,
        attention_bias=True,
        absent=("head_dim",),
        num_experts=4,
        num_experts_per_tok=4,
    ),
    gated(
        "minimax_m2",
        transformers.MiniMaxM2Config,
        more_options(**LOCAL),
        NORMED_HEADS,
        WHOLE,
        absent=("rotary_dim",),
        **FULL,
    ),
    gated(
        "hunyuan_v1_moe",
        transformers.HunYuanMoEV1Config,
        more_options(
            attention_bias=BOOLS,
            num_experts=st.sampled_from([2, 4]),
            moe_topk=st.sampled_from([1, 2]),
        ),
        NORMED,
        attention_bias=True,
        absent=("head_dim",),
        said={"head_dim": 128},
        num_experts=4,
        moe_topk=4,
    ),
    gated(
        "granitemoe",
        transformers.GraniteMoeConfig,
        more_options(attention_bias=BOOLS, attention_multiplier=st.sampled_from([0.2, 1.0]), **LOCAL),
        absent=("head_dim",),
        attention_bias=True,
        **GRANITE,
        **FULL,
    ),
    gated(
        "granitemoeshared",
        transformers.GraniteMoeSharedConfig,
        more_options(attention_bias=BOOLS, shared_intermediate_size=st.sampled_from([0, 9]), **LOCAL),
        {"shared_ffn": {"shared_ffn": 20}},
        absent=("head_dim",),
        attention_bias=True,
        shared_intermediate_size=17,
        **GRANITE,
        **FULL,
    ),
)
