"""MiniMax M2: Llama with experts, and norms over all heads' queries and keys."""

from __future__ import annotations

from isogrow.families.edits import after, alter, like, swap
from isogrow.families.experts import readers, router, stacked, writer
from isogrow.families.llama import ATTENTION, LLAMA, MLP, A, M
from isogrow.families.mixtral import FILES, NAMES
from isogrow.families.mixtral import ONE as ALONE
from isogrow.families.phi3 import SHARE
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.layouts.layout import Attention, Key, Rope, Weight

MINIMAX_M2 = like(
    LLAMA,
    "minimax_m2",
    alter(ATTENTION, bias=None),
    after(
        "attn.k",
        Weight(A + "q_norm.weight", "* (kv_heads group key_dim)", "attn.q_norm", Q_NORM),
        Weight(A + "k_norm.weight", "* (kv_heads key_dim)", "attn.k_norm", K_NORM),
    ),
    swap(
        MLP,
        router(FILES, idle=ALONE),
        Weight(FILES + "e_score_correction_bias", "-> experts", "router.choice", idle="True"),
        *readers(FILES, "ffn", names=NAMES),
        writer(FILES, "ffn", names=NAMES),
    ),
    axes={**LLAMA.axes, "experts": "num_local_experts"},
    defaults=dict(
        vocab_size=200064,
        hidden_size=3072,
        intermediate_size=1536,
        num_hidden_layers=62,
        num_attention_heads=48,
        num_key_value_heads=8,
        head_dim=128,
        num_experts_per_tok=8,
    ),
    more=(Key("num_local_experts", "experts", 256, alias="num_experts"), Key("rotary_dim", default=0)),
    attentions=(Attention(rope=Rope(share=SHARE, default=5e6)),),
    # Old files say how many channels rotate by a number, which the class divides by the head dim.
    constraints=("key_dim == value_dim", "not rotary_dim or key_dim == head_dim"),
    fixed=LLAMA.fixed | {"experts"},
    bindings=(stacked(M, "ffn", **{"router": "gate.weight", "router.choice": "e_score_correction_bias"}),),
)

LAYOUTS = (MINIMAX_M2,)
