"""Mamba-2, alone and beside attention: Granite 4, Bamba, Nemotron-H, Falcon-H1. Each group of heads shares what
writes its states (B) and reads them (C).

    S' = exp(-e^decay Δ) S + Δ x Bᵀ,   Δ = softplus(rate + step),   y = gain · norm((S' C + skip x) silu(gate))

x, B and C go through a short convolution and an activation first, which no scale passes. The norm runs over the
heads of one group.
"""

from __future__ import annotations

from isogrow.families.edits import Rows, after, alter, drop, like, swap
from isogrow.families.heads import LM
from isogrow.families.llama import ATTENTION, LLAMA, MLP, A, L
from isogrow.families.moe_kin import GRANITEMOESHARED, G, S
from isogrow.families.phi3 import SHARE
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, PerLayer, Rename, Rope, Weight

HEADS = "state_heads state_group"
HELD = f"{HEADS} state_value_dim"
BENT = "True"  # by the activation behind the convolution
PARTS = f"x: {HELD} + write: state_heads state_key_dim + read: state_heads state_key_dim"


def mamba2(
    stem: str, when: str, eps: str, conv_bias: str, bias: str, out_bias: str = "", norm: str = ""
) -> tuple[Rows, Rows]:
    """What reads the residual, and what writes it. `conv_bias`, `bias` and `norm` are formulas that are true
    where there are such."""
    both = " and ".join(f"({each})" for each in (when, conv_bias) if each)
    gained = " and ".join(f"({each})" for each in (when, norm) if each)
    said = {"when": when, "scales": "state.o"}
    reads = (
        Weight(
            stem + "in_proj.weight",
            f"(gate: {HELD} + {PARTS} + rate: {HEADS}) <- hidden",
            "state.*",
            when=when,
            clamp=BENT,
            scales="state.o",
            bias=Bias(bias),
        ),
        Weight(stem + "conv1d.weight", f"-> ({PARTS}) 1 taps", "state.*_conv", **said),
        Weight(
            stem + "conv1d.bias", f"-> ({PARTS})", "state.*_shift", when=both, scales="state.o", centred=True
        ),
        Weight(stem + "dt_bias", f"-> ({HEADS})", "state.step", **said, centred=True),
        Weight(stem + "A_log", f"-> ({HEADS})", "state.decay", **said, centred=True),
        Weight(stem + "D", f"-> ({HEADS})", "state.skip", **said, centred=True),
        Weight(
            stem + "norm.weight",
            f"* ({HELD})",
            "state.norm",
            Norm("rms", "inner", eps=eps, of="state.x", over=("state_group", "state_value_dim")),
            when=gained,
        ),
    )
    out = Weight(
        stem + "out_proj.weight", f"hidden <- ({HELD})", "state.o", when=when, bias=Bias(out_bias or bias)
    )
    return reads, (out,)


# Old configs say "mamba" and "attention".
LINEAR = "layer_types[layers] == 'linear_attention' or layer_types[layers] == 'mamba'"
FULL = "layer_types[layers] == 'full_attention' or layer_types[layers] == 'attention'"
SIZES = {
    "state_heads": "mamba_n_groups",
    "state_group": "mamba_n_heads // mamba_n_groups",
    "state_value_dim": "mamba_expand * hidden_size // mamba_n_heads",
    "state_key_dim": "mamba_d_state",
    "taps": "mamba_d_conv",
}
INNER = "state_heads * state_group * state_value_dim"
WIDTHS = (
    Key("mamba_n_groups", "state_heads", 1),
    Key("mamba_n_heads", "state_heads * state_group", 128),
    Key("mamba_d_state", "state_key_dim", 256),
    Key("mamba_d_conv", "taps", 4),
    Key("mamba_conv_bias", default=True),
    Key("mamba_proj_bias", default=False),
)
# The class computes the width from hidden, by a whole number.
EXPANDED = (Key("mamba_expand", f"{INNER} // hidden", 2), *WIDTHS)
WHOLE = f"{INNER} % hidden == 0"

GRANITE_STATES = mamba2(L + "mamba.", LINEAR, "rms_norm_eps", "mamba_conv_bias", "mamba_proj_bias")
GRANITEMOEHYBRID = like(
    GRANITEMOESHARED,
    "granitemoehybrid",
    alter(ATTENTION, when=FULL, bias=Bias("attention_bias")),
    after("attn.o", *GRANITE_STATES[0], *GRANITE_STATES[1]),
    alter("router experts.* experts.down", when="num_local_experts"),
    alter("shared.* shared.down", when=""),
    axes={
        **GRANITEMOESHARED.axes,
        **SIZES,
        "experts": "num_local_experts or None",
        "shared_ffn": "shared_intermediate_size",
    },
    defaults=dict(position_embedding_type="''", attention_bias=False),
    more=(*EXPANDED, Key("shared_intermediate_size", "shared_ffn", 1024)),
    lacks="shared_intermediate_size",
    attentions=(
        Attention(scale="attention_multiplier", rope=Rope(when="position_embedding_type == 'rope'")),
    ),
    per_layer=(PerLayer("layer_types", "'linear_attention'"),),
    constraints=(*GRANITEMOESHARED.constraints, WHOLE),
)

BAMBA_FULL = "attn_layer_indices and layers in attn_layer_indices"
BAMBA_STATES = mamba2(
    L + "mamba.", f"not ({BAMBA_FULL})", "rms_norm_eps", "mamba_conv_bias", "mamba_proj_bias"
)
LAYOUTS = (GRANITEMOEHYBRID,)
