"""Qwen2-MoE, Qwen3-MoE: mixtures of experts in some layers, dense MLPs in the others; Qwen2's have a shared
expert with a gate, Qwen3's norms on queries and keys."""

from __future__ import annotations

from isogrow.families.edits import after, alter, like, with_defaults
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.llama import EQUAL, LLAMA, MLP, M
from isogrow.families.qwen3 import QWEN3
from isogrow.layouts.layout import Bias, Key, Kinds, PerLayer, Weight

DENSE = "layers in mlp_only_layers or (layers + 1) % decoder_sparse_step != 0"
SPARSE = f"not ({DENSE})"
ONE = "norm_topk_prob and num_experts_per_tok == 1"  # its weight is then 1, whatever the router says
SHARED = M + "shared_expert."

KEYS = with_defaults(
    (
        Key("vocab_size"),
        Key("hidden_size", "hidden"),
        Key("moe_intermediate_size", "expert_ffn"),
        Key("intermediate_size", "ffn"),
        Key("num_hidden_layers", "layers"),
        Key("num_attention_heads", "kv_heads * group"),
        Key("num_key_value_heads", "kv_heads", null="num_attention_heads"),
        Key("head_dim", "key_dim"),
        Key("num_experts", "experts"),
    ),
    vocab_size=151936,
    hidden_size=2048,
    num_hidden_layers=24,
    head_dim="hidden_size // num_attention_heads",
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
    decoder_sparse_step=1,
    mlp_only_layers=[],
    norm_topk_prob=False,
)
KINDS = (Kinds("mlp_only_layers", DENSE, beside=(("decoder_sparse_step", 1),)),)


QWEN2_MOE = like(
    LLAMA,
    "qwen2_moe",
    alter("attn.q attn.k attn.v", bias=Bias("qkv_bias")),
    alter("attn.o", bias=None),
    alter(MLP, when=DENSE, bias=None),
    after(
        "mlp.down",
        router(M, SPARSE, ONE),
        *readers(M, "expert_ffn", SPARSE),
        *shared_readers(SHARED, "shared_ffn", SPARSE),
        Weight(M + "shared_expert_gate.weight", "1 <- hidden", "choice", when=SPARSE, scales="shared.down"),
        writer(M, "expert_ffn", SPARSE),
        shared_writer(SHARED, "shared_ffn", SPARSE),
    ),
    axes={
        **LLAMA.axes,
        "experts": "num_experts",
        "expert_ffn": "moe_intermediate_size",
        "shared_ffn": "shared_expert_intermediate_size",
    },
    keys=(
        *with_defaults(
            KEYS,
            intermediate_size=5632,
            moe_intermediate_size=1408,
            num_attention_heads=16,
            num_key_value_heads=16,
            num_experts=60,
            num_experts_per_tok=4,
            qkv_bias=True,
            use_sliding_window=False,
            max_window_layers=28,
        ),
        Key("shared_expert_intermediate_size", "shared_ffn", 5632),
    ),
    constraints=EQUAL,
    per_layer=(
        PerLayer(
            "layer_types",
            "'sliding_attention' if (i + 1) % 2 and i < max_window_layers and use_sliding_window"
            " else 'full_attention'",
        ),
    ),
    kinds=KINDS,
    fixed=LLAMA.fixed | {"experts"},
    bindings=(stacked(M, "expert_ffn"),),
)

QWEN3_MOE = like(
    QWEN3,
    "qwen3_moe",
    alter(MLP, when=DENSE, bias=None),
    after(
        "mlp.down", router(M, SPARSE, ONE), *readers(M, "expert_ffn", SPARSE), writer(M, "expert_ffn", SPARSE)
    ),
    axes={**LLAMA.axes, "experts": "num_experts", "expert_ffn": "moe_intermediate_size"},
    keys=with_defaults(
        KEYS,
        intermediate_size=6144,
        moe_intermediate_size=768,
        num_attention_heads=32,
        num_key_value_heads=4,
        num_experts="num_local_experts",  # configs have either name
        num_local_experts=128,
        num_experts_per_tok=8,
    ),
    per_layer=(),
    kinds=KINDS,
    fixed=LLAMA.fixed | {"experts"},
    bindings=(stacked(M, "expert_ffn"),),
)

LAYOUTS = (QWEN2_MOE, QWEN3_MOE)
