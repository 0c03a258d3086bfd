"""Qwen3: Llama's architecture with an RMSNorm per head on queries and keys."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, WINDOWED, WINDOWS, L, line, with_defaults
from isogrow.layout import Norm, Weight

Q_NORM = Norm("rms", "inner", eps="rms_norm_eps", of="attn.q")
K_NORM = Norm("rms", "inner", eps="rms_norm_eps", of="attn.k")

_AT = line(WEIGHTS, "attn.v")

QWEN3 = replace(
    LLAMA,
    family="qwen3",
    model_types=("qwen3",),
    weights=(
        *WEIGHTS[:_AT],
        Weight(L + "self_attn.q_norm.weight", "* key_dim", "attn.q_norm", Q_NORM),
        Weight(L + "self_attn.k_norm.weight", "* key_dim", "attn.k_norm", K_NORM),
        *WEIGHTS[_AT:],
    ),
    keys=(
        *with_defaults(
            KEYS, vocab_size=151936, intermediate_size=22016, num_key_value_heads=32, head_dim=128
        ),
        *WINDOWS,
    ),
    constraints=("key_dim == value_dim",),
    per_layer=(WINDOWED,),
)

LAYOUTS = (QWEN3,)
