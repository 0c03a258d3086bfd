"""GPT-2."""

from __future__ import annotations

import transformers
from family import (
    COMMON,
    EPS,
    POSITIONS,
    VOCAB,
    Family,
    Json,
    fused_growths,
)
from hypothesis import strategies as st


def gpt2_options(draw: st.DrawFn) -> Json:
    heads, head_dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7, 9]))
    return dict(
        n_embd=heads * head_dim,
        n_inner=draw(st.sampled_from([None, 37])),
        n_layer=draw(st.sampled_from([1, 2, 3])),
        n_head=heads,
        layer_norm_epsilon=draw(EPS),
        scale_attn_weights=draw(st.booleans()),
        scale_attn_by_inverse_layer_idx=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
    )


GPT2 = Family(
    "gpt2",
    transformers.GPT2Config,
    (
        "GPT2LMHeadModel",
        "GPT2Model",
        "GPT2ForSequenceClassification",
        "GPT2ForTokenClassification",
        "GPT2ForQuestionAnswering",
        "GPT2DoubleHeadsModel",
    ),
    dict(
        COMMON,
        vocab_size=VOCAB,
        n_embd=30,
        n_inner=37,
        n_layer=3,
        n_head=5,
        n_positions=POSITIONS,
        layer_norm_epsilon=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 42, "heads": 7},
        "hidden and head_dim": {"hidden": 40, "head_dim": 8},
        "ffn": {"ffn": 51},
        "layers": {"layers": 5},
    },
    dict(hidden=98, heads=7, head_dim=14, ffn="x3", layers="+2"),
    gpt2_options,
    fused_growths,
    frozenset({"n_inner"}),
)

ROWS = (GPT2,)
