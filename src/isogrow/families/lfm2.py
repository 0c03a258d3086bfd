"""LFM2: short convolutions in some layers, attention in the others; a convolution has as many channels as
hidden, so that they grow with it.

    y = out(C * conv(B * x)),   B, C, x = in(norm(h))

All of it acts channel by channel, so a new channel is as free as one of an MLP, and what reads it is zero.
"""

from __future__ import annotations

from isogrow.families.edits import after, alter, like, swap
from isogrow.families.experts import readers, stacked, writer
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, A, L
from isogrow.layouts.layout import Attention, Bias, Key, Kinds, Norm, PerLayer, Rope, Weight

PRE = Norm("rms", "pre", eps="norm_eps")
C, F = L + "conv.", L + "feed_forward."
CONV, FULL = "layer_types[layers] == 'conv'", "layer_types[layers] == 'full_attention'"
SAID = Bias("conv_bias")
NAMES = ("w1", "w3", "w2")
# The class may compute the width of the MLP from the key.
WIDTH = (
    "block_multiple_of * ((int((block_ffn_dim_multiplier or 1) * int(2 * intermediate_size / 3))"
    " + block_multiple_of - 1) // block_multiple_of) if block_auto_adjust_ff_dim else intermediate_size"
)
SAYS = f"intermediate_size if ({WIDTH}) == ffn else (3 * ffn + 1) // 2 if block_auto_adjust_ff_dim else ffn"


def _dense(when: str = "") -> tuple[Weight, ...]:
    return (
        Weight(F + "w1.weight", "ffn <- hidden", "mlp.gate", when=when),
        Weight(F + "w3.weight", "ffn <- hidden", "mlp.up", when=when),
        Weight(F + "w2.weight", "hidden <- ffn", "mlp.down", when=when),
    )


LFM2 = like(
    LLAMA,
    "lfm2",
    swap("attn_norm", Weight(L + "operator_norm.weight", "* hidden", "attn_norm", PRE)),
    alter(ATTENTION, when=FULL, bias=None),
    after(
        "attn.k",
        *(
            Weight(
                A + f"{side}_layernorm.weight",
                "* key_dim",
                f"attn.{side}_norm",
                Norm("rms", "inner", eps="norm_eps", of=f"attn.{side}"),
                when=FULL,
            )
            for side in "qk"
        ),
    ),
    swap(
        "attn.o",
        Weight(A + "out_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o", when=FULL),
        Weight(
            C + "in_proj.weight",
            "(write: conv + read: conv + x: conv) <- hidden",
            "conv.*",
            when=CONV,
            bias=SAID,
        ),
        Weight(C + "conv.weight", "conv <- 1 taps", "conv.taps", when=CONV),
        Weight(C + "conv.bias", "-> conv", "conv.shift", when=f"{CONV} and conv_bias"),
        Weight(C + "out_proj.weight", "hidden <- conv", "conv.out", when=CONV, bias=SAID),
    ),
    swap("mlp_norm", Weight(L + "ffn_norm.weight", "* hidden", "mlp_norm", PRE)),
    swap(MLP, *_dense()),
    swap("final_norm", Weight("embedding_norm.weight", "* hidden", "final_norm", PRE)),
    axes={**LLAMA.axes, "ffn": WIDTH, "conv": "hidden_size", "taps": "conv_L_cache"},
    defaults=dict(
        vocab_size=65536,
        hidden_size=2560,
        num_key_value_heads=8,
        block_multiple_of=256,
        block_ffn_dim_multiplier=1.0,
        block_auto_adjust_ff_dim=True,
        norm_eps=1e-5,
        conv_bias=False,
    ),
    more=(
        Key("intermediate_size", SAYS, 12288, alias="block_ff_dim"),
        Key("tie_word_embeddings", default=True, alias="tie_embedding"),
        Key("conv_L_cache", "taps", 3),
        Key("full_attn_idxs", default=[*range(32)]),
    ),
    lacks="intermediate_size tie_word_embeddings rms_norm_eps",
    attentions=(Attention(rope=Rope(default=1e6)),),
    constraints=(*EQUAL, "not block_auto_adjust_ff_dim or ffn % block_multiple_of == 0"),
    per_layer=(
        PerLayer(
            "layer_types",
            "'full_attention' if i in full_attn_idxs else 'conv'",
        ),
    ),
    follows={"conv": "hidden"},
    windows=("taps",),
)

DENSE, SPARSE = "layers < num_dense_layers", "layers >= num_dense_layers"
LFM2_MOE = like(
    LFM2,
    "lfm2_moe",
    swap(
        MLP,
        *_dense(DENSE),
        Weight(F + "gate.weight", "experts <- hidden", "router", when=SPARSE, scales="experts.down"),
        Weight(
            F + "expert_bias",
            "-> experts",
            "router.choice",
            when=f"{SPARSE} and use_expert_bias",
            idle="True",
        ),
        *readers(F, "expert_ffn", SPARSE, NAMES),
        writer(F, "expert_ffn", SPARSE, NAMES),
    ),
    axes={
        **LFM2.axes,
        "ffn": "intermediate_size",
        "expert_ffn": "moe_intermediate_size",
        "experts": "num_experts",
    },
    defaults=dict(hidden_size=2048),
    more=(
        Key("intermediate_size", "ffn", 7168),
        Key("moe_intermediate_size", "expert_ffn", 1792),
        Key("num_experts", "experts", 32),
        Key("num_dense_layers", default=2),
        Key("use_expert_bias", default=True),
    ),
    lacks="intermediate_size block_multiple_of block_ffn_dim_multiplier block_auto_adjust_ff_dim"
    " full_attn_idxs",
    constraints=EQUAL,
    kinds=(Kinds("num_dense_layers", DENSE, counts=True),),
    per_layer=(PerLayer("layer_types"),),
    fixed=LFM2.fixed | {"experts"},
    bindings=(stacked(F, "expert_ffn"),),
)

LAYOUTS = (LFM2, LFM2_MOE)
