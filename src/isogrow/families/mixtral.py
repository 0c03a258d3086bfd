"""Mixtral: Llama's architecture with a mixture of experts for an MLP."""

from __future__ import annotations

from isogrow.families.edits import alter, like, swap
from isogrow.families.experts import readers, router, stacked, writer
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, L, M
from isogrow.layouts.layout import Attention, Key, Rope

FILES = L + "block_sparse_moe."
NAMES = ("w1", "w3", "w2")
ONE = "num_experts_per_tok == 1"  # its weight is then 1, whatever the router says

MIXTRAL = like(
    LLAMA,
    "mixtral",
    alter(ATTENTION, bias=None),
    swap(
        MLP, router(FILES, idle=ONE), *readers(FILES, "ffn", names=NAMES), writer(FILES, "ffn", names=NAMES)
    ),
    axes={**LLAMA.axes, "experts": "num_local_experts"},
    defaults={
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "num_experts_per_tok": 2,
    },
    more=(Key("num_local_experts", "experts", 8),),
    attentions=(Attention(rope=Rope(default=1e6)),),
    constraints=EQUAL,
    fixed=LLAMA.fixed | {"experts"},
    bindings=(stacked(M, "ffn", router="gate.weight"),),
)

LAYOUTS = (MIXTRAL,)
