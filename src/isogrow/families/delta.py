"""Gated delta nets beside attention: Qwen3-Next and Qwen3.5. In some layers each head has a state of keys by
values that a token corrects, in the others there is attention with a gate.

    S' = exp(-e^decay softplus(rate + step)) S (1 - β k kᵀ) + β v kᵀ,   y = gain · norm(S' q) silu(z)

q, k and v go through a short convolution and an activation first, which no scale passes: so where a growth of
hidden would scale the ε that the norm of y shares, it scales what writes the residual instead.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from isogrow.families.edits import Edit, Rows, after, alter, drop, like, swap
from isogrow.families.gemma import PRE
from isogrow.families.heads import FURTHER
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, A, L
from isogrow.families.phi3 import SHARE
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.families.qwen_moe import QWEN2_MOE
from isogrow.layouts.layout import Attention, Bias, Key, Norm, PerLayer, Rope, Weight

D = L + "linear_attn."
FULL, LINEAR = "layer_types[layers] == 'full_attention'", "layer_types[layers] == 'linear_attention'"
READ, HELD = "state_heads state_key_dim", "state_heads state_group state_value_dim"
EACH = "state_heads state_group"
QKV = f"(q: {READ} + k: {READ} + v: {HELD})"
# All of one key's head, its values' heads with it.
WHOLE = (
    "(state_heads (q: state_key_dim + k: state_key_dim + v: state_group state_value_dim"
    " + z: state_group state_value_dim))"
)
BENT = "True"  # by the activation behind the convolution
MIXES = "state.o"
SAID = Bias("attention_bias")


state_row = partial(Weight, when=LINEAR)  # of layers with a state alone


def delta_reader(name: str, pattern: str, slot: str, **said: Any) -> Weight:
    return state_row(D + name, f"{pattern} <- hidden", slot, **said)


def delta_state(*rows: Weight) -> Rows:
    """What a layer with a state has: what reads the residual, the numbers of each head, and what writes."""
    numbers: dict[str, Any] = {"when": LINEAR, "scales": MIXES}
    return (
        *rows,
        Weight(D + "conv1d.weight", f"{QKV} <- 1 taps", "state.*_conv", **numbers),
        Weight(D + "dt_bias", f"-> ({EACH})", "state.step", **numbers, centred=True),
        Weight(D + "A_log", f"-> ({EACH})", "state.decay", **numbers, centred=True),
        Weight(
            D + "norm.weight",
            "* state_value_dim",
            "state.norm",
            Norm("rms", "inner", eps="rms_norm_eps", of="state.v"),
            when=LINEAR,
        ),
        Weight(D + "out_proj.weight", f"hidden <- ({HELD})", "state.o", when=LINEAR),
    )


SIZES = {
    "state_heads": "linear_num_key_heads",
    "state_group": "linear_num_value_heads // linear_num_key_heads",
    "state_key_dim": "linear_key_head_dim",
    "state_value_dim": "linear_value_head_dim",
    "taps": "linear_conv_kernel_dim",
}
WIDTHS = (
    Key("linear_num_key_heads", "state_heads", 16),
    Key("linear_num_value_heads", "state_heads * state_group", 32),
    Key("linear_key_head_dim", "state_key_dim", 128),
    Key("linear_value_head_dim", "state_value_dim", 128),
    Key("linear_conv_kernel_dim", "taps", 4),
)
KEYS = (*WIDTHS, Key("full_attention_interval", default=4))
INTERVAL = PerLayer(
    "layer_types", "'linear_attention' if (i + 1) % full_attention_interval else 'full_attention'"
)


def _gated() -> tuple[Edit, ...]:
    """Qwen3's attention with a gate for each head beside its query, in layers of full attention."""
    fused = "(kv_heads group (q: key_dim + gate: value_dim)) <- hidden"
    return (
        alter("attn_norm mlp_norm final_norm", norm=PRE),
        alter(ATTENTION, when=FULL, bias=SAID),
        swap("attn.q", Weight(A + "q_proj.weight", fused, "attn.*", when=FULL, bias=SAID)),
        after(
            "attn.k",
            Weight(A + "q_norm.weight", "* key_dim", "attn.q_norm", replace(Q_NORM, offset=1.0), when=FULL),
            Weight(A + "k_norm.weight", "* key_dim", "attn.k_norm", replace(K_NORM, offset=1.0), when=FULL),
        ),
    )


ROPE = Rope(share=SHARE, portion=0.25)

QWEN3_NEXT = like(
    QWEN2_MOE,
    "qwen3_next",
    *_gated(),
    after(
        "attn.o",
        *delta_state(
            delta_reader("in_proj_qkvz.weight", WHOLE, "state.*", clamp=BENT, scales=MIXES),
            delta_reader(
                "in_proj_ba.weight",
                "(state_heads (beta: state_group + rate: state_group))",
                "state.*",
                scales=MIXES,
            ),
        ),
    ),
    axes={**QWEN2_MOE.axes, **SIZES},
    defaults=dict(
        num_hidden_layers=48,
        num_key_value_heads=2,
        head_dim=256,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=512,
        num_experts=512,
        num_experts_per_tok=10,
        norm_topk_prob=True,
        attention_bias=False,
    ),
    more=KEYS,
    lacks="qkv_bias use_sliding_window max_window_layers",
    attentions=(Attention(rope=ROPE),),
    per_layer=(INTERVAL,),
    windows=("taps",),
    foreign={r"^mtp\.": FURTHER},
)

APART = (
    delta_reader("in_proj_qkv.weight", QKV, "state.*", clamp=BENT, scales=MIXES),
    delta_reader("in_proj_z.weight", f"({HELD})", "state.z"),
    delta_reader("in_proj_b.weight", f"({EACH})", "state.beta", scales=MIXES),
    delta_reader("in_proj_a.weight", f"({EACH})", "state.rate", scales=MIXES),
)
QWEN3_5 = like(
    LLAMA,
    "qwen3_5_text",
    *_gated(),
    after("attn.o", *delta_state(*APART)),
    alter(MLP, bias=None),
    axes={**LLAMA.axes, **SIZES},
    defaults=dict(
        vocab_size=248320,
        hidden_size=4096,
        intermediate_size=12288,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=256,
        attention_bias=False,
    ),
    more=KEYS,
    attentions=(Attention(rope=ROPE),),
    constraints=EQUAL,
    per_layer=(INTERVAL,),
    windows=("taps",),
    foreign={r"^mtp\.": FURTHER},
)

SPARSE = "experts.gate experts.up experts.down shared.gate shared.up shared.down choice router"
QWEN3_5_MOE = like(
    QWEN3_NEXT,
    "qwen3_5_moe_text",
    drop(MLP),
    alter(SPARSE, when=""),
    alter("router", idle="num_experts_per_tok == 1"),
    swap("state.* state.*_conv state.step state.decay state.norm state.o", *delta_state(*APART)),
    axes={axis: said for axis, said in QWEN3_NEXT.axes.items() if axis != "ffn"},
    defaults=dict(vocab_size=248320, num_hidden_layers=40, num_experts=256, num_experts_per_tok=8),
    lacks="intermediate_size decoder_sparse_step mlp_only_layers norm_topk_prob",
    kinds=(),
)

LAYOUTS = (QWEN3_NEXT, QWEN3_5, QWEN3_5_MOE)
