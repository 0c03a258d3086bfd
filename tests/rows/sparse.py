"""Mixtures of experts."""

from __future__ import annotations

import transformers
from family import gated, more_options
from hypothesis import strategies as st

EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

ROWS = (
    gated(
        "mixtral",
        transformers.MixtralConfig,
        more_options(
            num_local_experts=st.sampled_from([2, 4]),
            num_experts_per_tok=st.sampled_from([1, 2]),
            sliding_window=st.sampled_from([None, 5]),
        ),
        absent=("head_dim",),
        **EXPERTS,
    ),
)
