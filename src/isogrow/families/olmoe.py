"""OLMoE: mixtures of experts, norms on queries and keys over all heads; queries, keys and values may be
clamped after that."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.experts import readers, router, writers
from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, L, line, with_defaults
from isogrow.families.olmo2 import K_NORM, Q_NORM
from isogrow.layout import Key, Weight

A, M = L + "self_attn.", L + "mlp."
CLAMP = "clip_qkv"

_V, _MLP, _FINAL = line(WEIGHTS, "attn.v"), line(WEIGHTS, "mlp.gate"), line(WEIGHTS, "final_norm")

OLMOE = replace(
    LLAMA,
    family="olmoe",
    model_types=("olmoe",),
    weights=(
        *WEIGHTS[:_V],
        Weight(A + "q_norm.weight", "* (kv_heads group key_dim)", "attn.q_norm", Q_NORM, clamp=CLAMP),
        Weight(A + "k_norm.weight", "* (kv_heads key_dim)", "attn.k_norm", K_NORM, clamp=CLAMP),
        replace(WEIGHTS[_V], clamp=CLAMP),
        *WEIGHTS[_V + 1 : _MLP],
        router(M, idle="norm_topk_prob and num_experts_per_tok == 1"),
        *readers(M, "ffn"),
        *writers(M, "ffn"),
        *WEIGHTS[_FINAL:],
    ),
    axes={**LLAMA.axes, "experts": "num_experts"},
    keys=(
        *with_defaults(
            KEYS,
            vocab_size=50304,
            hidden_size=2048,
            intermediate_size=2048,
            num_hidden_layers=16,
            num_attention_heads=16,
            rms_norm_eps=1e-5,
            clip_qkv=False,
            norm_topk_prob=False,
            num_experts_per_tok=8,
        ),
        Key("num_experts", "experts", 64),
    ),
    # The norm of queries is as wide as hidden, whatever the head dim.
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
    fixed=LLAMA.fixed | {"experts"},
)

LAYOUTS = (OLMOE,)
