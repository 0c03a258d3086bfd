"""GPT-NeoX, GPT-J."""

from __future__ import annotations

import transformers
from family import (
    BOOLS,
    COMMON,
    POSITIONS,
    VOCAB,
    Family,
    fused_growths,
    fused_options,
)
from hypothesis import strategies as st

NEOX = Family(
    "gpt_neox",
    transformers.GPTNeoXConfig,
    (
        "GPTNeoXForCausalLM",
        "GPTNeoXModel",
        "GPTNeoXForSequenceClassification",
        "GPTNeoXForTokenClassification",
        "GPTNeoXForQuestionAnswering",
    ),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=40,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=5,
        max_position_embeddings=POSITIONS,
        layer_norm_eps=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 56, "heads": 7},
        "hidden and head_dim": {"hidden": 55, "head_dim": 11},
        "ffn": {"ffn": 51},
        "layers": {"layers": 5},
    },
    dict(hidden=98, heads=7, head_dim=14, ffn="x3", layers="+2"),
    fused_options(
        use_parallel_residual=BOOLS,
        attention_bias=BOOLS,
        rope_parameters=st.sampled_from(
            [
                {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": part}
                for part in (0.25, 0.5)
            ]
        ),
    ),
    fused_growths,
)
GPTJ = Family(
    "gptj",
    transformers.GPTJConfig,
    ("GPTJForCausalLM", "GPTJModel", "GPTJForSequenceClassification", "GPTJForQuestionAnswering"),
    dict(
        COMMON,
        vocab_size=VOCAB,
        n_embd=40,
        n_inner=37,
        n_layer=3,
        n_head=5,
        n_positions=POSITIONS,
        rotary_dim=4,
        layer_norm_epsilon=1e-2,
    ),
    NEOX.growths,
    NEOX.together,
    fused_options(n_inner=st.sampled_from([None, 37]), rotary_dim=st.sampled_from([2, 4, 8])),
    fused_growths,
    frozenset({"n_inner"}),
)

ROWS = (NEOX, GPTJ)
