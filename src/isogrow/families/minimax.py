"""MiniMax-01 (arXiv 2501.08313): lightning attention beside attention, each with a mixture of experts; what
a branch adds to is the normalised residual, so that norms write it.

Lightning attention has as many heads as attention, each with a pace that the class computes from how many
they are and which layer it is; a norm runs over all that they give.
"""

from __future__ import annotations

from isogrow.families.delta import BENT, FULL, MIXES, state_row
from isogrow.families.edits import after, alter, like
from isogrow.families.llama import ATTENTION, A
from isogrow.families.mixtral import MIXTRAL
from isogrow.layouts.layout import Key, Norm, PerLayer

POST = Norm("rms", "post", eps="rms_norm_eps")
HELD = "state_heads state_value_dim"
PARTS = "(state_heads (q: state_key_dim + k: state_key_dim + v: state_value_dim))"
# What it computes of these is in its files.
PACES = (
    ("slope_rate", "-> state_heads 1 1"),
    ("query_decay", "-> state_heads block 1"),
    ("key_decay", "-> state_heads block 1"),
    ("diagonal_decay", "-> 1 state_heads block earlier"),
)


STATE = (
    state_row(A + "qkv_proj.weight", f"{PARTS} <- hidden", "state.*", clamp=BENT, scales=MIXES),
    *(state_row(A + name, axes, f"state.{name}", constant=True, idle="True") for name, axes in PACES),
    state_row(A + "norm.weight", f"* ({HELD})", "state.norm", Norm("rms", "inner", eps=1e-6, of="state.v")),
    state_row(A + "output_gate.weight", f"({HELD}) <- hidden", "state.z"),
    state_row(A + "out_proj.weight", f"hidden <- ({HELD})", "state.o"),
)
AS_MANY = (
    "its lightning attention has as many heads, and their number sets the pace of each; grow ffn or hidden"
    " instead"
)
AS_WIDE = "its lightning attention's heads are as wide, and a norm runs over all; grow ffn or hidden instead"
MINIMAX = like(
    MIXTRAL,
    "minimax",
    alter("attn_norm mlp_norm", norm=POST),
    alter(ATTENTION, when=FULL),
    after("attn.o", *STATE),
    axes={
        **MIXTRAL.axes,
        "state_heads": "num_attention_heads",
        "state_key_dim": "head_dim",
        "state_value_dim": "head_dim",
        "block": "block_size",
        "earlier": "block_size",
    },
    more=(Key("block_size", default=256),),
    per_layer=(PerLayer("layer_types", "'full_attention' if (i + 1) % 2 else 'linear_attention'"),),
    fixed=MIXTRAL.fixed | {"block", "earlier"},
    refusals={"kv_heads": AS_MANY, "group": AS_MANY, "key_dim": AS_WIDE, "value_dim": AS_WIDE},
)

LAYOUTS = (MINIMAX,)
