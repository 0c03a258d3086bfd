"""Mixtures of experts whose config lists by name which layers are dense: GLM-4.7 Flash, A.X K1, HY 3,
K-EXAONE, Mellum 2, Command A+; and ERNIE 4.5, whose config counts them from both ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isogrow.families.cohere import PRE
from isogrow.families.cohere2 import COHERE2
from isogrow.families.deepseek import DEEPSEEK_V3, ONE, SHARED
from isogrow.families.deepseek import DENSE as FIRST
from isogrow.families.deepseek import SPARSE as LATER
from isogrow.families.edits import Edit, Rows, after, alter, before, like, swap
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.heads import FURTHER
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, L, M
from isogrow.families.llama import PRE as RMS
from isogrow.families.llama_kin import ERNIE4_5
from isogrow.families.olmo3 import EXAONE4
from isogrow.families.qwen3 import head_norms
from isogrow.families.qwen_moe import DENSE as SOME
from isogrow.families.qwen_moe import QWEN3_MOE
from isogrow.families.qwen_moe import SPARSE as OTHERS
from isogrow.layouts.layout import Attention, Bias, Key, Kinds, Norm, PerLayer, Rope, Weight

DENSE, SPARSE = "mlp_layer_types[layers] == 'dense'", "mlp_layer_types[layers] == 'sparse'"
ALONE = "num_experts_per_tok == 1"  # its weight is then the scale, whatever the router says
WIDE = "(shared expert_ffn)"
BRANCH = Norm("rms", "branch", eps="rms_norm_eps")


def listed(dense: str = FIRST, sparse: str = LATER) -> Edit:
    """The same rows, of layers that a list names."""
    said = {dense: DENSE, sparse: SPARSE}

    def edit(rows: Rows) -> Rows:
        return tuple(replace(row, when=said.get(row.when, row.when)) for row in rows)

    return edit


def kinds(formula: str) -> PerLayer:
    return PerLayer("mlp_layer_types", f"'dense' if {formula} else 'sparse'")


GLM4_MOE_LITE = like(
    DEEPSEEK_V3,
    "glm4_moe_lite",
    listed(),
    lacks="first_k_dense_replace",
    defaults=dict(
        vocab_size=154880,
        hidden_size=2048,
        intermediate_size=10240,
        moe_intermediate_size=1536,
        n_routed_experts=64,
        num_hidden_layers=47,
        num_attention_heads=20,
        num_key_value_heads=20,
        q_lora_rank=768,
        qk_nope_head_dim=192,
        v_head_dim=256,
        rms_norm_eps=1e-5,
        num_experts_per_tok=4,
    ),
    kinds=(),
    per_layer=(kinds("i == 0"),),
)

AXK1 = like(
    DEEPSEEK_V3,
    "axk1",
    listed(),
    after(
        "shared.down", Weight(L + "post_mlp_layernorm.weight", "* hidden", "mlp_after", BRANCH, when=SPARSE)
    ),
    lacks="first_k_dense_replace",
    defaults=dict(
        vocab_size=163840,
        n_routed_experts=192,
        num_attention_heads=64,
        num_key_value_heads=64,
        first_k_dense_replace=1,
        moe_layer_freq=1,
    ),
    kinds=(),
    per_layer=(kinds("i < first_k_dense_replace or i % moe_layer_freq"),),
    bindings=(stacked(M, "expert_ffn", mlp_after="post_mlp_layernorm.weight"),),
)

MIX = {**LLAMA.axes, "expert_ffn": "moe_intermediate_size", "experts": "num_experts"}
SIZES = (Key("moe_intermediate_size", "expert_ffn", 1536), Key("num_experts", "experts", 192))
PARTS = ("gate", "up", "down")
AS_ONE = {f"shared.{part}": f"shared_experts.{part}_proj.weight" for part in PARTS}

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

TABLE = "rope_parameters.{0}_attention"


def rope(kind: str, default: float, *others: Rope, **said: Any) -> Rope:
    """The rotary table of one kind of layers; this class reads none under an older name."""
    name = TABLE.format(kind)
    return Rope(theta=(f"{name}.rope_theta",), scaling=(name,), default=default, others=others, **said)


MELLUM = like(
    QWEN3_MOE,
    "mellum",
    listed(SOME, OTHERS),
    defaults=dict(
        vocab_size=98304,
        hidden_size=2304,
        intermediate_size=7168,
        moe_intermediate_size=896,
        num_hidden_layers=28,
        head_dim=128,
        num_experts=64,
        norm_topk_prob=True,
    ),
    lacks="decoder_sparse_step mlp_only_layers num_local_experts num_experts",
    more=(Key("num_experts", "experts", 64, alias="num_local_experts"),),
    attentions=(Attention(rope=rope("full", 500000.0, rope("sliding", 10000.0))),),
    kinds=(),
    per_layer=(PerLayer("layer_types", "'full_attention'"), kinds("False")),
    foreign={r"^mtp\.": FURTHER},
)

PLAIN, CENTRED = "rms_norm_eps", "not rms_norm_eps"
CHOSEN = "norm_topk_prob and expert_selection_fn == 'sigmoid' and num_experts_per_tok == 1"


def either(name: str, slot: str) -> tuple[Weight, Weight]:
    """A norm that is one with a mean or without, as the config has an ε for either."""
    return (
        Weight(name, "* hidden", slot, PRE, when=CENTRED),
        Weight(name, "* hidden", f"{slot}.rms", RMS, when=PLAIN),
    )


COHERE2_MOE = like(
    COHERE2,
    "cohere2_moe",
    swap("norm", *either(L + "input_layernorm.weight", "norm")),
    swap("final_norm", *either("norm.weight", "final_norm")),
    alter(MLP, when=DENSE),
    # What reads the norm's output stands before what writes: attention's output is added with the MLP's.
    before(
        "attn.o",
        router(M, SPARSE, CHOSEN),
        *readers(M, "expert_ffn", SPARSE),
        *shared_readers(SHARED, WIDE, f"{SPARSE} and num_shared_experts"),
    ),
    after(
        "mlp.down",
        writer(M, "expert_ffn", SPARSE),
        shared_writer(SHARED, WIDE, f"{SPARSE} and num_shared_experts"),
    ),
    axes={
        **LLAMA.axes,
        "ffn": "prefix_dense_intermediate_size",
        "expert_ffn": "intermediate_size",
        "experts": "num_experts",
        "shared": "num_shared_experts or None",
    },
    lacks="intermediate_size",
    defaults=dict(
        head_dim=128,
        first_k_dense_replace=0,
        prefix_dense_sliding_window_pattern=1,
        norm_topk_prob=True,
        expert_selection_fn="'softmax'",
        num_experts_per_tok=2,
        rms_norm_eps=0,
    ),
    more=(
        *COHERE2.keys[-1:],
        Key("intermediate_size", "expert_ffn", 22528),
        Key("prefix_dense_intermediate_size", "ffn", "intermediate_size"),
        Key("num_experts", "experts", 8),
        Key("num_shared_experts", "shared", 0, when="num_shared_experts"),
    ),
    # Layers without a window turn nothing, but for dense ones where the pattern of those is 1.
    attentions=(Attention(rope=Rope("adjacent", everywhere=False)),),
    per_layer=(
        PerLayer(
            "layer_types",
            "'sliding_attention' if ((i + 1) % prefix_dense_sliding_window_pattern"
            " if i < first_k_dense_replace else (i + 1 - first_k_dense_replace) % sliding_window_pattern)"
            " else 'full_attention'",
        ),
        kinds("i < first_k_dense_replace"),
    ),
    fixed=LLAMA.fixed | {"experts", "shared"},
    bindings=(stacked(M, "expert_ffn"),),
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

LAYOUTS = (GLM4_MOE_LITE, AXK1, HY_V3, EXAONE_MOE, MELLUM, COHERE2_MOE, ERNIE4_5_MOE)
