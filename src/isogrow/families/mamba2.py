"""Mamba-2, alone and beside attention: Granite 4, Bamba, Nemotron-H, Falcon-H1. Each group of heads shares
what writes its states (B) and reads them (C).

    S' = exp(-e^decay Δ) S + Δ x Bᵀ,   Δ = softplus(rate + step),
    y = gain · norm((S' C + skip x) silu(gate))

x, B and C go through a short convolution and an activation first, which no scale passes. The norm runs over
the heads of one group.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from isogrow.families.delta import BENT
from isogrow.families.edits import Rows, after, alter, before, like, swap
from isogrow.families.experts import router
from isogrow.families.granitemoe import GRANITEMOESHARED
from isogrow.families.heads import FURTHER, LM
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, PRE, L
from isogrow.families.phi3 import SHARE
from isogrow.layouts.layout import (
    Attention,
    Bias,
    Binding,
    Key,
    Kinds,
    Layout,
    Norm,
    PerLayer,
    Rename,
    Rope,
    Weight,
)

HEADS = "state_heads state_group"
HELD = f"{HEADS} state_value_dim"
# What the second convolution gives is bent, and nothing where it is zero.
SCAN = Attention(
    "state.write",
    "state.read_conv",
    "state.x",
    axis="state_dim",
    scale="",
    factors="state.read state.write_conv",
)
PARTS = f"x: {HELD} + write: state_heads state_dim + read: state_heads state_dim"


def mamba2(
    stem: str, when: str, eps: str, conv_bias: str, bias: str, out_bias: str = "", norm: str = ""
) -> tuple[Rows, Rows]:
    """What reads the residual, and what writes it. `conv_bias`, `bias` and `norm` are formulas that are true
    where there are such."""
    both = " and ".join(f"({each})" for each in (when, conv_bias) if each)
    gained = " and ".join(f"({each})" for each in (when, norm) if each)
    said: dict[str, Any] = {"when": when, "scales": "state.o"}
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
        Weight(stem + "conv1d.weight", f"({PARTS}) <- 1 taps", "state.*_conv", **said),
        Weight(
            stem + "conv1d.bias",
            f"-> ({PARTS})",
            "state.*_conv.bias",
            when=both,
            scales="state.o",
            centred=True,
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
    "state_dim": "mamba_d_state",
    "taps": "mamba_d_conv",
}
INNER = "state_heads * state_group * state_value_dim"
WIDTHS = (
    Key("mamba_n_groups", "state_heads", 1),
    Key("mamba_n_heads", "state_heads * state_group", 128),
    Key("mamba_d_state", "state_dim", 256),
    Key("mamba_d_conv", "taps", 4),
    Key("mamba_conv_bias", default=True),
    Key("mamba_proj_bias", default=False),
)
# The class computes the width from hidden, by a whole number.
EXPANDED = (Key("mamba_expand", f"{INNER} // hidden", 2), *WIDTHS)
WHOLE = f"{INNER} % hidden == 0"

in_layer = partial(
    mamba2, L + "mamba.", eps="rms_norm_eps", conv_bias="mamba_conv_bias", bias="mamba_proj_bias"
)
GRANITE_STATES = in_layer(LINEAR)
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
    more=(
        *EXPANDED,
        Key("shared_intermediate_size", "shared_ffn", 1024),
        Key("num_local_experts", "experts", 8, when="num_local_experts"),
    ),
    lacks="shared_intermediate_size num_local_experts",
    attentions=(
        Attention(scale="attention_multiplier", rope=Rope(when="position_embedding_type == 'rope'")),
        SCAN,
    ),
    per_layer=(PerLayer("layer_types", "'linear_attention'"),),
    constraints=(*GRANITEMOESHARED.constraints, WHOLE),
    windows=("taps",),
)

# Its layers of attention are numbered in a list.
BAMBA_FULL = "attn_layer_indices and layers in attn_layer_indices"
BAMBA_STATES = in_layer(f"not ({BAMBA_FULL})")
F = L + "feed_forward."
SAID = Bias("mlp_bias")
FEED = (
    Weight(L + "pre_ff_layernorm.weight", "* hidden", "mlp_norm", PRE),
    Weight(F + "gate_proj.weight", "ffn <- hidden", "mlp.gate", bias=SAID),
    Weight(F + "up_proj.weight", "ffn <- hidden", "mlp.up", bias=SAID),
    Weight(F + "down_proj.weight", "hidden <- ffn", "mlp.down", bias=SAID),
)
LAST = Weight("final_layernorm.weight", "* hidden", "final_norm", PRE)

# The defaults of Bamba's and Falcon-H1's configs.
BESIDE = dict[str, Any](
    vocab_size=128000,
    intermediate_size=14336,
    num_key_value_heads=8,
    rms_norm_eps=1e-5,
    attention_bias=False,
    mlp_bias=False,
)
BAMBA = like(
    LLAMA,
    "bamba",
    alter(ATTENTION, when=BAMBA_FULL, bias=Bias("attention_bias")),
    after("attn.o", *BAMBA_STATES[0], *BAMBA_STATES[1]),
    swap(f"mlp_norm {MLP}", *FEED),
    swap("final_norm", LAST),
    axes={**LLAMA.axes, **SIZES},
    defaults=BESIDE,
    more=(*EXPANDED, Key("attn_layer_indices", default=[])),
    attentions=(Attention(rope=Rope(share=SHARE, portion=0.5)), SCAN),
    constraints=(*EQUAL, WHOLE),
    kinds=(Kinds("attn_layer_indices", BAMBA_FULL),),
    windows=("taps",),
    # The class says for all models that a half of each head rotates.
    refusals={"key_dim": "its class has a half of each head rotate, whatever the config says"},
)

H1_STATES = in_layer("", out_bias="projectors_bias", norm="mamba_rms_norm")
FALCON_H1 = like(
    LLAMA,
    "falcon_h1",
    alter(ATTENTION, bias=Bias("attention_bias")),
    # Both read the residual before either writes to it.
    before("attn.o", *H1_STATES[0]),
    after("attn.o", *H1_STATES[1]),
    swap(f"mlp_norm {MLP}", *FEED),
    swap("final_norm", LAST),
    axes={**LLAMA.axes, **SIZES, "state_value_dim": "mamba_d_ssm // mamba_n_heads"},
    defaults=BESIDE | dict(projectors_bias=False, mamba_rms_norm=False, mamba_expand=2),
    more=(Key("mamba_d_ssm", INNER, 1024, null="mamba_expand * hidden_size"), *WIDTHS),
    attentions=(*LLAMA.attentions, SCAN),
    constraints=EQUAL,
    windows=("taps",),
)

BACKBONE_EPS = "layer_norm_epsilon"
N, X = L + "norm.weight", L + "mixer."
NORMED = Norm("rms", "pre", eps=BACKBONE_EPS)
PURE = mamba2(X, "", BACKBONE_EPS, "use_conv_bias", "use_bias")
MAMBA2 = Layout(
    family="mamba2",
    model_types=("mamba2",),
    weights=(
        Weight("embeddings.weight", "vocab -> hidden", "embed"),
        Weight(N, "* hidden", "state_norm", NORMED),
        *PURE[0],
        *PURE[1],
        Weight("norm_f.weight", "* hidden", "final_norm", NORMED),
        LM,
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "layers": "num_hidden_layers",
        "state_heads": "n_groups",
        "state_group": "num_heads // n_groups",
        "state_value_dim": "head_dim",
        "state_dim": "state_size",
        "taps": "conv_kernel",
    },
    keys=(
        Key("vocab_size", default=32768),
        Key("hidden_size", "hidden", 4096),
        Key("num_hidden_layers", "layers", 64),
        Key("expand", f"{INNER} // hidden", 2),
        Key("n_groups", "state_heads", 8),
        Key("num_heads", "state_heads * state_group", 128),
        Key("head_dim", "state_value_dim", 64),
        Key("state_size", "state_dim", 128),
        Key("conv_kernel", "taps", 4),
        Key("use_bias", default=False),
        Key("use_conv_bias", default=True),
        Key(BACKBONE_EPS, default=1e-5),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("backbone.", ""),
    attentions=(SCAN,),
    constraints=(WHOLE,),
    windows=("taps",),
)

# One mixer a layer; the list of its kinds, or a word with one letter for each.
KIND = "layers_block_type[layers]"
IS = {
    kind: f"{KIND} == '{kind}' or {KIND} == '{letter}'"
    for kind, letter in (("linear_attention", "M"), ("full_attention", "*"), ("mlp", "-"), ("moe", "E"))
}
MIXER = mamba2(X, f"{IS['linear_attention']} or {KIND} == 'mamba'", BACKBONE_EPS, "use_conv_bias", "use_bias")
FULL_H = f"{IS['full_attention']} or {KIND} == 'attention'"
DENSE, SPARSE = IS["mlp"], IS["moe"]
ONE = "norm_topk_prob and num_experts_per_tok == 1"
EACH = X + "experts.{experts}."
NEMOTRON_H = like(
    MAMBA2,
    "nemotron_h",
    swap("state_norm", Weight(N, "* hidden", "mixer_norm", NORMED)),
    alter("head", tied=""),  # its class ties nothing, whatever the config says
    swap(
        " ".join(dict.fromkeys(row.slot for rows in PURE for row in rows)),
        *MIXER[0],
        *MIXER[1],
        Weight(X + "q_proj.weight", "(kv_heads group key_dim) <- hidden", "attn.q", when=FULL_H),
        Weight(X + "k_proj.weight", "(kv_heads key_dim) <- hidden", "attn.k", when=FULL_H),
        Weight(X + "v_proj.weight", "(kv_heads value_dim) <- hidden", "attn.v", when=FULL_H),
        Weight(X + "o_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o", when=FULL_H),
        Weight(X + "up_proj.weight", "ffn <- hidden", "mlp.up", when=DENSE, bias=SAID),
        Weight(X + "down_proj.weight", "hidden <- ffn", "mlp.down", when=DENSE, bias=SAID),
        router(X, SPARSE, ONE),
        Weight(X + "gate.e_score_correction_bias", "-> experts", "router.choice", when=SPARSE, idle="True"),
        Weight(EACH + "up_proj.weight", "expert_ffn <- hidden", "experts.up", when=SPARSE),
        Weight(
            X + "shared_experts.up_proj.weight", "shared_ffn <- hidden", "shared.up", when=SPARSE, bias=SAID
        ),
        Weight(EACH + "down_proj.weight", "hidden <- expert_ffn", "experts.down", when=SPARSE),
        Weight(
            X + "shared_experts.down_proj.weight",
            "hidden <- shared_ffn",
            "shared.down",
            when=SPARSE,
            bias=SAID,
        ),
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "expert_ffn": "moe_intermediate_size",
        "shared_ffn": "moe_shared_expert_intermediate_size",
        "experts": "n_routed_experts",
        "kv_heads": "num_key_value_heads",
        "group": "num_attention_heads // num_key_value_heads",
        "key_dim": "head_dim",
        "value_dim": "head_dim",
        "layers": "len(layers_block_type)",
        "state_heads": "n_groups",
        "state_group": "mamba_num_heads // n_groups",
        "state_value_dim": "mamba_head_dim",
        "state_dim": "ssm_state_size",
        "taps": "conv_kernel",
    },
    keys=(
        Key("vocab_size", default=131072),
        Key("hidden_size", "hidden", 4096),
        Key("intermediate_size", "ffn", 21504),
        Key("moe_intermediate_size", "expert_ffn", 7688),
        Key("moe_shared_expert_intermediate_size", "shared_ffn", 7688),
        Key("n_routed_experts", "experts", 8),
        Key("num_attention_heads", "kv_heads * group", 32),
        Key("num_key_value_heads", "kv_heads", 8, null="num_attention_heads"),
        Key("head_dim", "key_dim", 128),
        Key("n_groups", "state_heads", 8),
        Key("mamba_num_heads", "state_heads * state_group", 128),
        Key("mamba_head_dim", "state_value_dim", 64),
        Key("ssm_state_size", "state_dim", 128),
        Key("conv_kernel", "taps", 4),
        Key(
            "layers_block_type",
            default=["linear_attention", "moe", "full_attention", "mlp"],
            alias="hybrid_override_pattern",
        ),
        Key("use_bias", default=False),
        Key("use_conv_bias", default=True),
        Key("mlp_bias", default=False),
        Key("norm_topk_prob", default=True),
        Key("num_experts_per_tok", default=2),
        Key(BACKBONE_EPS, default=1e-5),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("model.", ""),
    attentions=(Attention(), SCAN),
    per_layer=(PerLayer("hybrid_override_pattern"), PerLayer("layers_block_type")),
    constraints=EQUAL,
    fixed=LLAMA.fixed | {"experts"},
    renames=(Rename("backbone.", "model."),),
    bindings=(
        Binding(
            "memory",
            {
                X + "experts.up_proj": ("experts.up", "{experts} expert_ffn <- hidden"),
                X + "experts.down_proj": ("experts.down", "{experts} hidden <- expert_ffn"),
            },
        ),
    ),
    foreign={
        r"fc[12]_latent_proj": "is a projection to the width that experts have of their own"
        " (moe_latent_size), which no rule grows around yet: grow a model without it",
        r"^mtp\.": FURTHER,
    },
)
LAYOUTS = (GRANITEMOEHYBRID, BAMBA, FALCON_H1, MAMBA2, NEMOTRON_H)
