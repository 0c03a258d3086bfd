"""Qwen3: Llama's architecture with an RMSNorm per head on queries and keys."""

from __future__ import annotations

from isogrow.families.edits import after, like
from isogrow.families.llama import QWEN2, A
from isogrow.layouts.layout import Norm, Weight

Q_NORM = Norm("rms", "inner", eps="rms_norm_eps", of="attn.q")
K_NORM = Norm("rms", "inner", eps="rms_norm_eps", of="attn.k")


def head_norms(when: str = "") -> tuple[Weight, Weight]:
    """The norms of each head's queries and keys."""
    return (
        Weight(A + "q_norm.weight", "* key_dim", "attn.q_norm", Q_NORM, when=when),
        Weight(A + "k_norm.weight", "* key_dim", "attn.k_norm", K_NORM, when=when),
    )


QWEN3 = like(
    QWEN2,
    "qwen3",
    after("attn.k", *head_norms()),
    defaults={"head_dim": 128},
)

LAYOUTS = (QWEN3,)
