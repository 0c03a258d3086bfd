"""Hunyuan: Llama with a norm on each head's queries and keys, which comes after the rotation."""

from __future__ import annotations

from isogrow.families.edits import after, like
from isogrow.families.llama import EQUAL, LLAMA, A
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.layouts.layout import Weight

HUNYUAN = like(
    LLAMA,
    "hunyuan_v1_dense",
    after(
        "attn.k",
        Weight(A + "query_layernorm.weight", "* key_dim", "attn.q_norm", Q_NORM),
        Weight(A + "key_layernorm.weight", "* key_dim", "attn.k_norm", K_NORM),
    ),
    defaults=dict(vocab_size=290943, rms_norm_eps=1e-5),
    constraints=EQUAL,
)

LAYOUTS = (HUNYUAN,)
