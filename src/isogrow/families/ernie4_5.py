"""ERNIE 4.5: Llama with rotary pairs side by side, also with experts between two layers."""

from __future__ import annotations

from isogrow.families.deepseek import SHARED
from isogrow.families.edits import after, alter, like
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.heads import FURTHER
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, M
from isogrow.families.mlp_layer_types import WIDE
from isogrow.layouts.layout import Attention, Bias, Key, Kinds, Rope, Weight

ERNIE4_5 = like(
    LLAMA,
    "ernie4_5",
    alter(ATTENTION + " " + MLP, bias=Bias("use_bias")),
    defaults=dict(
        vocab_size=103424,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=18,
        num_attention_heads=16,
        num_key_value_heads=2,
        head_dim=128,
        rms_norm_eps=1e-5,
        use_bias=False,
        tie_word_embeddings=True,
    ),
    attentions=(Attention(rope=Rope("adjacent", default=500000.0)),),
    constraints=EQUAL,
)

# Written out, the last number is that of the last layer.
LAST = "num_hidden_layers - 1"
BEYOND = f"(moe_layer_end_index >= 0 and moe_layer_end_index != {LAST} and layers > moe_layer_end_index)"
PLAIN_MLP = f"layers < moe_layer_start_index or (layers + 1) % moe_layer_interval or {BEYOND}"
MIXTURE = f"not ({PLAIN_MLP})"
SHARES = f"({MIXTURE}) and moe_num_shared_experts"

ERNIE4_5_MOE = like(
    ERNIE4_5,
    "ernie4_5_moe",
    alter("head", bias=Bias("use_bias")),
    alter(MLP, when=PLAIN_MLP),
    after(
        "mlp.down",
        router(M, MIXTURE, "moe_k == 1"),
        Weight(
            M + "moe_statics.e_score_correction_bias",
            "-> 1 experts",
            "router.choice",
            when=MIXTURE,
            idle="True",
        ),
        *readers(M, "expert_ffn", MIXTURE),
        *shared_readers(SHARED, WIDE, SHARES, Bias("use_bias")),
        writer(M, "expert_ffn", MIXTURE),
        shared_writer(SHARED, WIDE, SHARES, Bias("use_bias")),
    ),
    axes={
        **LLAMA.axes,
        "expert_ffn": "moe_intermediate_size",
        "experts": "moe_num_experts",
        "shared": "moe_num_shared_experts or None",
    },
    defaults=dict(
        hidden_size=2560,
        intermediate_size=12288,
        num_hidden_layers=28,
        num_attention_heads=20,
        num_key_value_heads=4,
        head_dim="hidden_size // num_attention_heads",
        moe_k=6,
        moe_layer_start_index=1,
        moe_layer_interval=1,
    ),
    more=(
        Key("moe_intermediate_size", "expert_ffn", 1536),
        Key("moe_num_experts", "experts", 64, alias="num_experts"),
        Key("moe_num_shared_experts", "shared", 2, when="moe_num_shared_experts"),
        Key("moe_layer_end_index", "layers - 1", LAST, when=f"moe_layer_end_index == {LAST}"),
    ),
    kinds=(Kinds("moe_layer_start_index", PLAIN_MLP, counts=True),),
    fixed=LLAMA.fixed | {"experts", "shared"},
    foreign={r"mtp": FURTHER},
    bindings=(stacked(M, "expert_ffn", **{"router.choice": "gate.moe_statics.e_score_correction_bias"}),),
)

LAYOUTS = (ERNIE4_5, ERNIE4_5_MOE)
