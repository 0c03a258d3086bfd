"""OLMo 2: norms on what the branches write, none before them, and on queries and keys over all heads."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, L, line, with_defaults
from isogrow.layout import Norm, Weight

BRANCH = Norm("rms", "branch", eps="rms_norm_eps")
Q_NORM = Norm("rms", "inner", eps="rms_norm_eps", of="attn.q")
K_NORM = Norm("rms", "inner", eps="rms_norm_eps", of="attn.k")

_ATTN, _MLP = line(WEIGHTS, "attn_norm"), line(WEIGHTS, "mlp_norm")
_V, _FINAL = line(WEIGHTS, "attn.v"), line(WEIGHTS, "final_norm")

OLMO2 = replace(
    LLAMA,
    family="olmo2",
    model_types=("olmo2",),
    weights=(
        *WEIGHTS[:_ATTN],
        *WEIGHTS[_ATTN + 1 : _V],
        Weight(L + "self_attn.q_norm.weight", "* (kv_heads group key_dim)", "attn.q_norm", Q_NORM),
        Weight(L + "self_attn.k_norm.weight", "* (kv_heads key_dim)", "attn.k_norm", K_NORM),
        *WEIGHTS[_V:_MLP],
        Weight(L + "post_attention_layernorm.weight", "* hidden", "attn_after", BRANCH),
        *WEIGHTS[_MLP + 1 : _FINAL],
        Weight(L + "post_feedforward_layernorm.weight", "* hidden", "mlp_after", BRANCH),
        *WEIGHTS[_FINAL:],
    ),
    keys=with_defaults(KEYS, vocab_size=50304, rms_norm_eps=1e-5),
    constraints=("key_dim == value_dim",),
)

LAYOUTS = (OLMO2,)
