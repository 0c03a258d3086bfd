"""The rows of the heads that most language models can have."""

from __future__ import annotations

from typing import Any

from isogrow.layouts.layout import Bias, Weight

BIAS = Bias()


def head(name: str, pattern: str, slot: str, **said: Any) -> Weight:
    """A row of a head: named without the base model's prefix, and not in every checkpoint."""
    return Weight(name, pattern, slot, required=False, head=True, **said)


# What is said of tensors that stand beside them.
FURTHER = (
    "belongs to a module that predicts further tokens, which is no part of the model that is grown:"
    " remove its tensors"
)

LM = head("lm_head.weight", "vocab <- hidden", "head", tied="embed")
SCORE = head("score.weight", "labels <- hidden", "score", bias=BIAS)
TAG = head("classifier.weight", "labels <- hidden", "tag", bias=BIAS)
SPAN = head("qa_outputs.weight", "labels <- hidden", "span", bias=BIAS)

HEADS = (
    head("lm_head.weight", "vocab <- hidden", "head", tied="embed", bias=BIAS),
    SCORE,
    TAG,
    SPAN,
)
