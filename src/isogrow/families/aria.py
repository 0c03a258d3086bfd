"""Aria's language model: Llama with experts that are stored in × out, and shared ones."""

from __future__ import annotations

from isogrow.families.deepseek import SHARED
from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.experts import shared_readers, shared_writer
from isogrow.families.llama import ATTENTION, LLAMA, MLP, M
from isogrow.layouts.layout import Bias, Binding, Key, Weight

SAID = Bias("attention_bias")
BOTH = "{experts} hidden -> (gate: ffn + up: ffn)"  # stored in × out

ARIA = like(
    LLAMA,
    "aria_text",
    alter(ATTENTION, bias=SAID),
    swap(
        MLP,
        Weight(
            M + "router.weight", "experts <- hidden", "router", scales="experts.down", idle="moe_topk == 1"
        ),
        Weight(M + "experts.fc1.weight", BOTH, "experts.*"),
        *shared_readers(SHARED, "(shared ffn)", bias=Bias("mlp_bias")),
        Weight(M + "experts.fc2.weight", "{experts} ffn -> hidden", "experts.down"),
        shared_writer(SHARED, "(shared ffn)", bias=Bias("mlp_bias")),
    ),
    drop("score span"),
    axes={**LLAMA.axes, "experts": "moe_num_experts", "shared": "moe_num_shared_experts"},
    defaults=dict(intermediate_size=4096, attention_bias=False, mlp_bias=False, moe_topk=2),
    more=(Key("moe_num_experts", "experts", 8), Key("moe_num_shared_experts", "shared", 2)),
    fixed=LLAMA.fixed | {"experts", "shared"},
    bindings=(
        Binding(
            "memory",
            {M + "experts.gate_up_proj": "experts.*", M + "experts.down_proj": "experts.down"},
        ),
    ),
)

LAYOUTS = (ARIA,)
