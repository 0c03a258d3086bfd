"""BERT."""

from __future__ import annotations

import transformers
from family import (
    COMMON,
    EPS,
    POSITIONS,
    VOCAB,
    Family,
    Json,
    Steps,
)
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadAddition, HeadsExpansion, HiddenExpansion


def bert_options(draw: st.DrawFn) -> Json:
    heads, head_dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7]))
    return dict(
        hidden_size=heads * head_dim,
        num_attention_heads=heads,
        num_hidden_layers=draw(st.sampled_from([1, 2, 3])),
        layer_norm_eps=draw(EPS),
        is_decoder=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
    )


def bert_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Hidden is multiplied, and heads or their dim with it."""
    factors = draw(st.sampled_from([[], ["x2"], ["x3"], ["x4"], ["x2", "x2"], ["x3", "x2"]]))
    found: Steps = []
    for size in factors:
        found.append(HiddenExpansion(size))
        wider = draw(st.booleans())
        found += [HeadAddition(size)] if wider else [AttentionExpansion(size), HeadsExpansion(size)]
    return found


BERT = Family(
    "bert",
    transformers.BertConfig,
    (
        "BertForMaskedLM",
        "BertModel",
        "BertUnpooled",
        "BertForPreTraining",
        "BertLMHeadModel",
        "BertForNextSentencePrediction",
        "BertForMultipleChoice",
        "BertForSequenceClassification",
        "BertForTokenClassification",
        "BertForQuestionAnswering",
    ),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=30,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=5,
        max_position_embeddings=POSITIONS,
        layer_norm_eps=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 60, "heads": 10},
        "hidden and head_dim": {"hidden": 90, "head_dim": 18},
        "ffn": {"ffn": 51},
    },
    dict(hidden=90, heads=15, ffn="x3"),
    bert_options,
    bert_growths,
    copied=True,
)

ROWS = (BERT,)
