"""Families whose code clamps, normalises without a tensor, or has several rotary tables."""

from __future__ import annotations

import transformers
from family import BOOLS, gated, more_options
from hypothesis import strategies as st

ROWS = (
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

# Of April 2024 on OLMo clamps.
REAL = {
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
