"""Lara Mini (transformers 5.24): Flint's mixtures beside gated delta nets, whose readers its files fuse; only
layers with a window have positions."""

from __future__ import annotations

from isogrow.families.delta import (
    BENT,
    EACH,
    HELD,
    MIXES,
    QKV,
    READ,
    SIZES,
    WIDTHS,
    D,
    delta_reader,
    delta_state,
)
from isogrow.families.edits import after, alter, drop, like, with_defaults
from isogrow.families.experts import stacked
from isogrow.families.flint import FLINT
from isogrow.families.llama import ATTENTION, MLP, M
from isogrow.layouts.layout import Attention, Binding, Key, PerLayer, Rope

ATTENDS = "layer_types[layers] == 'sliding_attention' or layer_types[layers] == 'full_attention'"
EXPERTS = "router experts.gate experts.up shared.gate shared.up experts.down shared.down"
FUSED = f"(q: {READ} + k: {READ} + v: {HELD} + z: {HELD} + beta: {EACH} + rate: {EACH})"

LARA_MINI = like(
    FLINT,
    "lara_mini",
    drop(f"{MLP} attn.sinks"),
    alter(f"{ATTENTION} attn.q_norm attn.k_norm", when=ATTENDS),
    alter(EXPERTS, when=""),
    alter("router", idle="norm_topk_prob and num_experts_per_tok == 1"),
    after("attn.o", *delta_state(delta_reader("in_proj.weight", FUSED, "state.*", clamp=BENT, scales=MIXES))),
    alter("state.norm", name=D + "out_norm.weight"),
    axes={**{axis: said for axis, said in FLINT.axes.items() if axis != "ffn"}, **SIZES},
    lacks="intermediate_size mlp_only_layers num_experts shared_expert_intermediate_size decoder_sparse_step",
    defaults=dict(
        vocab_size=151936,
        hidden_size=1024,
        num_hidden_layers=34,
        num_attention_heads=16,
        num_key_value_heads=4,
        num_experts_per_tok=4,
        tie_word_embeddings=True,
    ),
    more=(
        Key("num_experts", "experts", 128),
        Key("shared_expert_intermediate_size", "shared_ffn", 512),
        *with_defaults(WIDTHS, linear_num_key_heads=8, linear_num_value_heads=16),
    ),
    attentions=(Attention(rope=Rope(everywhere=False)),),
    kinds=(),
    per_layer=(
        PerLayer(
            "layer_types",
            "'full_attention' if i % 5 == 3 else 'linear_attention' if i % 5 == 0 or i % 5 == 2"
            " else 'sliding_attention'",
        ),
    ),
    windows=("taps",),
    bindings=(
        Binding(
            "memory",
            {
                D + "in_proj_qkv.weight": ("state.*", f"{QKV} <- hidden"),
                D + "in_proj_z.weight": ("state.z", f"({HELD}) <- hidden"),
                D + "in_proj_b.weight": ("state.beta", f"({EACH}) <- hidden"),
                D + "in_proj_a.weight": ("state.rate", f"({EACH}) <- hidden"),
                D + "norm.weight": "state.norm",
                **stacked(M, "expert_ffn").places,
            },
        ),
    ),
)

LAYOUTS = (LARA_MINI,)
