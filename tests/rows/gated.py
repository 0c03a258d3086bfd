"""Llama and its like."""

from __future__ import annotations

import transformers
from family import (
    BOOLS,
    NORMED,
    NORMED_HEADS,
    gated,
    more_options,
    partial_options,
    windowed_options,
)
from hypothesis import strategies as st

HALF = {"rope_type": "default", "rope_theta": 700.0, "partial_rotary_factor": 0.5}
ROWS = (
    gated(
        "llama",
        transformers.LlamaConfig,
        more_options(hidden_size=st.just(36), mlp_bias=BOOLS, attention_bias=BOOLS),
        attention_bias=True,
        mlp_bias=True,
    ),
    gated(
        "mistral",
        transformers.MistralConfig,
        more_options(sliding_window=st.sampled_from([None, 5])),
        sliding_window=5,
    ),
    gated(
        "qwen2",
        transformers.Qwen2Config,
        windowed_options(),
        use_sliding_window=True,
        sliding_window=5,
        absent=("head_dim", "sliding_window"),
    ),
    gated(
        "qwen3",
        transformers.Qwen3Config,
        windowed_options(attention_bias=BOOLS),
        NORMED,
        attention_bias=True,
        absent=("sliding_window",),
    ),
    gated("gemma", transformers.GemmaConfig, more_options(attention_bias=BOOLS), attention_bias=True),
    gated(
        "gemma2",
        transformers.Gemma2Config,
        more_options(
            hidden_size=st.just(36),
            attention_bias=BOOLS,
            sliding_window=st.sampled_from([5, 50]),
            query_pre_attn_scalar=st.sampled_from([7, 256]),
            attn_logit_softcapping=st.sampled_from([None, 3.0]),
            final_logit_softcapping=st.sampled_from([None, 5.0]),
        ),
        sliding_window=5,
        query_pre_attn_scalar=7,
    ),
    gated(
        "granite",
        transformers.GraniteConfig,
        more_options(
            attention_bias=BOOLS,
            mlp_bias=BOOLS,
            attention_multiplier=st.sampled_from([0.2, 1.0]),
            embedding_multiplier=st.sampled_from([12.0, 1.0]),
            residual_multiplier=st.sampled_from([0.22, 1.0]),
            logits_scaling=st.sampled_from([8.0, 1.0]),
        ),
        attention_multiplier=0.3,
        embedding_multiplier=3.0,
        residual_multiplier=0.4,
        logits_scaling=2.0,
        absent=("head_dim",),
    ),
    gated(
        "smollm3",
        transformers.SmolLM3Config,
        more_options(
            attention_bias=BOOLS,
            mlp_bias=BOOLS,
            no_rope_layer_interval=st.sampled_from([2, 4]),
            use_sliding_window=BOOLS,
            sliding_window=st.just(5),
        ),
        no_rope_layer_interval=2,
        use_sliding_window=True,
        sliding_window=5,
        absent=("head_dim",),
    ),
    gated(
        "olmo2",
        transformers.Olmo2Config,
        more_options(attention_bias=BOOLS),
        NORMED_HEADS,
        dict(hidden=75, ffn="x3", heads=24, kv_heads=4, head_dim=20, layers="+2"),
        attention_bias=True,
        absent=("head_dim",),
    ),
    gated("phi3", transformers.Phi3Config, partial_options(plain=True), absent=("head_dim",)),
    gated("glm4", transformers.Glm4Config, partial_options(attention_bias=BOOLS), head_dim=12),
    gated(
        "phi",
        transformers.PhiConfig,
        partial_options(),
        rope_parameters=HALF,
        head_dim=12,
        absent=("head_dim",),
    ),
)
