"""OLMo 2: norms on what the branches write, none before them, and on queries and keys over all heads."""

from __future__ import annotations

from isogrow.families.edits import after, drop, like, swap
from isogrow.families.llama import EQUAL, LLAMA, A, L
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.layouts.layout import Norm, Weight

BRANCH = Norm("rms", "branch", eps="rms_norm_eps")

OLMO2 = like(
    LLAMA,
    "olmo2",
    drop("attn_norm"),
    after(
        "attn.k",
        Weight(A + "q_norm.weight", "* (kv_heads group key_dim)", "attn.q_norm", Q_NORM),
        Weight(A + "k_norm.weight", "* (kv_heads key_dim)", "attn.k_norm", K_NORM),
    ),
    swap("mlp_norm", Weight(L + "post_attention_layernorm.weight", "* hidden", "attn_after", BRANCH)),
    after("mlp.down", Weight(L + "post_feedforward_layernorm.weight", "* hidden", "mlp_after", BRANCH)),
    defaults={"vocab_size": 50304, "rms_norm_eps": 1e-5},
    constraints=EQUAL,
)

LAYOUTS = (OLMO2,)
