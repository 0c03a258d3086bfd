"""AFMoE (Trinity): gates on what attention gives, norms before and behind each branch, dense layers first,
then mixtures of experts with shared ones; no positions in layers without a window."""

from __future__ import annotations

from isogrow.families.edits import after, alter, like, swap
from isogrow.families.experts import readers, shared_readers, shared_writer, stacked, writer
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, A, L, M
from isogrow.families.qwen3 import head_norms
from isogrow.layouts.layout import Attention, Bias, Key, Kinds, Norm, PerLayer, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
BRANCH = Norm("rms", "branch", eps="rms_norm_eps")
SHARED = M + "shared_experts."
DENSE, SPARSE = "layers < num_dense_layers", "layers >= num_dense_layers"
ONE = "num_experts_per_tok == 1"  # its weight is then the scale, whatever the router says

AFMOE = like(
    LLAMA,
    "afmoe",
    alter("embed", times="hidden ** 0.5 if mup_enabled else 1"),
    alter(ATTENTION, bias=Bias("attention_bias")),
    after(
        "attn.v",
        *head_norms(),
        Weight(A + "gate_proj.weight", "(kv_heads group value_dim) <- hidden", "attn.gate"),
    ),
    swap(
        "mlp_norm",
        Weight(L + "post_attention_layernorm.weight", "* hidden", "attn_after", BRANCH),
        Weight(L + "pre_mlp_layernorm.weight", "* hidden", "mlp_norm", PRE),
    ),
    alter(MLP, when=DENSE, bias=None),
    after(
        "mlp.down",
        Weight(
            M + "router.gate.weight",
            "experts <- hidden",
            "router",
            when=SPARSE,
            scales="experts.down",
            idle=ONE,
        ),
        Weight(M + "expert_bias", "-> experts", "router.choice", when=SPARSE, idle="True"),
        *readers(M, "expert_ffn", SPARSE),
        *shared_readers(SHARED, "(shared expert_ffn)", SPARSE),
        writer(M, "expert_ffn", SPARSE),
        shared_writer(SHARED, "(shared expert_ffn)", SPARSE),
        Weight(L + "post_mlp_layernorm.weight", "* hidden", "mlp_after", BRANCH),
    ),
    axes={
        **LLAMA.axes,
        "expert_ffn": "moe_intermediate_size",
        "experts": "num_experts",
        "shared": "num_shared_experts",
    },
    defaults=dict(
        vocab_size=200192,
        hidden_size=2048,
        intermediate_size=6144,
        num_attention_heads=16,
        head_dim=128,
        rms_norm_eps=1e-5,
        num_dense_layers=1,
        num_experts_per_tok=6,
        global_attn_every_n_layers=4,
        mup_enabled=False,
        attention_bias=False,
    ),
    more=(
        Key("moe_intermediate_size", "expert_ffn", 1408),
        Key("num_experts", "experts", 64),
        Key("num_shared_experts", "shared", 2),
    ),
    attentions=(Attention(rope=Rope(everywhere=False)),),
    per_layer=(
        PerLayer(
            "layer_types",
            "'sliding_attention' if (i + 1) % global_attn_every_n_layers else 'full_attention'",
        ),
    ),
    constraints=EQUAL,
    kinds=(Kinds("num_dense_layers", DENSE, counts=True),),
    fixed=LLAMA.fixed | {"experts", "shared"},
    bindings=(stacked(M, "expert_ffn"),),
)

LAYOUTS = (AFMOE,)
