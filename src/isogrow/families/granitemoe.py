"""Granite with experts, stacked in its files, and with a shared one beside them."""

from __future__ import annotations

from isogrow.families.edits import after, like, swap
from isogrow.families.granite import GRANITE
from isogrow.families.llama import LLAMA, MLP, L
from isogrow.families.mixtral import ONE as ALONE
from isogrow.layouts.layout import Binding, Key, Weight

G = L + "block_sparse_moe."
FUSED = "(gate: {0} + up: {0}) <- hidden"

GRANITEMOE = like(
    GRANITE,
    "granitemoe",
    swap(
        MLP,
        Weight(G + "router.layer.weight", "experts <- hidden", "router", scales="experts.down", idle=ALONE),
        Weight(G + "input_linear.weight", f"{{experts}} {FUSED.format('ffn')}", "experts.*"),
        Weight(G + "output_linear.weight", "{experts} hidden <- ffn", "experts.down"),
    ),
    axes={**LLAMA.axes, "experts": "num_local_experts"},
    defaults=dict(num_experts_per_tok=2),
    more=(Key("num_local_experts", "experts", 8),),
    fixed=LLAMA.fixed | {"experts"},
    bindings=(
        Binding(
            "memory",
            {
                G + "router.weight": "router",
                G + "experts.gate_up_proj": "experts.*",
                G + "experts.down_proj": "experts.down",
            },
        ),
    ),
)

S = L + "shared_mlp."

GRANITEMOESHARED = like(
    GRANITEMOE,
    "granitemoeshared",
    after(
        "experts.down",
        Weight(
            S + "output_linear.weight", "hidden <- shared_ffn", "shared.down", when="shared_intermediate_size"
        ),
    ),
    after(
        "router",
        Weight(
            S + "input_linear.weight", FUSED.format("shared_ffn"), "shared.*", when="shared_intermediate_size"
        ),
    ),
    axes={**GRANITEMOE.axes, "shared_ffn": "shared_intermediate_size or None"},
    more=(Key("shared_intermediate_size", "shared_ffn", 0, when="shared_intermediate_size"),),
)

LAYOUTS = (GRANITEMOE, GRANITEMOESHARED)
