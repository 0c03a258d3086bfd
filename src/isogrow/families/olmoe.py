"""OLMoE: mixtures of experts, norms on queries and keys over all heads; queries, keys and values may be
clamped after that."""

from __future__ import annotations

from isogrow.families.edits import after, alter, like, swap
from isogrow.families.experts import readers, router, stacked, writer
from isogrow.families.llama import LLAMA, MLP, A, M
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.layouts.layout import Key, Weight

CLAMP = "clip_qkv"

OLMOE = like(
    LLAMA,
    "olmoe",
    after(
        "attn.k",
        Weight(A + "q_norm.weight", "* (kv_heads group key_dim)", "attn.q_norm", Q_NORM, clamp=CLAMP),
        Weight(A + "k_norm.weight", "* (kv_heads key_dim)", "attn.k_norm", K_NORM, clamp=CLAMP),
    ),
    alter("attn.v", clamp=CLAMP),
    swap(
        MLP,
        router(M, idle="norm_topk_prob and num_experts_per_tok == 1"),
        *readers(M, "ffn"),
        writer(M, "ffn"),
    ),
    axes={**LLAMA.axes, "experts": "num_experts"},
    defaults=dict(
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
    more=(Key("num_experts", "experts", 64),),
    # The norm of queries is as wide as hidden, whatever the head dim.
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
    fixed=LLAMA.fixed | {"experts"},
    bindings=(stacked(M, "ffn"),),
)

LAYOUTS = (OLMOE,)
