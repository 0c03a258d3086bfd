"""The lines of the heads that most language models can have."""

from __future__ import annotations

from isogrow.layout import Weight


def head(name: str, pattern: str, slot: str, tied: str = "") -> Weight:
    """A line of a head: named without the base model's prefix, and not in every checkpoint."""
    return Weight(name, pattern, slot, required=False, head=True, tied=tied)


HEADS = (
    head("lm_head.weight", "vocab <- hidden", "head", tied="embed"),
    head("lm_head.bias", "-> vocab", "head.bias"),
    head("score.weight", "labels <- hidden", "score"),
    head("score.bias", "-> labels", "score.bias"),
    head("classifier.weight", "labels <- hidden", "tag"),
    head("classifier.bias", "-> labels", "tag.bias"),
    head("qa_outputs.weight", "labels <- hidden", "span"),
    head("qa_outputs.bias", "-> labels", "span.bias"),
)
