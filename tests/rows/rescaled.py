"""Families whose code clamps, normalises without a tensor, or has several rotary tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import transformers
from family import BOOLS, NORMED, Json, gated, more_options, rope_options
from hypothesis import strategies as st


def local_options(draw: st.DrawFn) -> Json:
    """Gemma 3: two rotary tables, or the class's own, and layers of two kinds, by a number or by a list."""
    drawn = more_options(
        hidden_size=st.just(36),
        attention_bias=BOOLS,
        sliding_window=st.sampled_from([5, 50]),
        query_pre_attn_scalar=st.sampled_from([7, 256]),
        final_logit_softcapping=st.sampled_from([None, 5.0]),
        use_bidirectional_attention=BOOLS,
    )(draw)
    layers, pairs = drawn["num_hidden_layers"], drawn["head_dim"] // 2
    kinds = st.sampled_from(["full_attention", "sliding_attention"])
    ropes = {
        "full_attention": rope_options(draw, pairs),
        "sliding_attention": rope_options(draw, pairs, ("default", "linear")),
    }
    if draw(st.booleans()):
        drawn["layer_types"] = draw(st.lists(kinds, min_size=layers, max_size=layers))
    else:
        drawn["sliding_window_pattern"] = draw(st.sampled_from([2, 3]))
    return {**drawn, "rope_parameters": draw(st.sampled_from([ropes, None]))}


GEMMA3 = replace(
    gated(
        "gemma3_text",
        transformers.Gemma3TextConfig,
        local_options,
        NORMED,
        sliding_window=5,
        sliding_window_pattern=2,
        query_pre_attn_scalar=7,
        final_logit_softcapping=3.0,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
        absent=("sliding_window_pattern",),
    ),
    classes=("Gemma3ForCausalLM", "Gemma3TextModel", "Gemma3TextForSequenceClassification"),
)

ROWS = (
    GEMMA3,
    # The base model shows what its last norm gives, which has no gain: see tests/test_clamps.py.
    gated(
        "olmo",
        transformers.OlmoConfig,
        more_options(attention_bias=BOOLS, clip_qkv=st.sampled_from([None, 0.5])),
        attention_bias=True,
        without=("OlmoModel",),
        absent=("head_dim", "clip_qkv"),
    ),
)

GEMMA: Mapping[str, Any] = dict(vocab_size=262144, max_position_embeddings=131072, head_dim=256)
LINEAR = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
REAL = {
    "gemma-3-1b": (
        "Gemma3ForCausalLM",
        dict(
            GEMMA,
            hidden_size=1152,
            intermediate_size=6912,
            num_attention_heads=4,
            num_key_value_heads=1,
            sliding_window=512,
        ),
    ),
    "gemma-3-4b, its text model": (
        "Gemma3ForCausalLM",
        dict(
            GEMMA,
            **LINEAR,
            vocab_size=262208,
            hidden_size=2560,
            intermediate_size=10240,
            num_hidden_layers=34,
            sliding_window=1024,
        ),
    ),
    "gemma-3-27b, its text model": (
        "Gemma3ForCausalLM",
        dict(
            GEMMA,
            **LINEAR,
            vocab_size=262208,
            head_dim=128,
            hidden_size=5376,
            intermediate_size=21504,
            num_attention_heads=32,
            num_key_value_heads=16,
            num_hidden_layers=62,
            query_pre_attn_scalar=168,
            sliding_window=1024,
        ),
    ),
    "Phi-3.5-mini": (
        "Phi3ForCausalLM",
        dict(
            max_position_embeddings=131072,
            original_max_position_embeddings=4096,
            rope_scaling={"type": "longrope", "short_factor": [1.5] * 48, "long_factor": [40.0] * 48},
            sliding_window=262144,
        ),
    ),
    "Phi-4-mini": (
        "Phi3ForCausalLM",
        dict(
            vocab_size=200064,
            num_attention_heads=24,
            num_key_value_heads=8,
            partial_rotary_factor=0.75,
            max_position_embeddings=131072,
            original_max_position_embeddings=4096,
            rope_scaling={"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [9.0] * 48},
            sliding_window=262144,
            tie_word_embeddings=True,
            pad_token_id=199999,
        ),
    ),
    "OLMo-1B-hf": (
        "OlmoForCausalLM",
        dict(
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=16,
            num_key_value_heads=16,
            tie_word_embeddings=True,
        ),
    ),
    "OLMo-7B-0424-hf": (
        "OlmoForCausalLM",
        dict(num_key_value_heads=32, clip_qkv=8.0, max_position_embeddings=4096),
    ),
}
