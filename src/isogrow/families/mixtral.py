"""Mixtral: Llama's architecture with a mixture of experts for an MLP."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.experts import readers, router, writers
from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, L, line, with_defaults
from isogrow.layout import Attention, Key, Rope

FILES, MEMORY = L + "block_sparse_moe.", L + "mlp."
NAMES = ("w1", "w3", "w2")
ONE = "num_experts_per_tok == 1"  # its weight is then 1, whatever the router says
PLAIN = tuple(weight for weight in WEIGHTS if weight.head or not weight.slot.endswith(".bias"))

_GATE, _FINAL = line(PLAIN, "mlp.gate"), line(PLAIN, "final_norm")


MIXTRAL = replace(
    LLAMA,
    family="mixtral",
    model_types=("mixtral",),
    weights=(
        *PLAIN[:_GATE],
        router(FILES, idle=ONE),
        router(MEMORY, idle=ONE),
        *readers(MEMORY, "ffn", files=FILES, names=NAMES),
        *writers(MEMORY, "ffn", files=FILES, names=NAMES),
        *PLAIN[_FINAL:],
    ),
    axes={**LLAMA.axes, "experts": "num_local_experts"},
    keys=(
        *with_defaults(
            KEYS, intermediate_size=14336, num_key_value_heads=8, rms_norm_eps=1e-5, num_experts_per_tok=2
        ),
        Key("num_local_experts", "experts", 8),
    ),
    attentions=(Attention(rope=Rope(default=1e6)),),
    constraints=("key_dim == value_dim",),
    fixed=LLAMA.fixed | {"experts"},
)

LAYOUTS = (MIXTRAL,)
