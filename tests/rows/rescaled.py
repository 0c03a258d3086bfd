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
