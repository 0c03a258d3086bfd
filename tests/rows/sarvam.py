"""Sarvam's two mixtures of experts, each of another type's classes."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import BOOLS, HEADS, gated, partial_options

from rows.experts_llama_attention import ALL, EACH, ROUTED, SHARED
from rows.sparse import DEEPSEEK_V3

KIN = True

MOE = gated(
    "sarvam_moe",
    transformers.SarvamMoEConfig,
    partial_options(attention_bias=BOOLS, use_qk_norm=BOOLS, **ROUTED),
    {"head_dim": {}, **EACH},
    ALL,
    attention_bias=True,
    **SHARED,
)
ROWS = (
    replace(MOE, classes=tuple(name for head in HEADS if hasattr(transformers, name := f"Glm4Moe{head}"))),
    replace(
        DEEPSEEK_V3,
        name="sarvam_mla",
        config=transformers.SarvamMLAConfig,
        absent=frozenset({"q_lora_rank"}),
    ),
)
