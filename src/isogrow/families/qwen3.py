"""Qwen3: Llama's architecture with an RMSNorm per head on queries and keys."""

from __future__ import annotations

from isogrow.families.edits import after, like
from isogrow.families.llama import QWEN2, A
from isogrow.layouts.layout import Norm, Weight

Q_NORM = Norm("rms", "inner", eps="rms_norm_eps", of="attn.q")
K_NORM = Norm("rms", "inner", eps="rms_norm_eps", of="attn.k")

QWEN3 = like(
    QWEN2,
    "qwen3",
    after(
        "attn.k",
        Weight(A + "q_norm.weight", "* key_dim", "attn.q_norm", Q_NORM),
        Weight(A + "k_norm.weight", "* key_dim", "attn.k_norm", K_NORM),
    ),
    defaults={"head_dim": 128},
)

LAYOUTS = (QWEN3,)
