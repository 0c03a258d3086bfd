"""HY 3 and K-EXAONE: Llama with norms on queries and keys, and a mixture with shared experts in layers that a
list names."""

from __future__ import annotations

from isogrow.families.deepseek import ONE, SHARED
from isogrow.families.edits import after, alter, like, swap
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.heads import FURTHER
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, M
from isogrow.families.mlp_layer_types import ALONE, AS_ONE, DENSE, MIX, SIZES, SPARSE, WIDE, kinds
from isogrow.families.olmo3 import EXAONE4
from isogrow.families.qwen3 import head_norms
from isogrow.layouts.layout import Attention, Bias, Key, Rope, Weight

HY_V3 = like(
    LLAMA,
    "hy_v3",
    alter(ATTENTION, bias=Bias("attention_bias")),
    after("attn.k", *head_norms()),
    alter(MLP, when=DENSE, bias=Bias("mlp_bias")),
    after(
        "mlp.down",
        router(M + "router.", SPARSE, ALONE),
        Weight(M + "expert_bias", "-> experts", "router.choice", when=SPARSE, idle="True"),
        *readers(M, "expert_ffn", SPARSE),
        *shared_readers(M + "shared_mlp.", WIDE, SPARSE, Bias("mlp_bias")),
        writer(M, "expert_ffn", SPARSE),
        shared_writer(M + "shared_mlp.", WIDE, SPARSE, Bias("mlp_bias")),
    ),
    axes={**MIX, "shared": "num_shared_experts"},
    defaults=dict(
        vocab_size=120832,
        intermediate_size=13312,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        head_dim=128,
        rms_norm_eps=1e-5,
        attention_bias=False,
        mlp_bias=False,
        num_experts_per_tok=8,
    ),
    more=(*SIZES, Key("num_shared_experts", "shared", 1)),
    attentions=(Attention(rope=Rope(default=11158840.0)),),
    constraints=EQUAL,
    per_layer=(kinds("i == 0"),),
    fixed=LLAMA.fixed | {"experts", "shared"},
    bindings=(
        stacked(
            M, "expert_ffn", router="gate.weight", **{"router.choice": "e_score_correction_bias"}, **AS_ONE
        ),
    ),
)

EXAONE_MOE = like(
    HY_V3,
    "exaone_moe",
    alter(f"{ATTENTION} {MLP} shared.gate shared.up shared.down", bias=None),
    swap("router", router(M, SPARSE, ONE)),
    swap(
        "router.choice",
        Weight(M + "e_score_correction_bias", "-> experts", "router.choice", when=SPARSE, idle="True"),
    ),
    swap("shared.gate shared.up", *shared_readers(SHARED, WIDE, SPARSE)),
    swap("shared.down", shared_writer(SHARED, WIDE, SPARSE)),
    lacks="attention_bias mlp_bias",
    defaults=dict(
        vocab_size=102400,
        intermediate_size=16384,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        head_dim="hidden_size // num_attention_heads",
        moe_intermediate_size=1024,
        num_experts=64,
        norm_topk_prob=True,
        first_k_dense_replace=1,
        sliding_window_pattern=4,
    ),
    attentions=(Attention(rope=Rope(everywhere=False)),),
    per_layer=(kinds("i < first_k_dense_replace"), *EXAONE4.per_layer),
    foreign={r"^mtp": FURTHER},
    bindings=(stacked(M, "expert_ffn", **{"router.choice": "gate.e_score_correction_bias"}),),
)

LAYOUTS = (HY_V3, EXAONE_MOE)
