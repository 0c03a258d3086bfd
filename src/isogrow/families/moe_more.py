"""More mixtures of experts: Aria's and Phi-3.5's, DBRX, Llama 4, Laguna; DeepSeek-V2, and DeepSeek-V3.2,
whose attention reads the tokens that an indexer chooses."""

from __future__ import annotations

from isogrow.families.afmoe import AFMOE
from isogrow.families.deepseek import DEEPSEEK_V3, SHARED
from isogrow.families.edits import after, alter, drop, like, swap, with_defaults
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.heads import LM
from isogrow.families.listed import ALONE, AS_ONE, DENSE, SPARSE, kinds, listed, rope
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, A, L, M
from isogrow.families.llama_more import NO_GAIN
from isogrow.families.mixtral import MIXTRAL
from isogrow.layouts.layout import Attention, Bias, Binding, Key, Kinds, Layout, Norm, PerLayer, Rope, Weight

SAID = Bias("attention_bias")
BOTH = "{experts} hidden -> (gate: ffn + up: ffn)"  # stored in × out

ARIA = like(
    LLAMA,
    "aria_text",
    alter(ATTENTION, bias=SAID),
    swap(
        MLP,
        Weight(
            M + "router.weight", "experts <- hidden", "router", scales="experts.down", idle="moe_topk == 1"
        ),
        Weight(M + "experts.fc1.weight", BOTH, "experts.*"),
        *shared_readers(SHARED, "(shared ffn)", bias=Bias("mlp_bias")),
        Weight(M + "experts.fc2.weight", "{experts} ffn -> hidden", "experts.down"),
        shared_writer(SHARED, "(shared ffn)", bias=Bias("mlp_bias")),
    ),
    drop("score span"),
    axes={**LLAMA.axes, "experts": "moe_num_experts", "shared": "moe_num_shared_experts"},
    defaults=dict(intermediate_size=4096, attention_bias=False, mlp_bias=False, moe_topk=2),
    more=(Key("moe_num_experts", "experts", 8), Key("moe_num_shared_experts", "shared", 2)),
    fixed=LLAMA.fixed | {"experts", "shared"},
    bindings=(
        Binding(
            "memory",
            {M + "experts.gate_up_proj": "experts.*", M + "experts.down_proj": "experts.down"},
        ),
    ),
)

PRE = Norm("layer", "pre", eps="rms_norm_eps")
PHIMOE = like(
    MIXTRAL,
    "phimoe",
    alter("attn_norm mlp_norm final_norm", norm=PRE, bias=Bias()),
    alter(ATTENTION, bias=SAID),
    # In training experts are drawn at random; otherwise none but those near the best one have a weight.
    alter("router", idle="True"),
    swap("head", like(LLAMA, "head", alter("head", bias=Bias("lm_head_bias"))).weights[-3]),
    defaults=dict(
        vocab_size=32064,
        intermediate_size=6400,
        num_local_experts=16,
        attention_bias=False,
        lm_head_bias=False,
    ),
    attentions=(Attention(rope=Rope()),),
    bindings=(stacked(M, "ffn", router="router.weight"),),
)

B = "blocks.{layers}."
N, F = B + "norm_attn_norm.", B + "ffn."
CLIP = "attn_config.clip_qkv"
PLAIN = Norm("layer", "pre", eps=1e-5)
QKV = "(q: kv_heads group key_dim + k: kv_heads key_dim + v: kv_heads value_dim)"
DBRX = Layout(
    family="dbrx",
    model_types=("dbrx",),
    weights=(
        Weight("wte.weight", "vocab -> hidden", "embed"),
        Weight(N + "norm_1.weight", "* hidden", "attn_norm", PLAIN),
        Weight(N + "attn.Wqkv.weight", f"{QKV} <- hidden", "attn.*", clamp=CLIP),
        Weight(N + "attn.out_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o"),
        Weight(N + "norm_2.weight", "* hidden", "mlp_norm", PLAIN),
        Weight(
            F + "router.layer.weight",
            "experts <- hidden",
            "router",
            scales="experts.down",
            idle="ffn_config.moe_normalize_expert_weights and ffn_config.moe_top_k == 1",
        ),
        Weight(F + "experts.mlp.w1", "(experts ffn) <- hidden", "experts.gate"),
        Weight(F + "experts.mlp.v1", "(experts ffn) <- hidden", "experts.up"),
        Weight(F + "experts.mlp.w2", "(experts ffn) -> hidden", "experts.down"),
        Weight("norm_f.weight", "* hidden", "final_norm", PLAIN),
        LM,
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "d_model",
        "ffn": "ffn_config.ffn_hidden_size",
        "experts": "ffn_config.moe_num_experts",
        "kv_heads": "attn_config.kv_n_heads",
        "group": "n_heads // attn_config.kv_n_heads",
        "key_dim": "d_model // n_heads",
        "value_dim": "d_model // n_heads",
        "layers": "n_layers",
    },
    keys=(
        Key("vocab_size", default=32000),
        Key("d_model", "hidden", 2048, alias="hidden_size"),
        Key("ffn_config.ffn_hidden_size", "ffn", 3584),
        Key("ffn_config.hidden_size", "hidden", "d_model"),
        Key("ffn_config.moe_num_experts", "experts", 4),
        Key("ffn_config.moe_top_k", default=1),
        Key("ffn_config.moe_normalize_expert_weights", default=1.0, null=0.0),
        Key("n_heads", "kv_heads * group", 16, alias="num_attention_heads"),
        Key("attn_config.kv_n_heads", "kv_heads", 1),
        Key(CLIP, default=False),
        Key("n_layers", "layers", 24, alias="num_hidden_layers"),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("transformer.", ""),
    attentions=(Attention(rope=Rope()),),
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
    fixed=LLAMA.fixed | {"experts"},
)

MIXED, STEP = "layers in moe_layers", "interleave_moe_layer_step"
X = L + "feed_forward."
LLAMA4 = like(
    LLAMA,
    "llama4_text",
    alter("attn.q attn.k attn.v attn.o", bias=SAID),
    swap(
        MLP,
        Weight(X + "gate_proj.weight", "ffn <- hidden", "mlp.gate", when=f"not {MIXED}"),
        Weight(X + "up_proj.weight", "ffn <- hidden", "mlp.up", when=f"not {MIXED}"),
        Weight(X + "down_proj.weight", "hidden <- ffn", "mlp.down", when=f"not {MIXED}"),
        # A sigmoid of its logit multiplies what an expert reads.
        Weight(X + "router.weight", "experts <- hidden", "router", when=MIXED, scales="experts.down"),
        Weight(
            X + "experts.gate_up_proj",
            "{experts} hidden -> (gate: expert_ffn + up: expert_ffn)",
            "experts.*",
            when=MIXED,
        ),
        *shared_readers(X + "shared_expert.", "expert_ffn", MIXED),
        Weight(X + "experts.down_proj", "{experts} expert_ffn -> hidden", "experts.down", when=MIXED),
        shared_writer(X + "shared_expert.", "expert_ffn", MIXED),
    ),
    drop("score span"),
    axes={
        **LLAMA.axes,
        "ffn": "intermediate_size_mlp",
        "expert_ffn": "intermediate_size",
        "experts": "num_local_experts",
    },
    keys=(
        *with_defaults(
            tuple(
                Key(key.name, "expert_ffn") if key.name == "intermediate_size" else key for key in LLAMA.keys
            ),
            intermediate_size=8192,
            vocab_size=202048,
            hidden_size=5120,
            num_hidden_layers=48,
            num_attention_heads=40,
            num_key_value_heads=8,
            head_dim=128,
            rms_norm_eps=1e-5,
            attention_bias=False,
            use_qk_norm=True,
            interleave_moe_layer_step=1,
            moe_layers=f"list(range({STEP} - 1, num_hidden_layers, {STEP}))",
            no_rope_layer_interval=4,
        ),
        Key("intermediate_size_mlp", "ffn", 16384),
        Key("num_local_experts", "experts", 16),
    ),
    attentions=(Attention(rope=Rope("adjacent", default=500000.0, everywhere=False)),),
    constraints=EQUAL,
    kinds=(Kinds("moe_layers", MIXED),),
    per_layer=(
        PerLayer("no_rope_layers", "int((i + 1) % no_rope_layer_interval != 0)"),
        PerLayer("layer_types"),
    ),
    fixed=LLAMA.fixed | {"experts"},
    refusals={"key_dim": NO_GAIN, "value_dim": NO_GAIN},
    kept=("rms_norm_eps",),
)

BY_LAYER = "its config lists how many heads each layer has, which no growth edits: grow ffn or layers instead"
SCALED = "gating == 'per-element'"
LAGUNA = like(
    AFMOE,
    "laguna",
    alter("embed", times=""),
    swap(
        "attn.gate",
        Weight(A + "g_proj.weight", "(kv_heads group value_dim) <- hidden", "attn.gate", when=SCALED),
        Weight(
            A + "g_proj.weight",
            "(kv_heads group) <- hidden",
            "attn.head_gate",
            when=f"not {SCALED}",
            scales="attn.o",
        ),
    ),
    drop("attn_after mlp_after"),
    swap("mlp_norm", LLAMA.weights[6]),
    alter(MLP, when=DENSE),
    swap(
        "router router.choice experts.gate experts.up experts.down shared.gate shared.up shared.down",
        router(M, SPARSE, ALONE),
        Weight(
            M + "experts.e_score_correction_bias", "-> experts", "router.choice", when=SPARSE, idle="True"
        ),
        *readers(M, "expert_ffn", SPARSE),
        *shared_readers(M + "shared_expert.", "shared_ffn", SPARSE),
        writer(M, "expert_ffn", SPARSE),
        shared_writer(M + "shared_expert.", "shared_ffn", SPARSE),
    ),
    drop("score span"),
    axes={
        **LLAMA.axes,
        "expert_ffn": "moe_intermediate_size",
        "shared_ffn": "shared_expert_intermediate_size",
        "experts": "num_experts",
    },
    lacks="num_dense_layers global_attn_every_n_layers mup_enabled num_shared_experts",
    defaults=dict(
        vocab_size=100352,
        intermediate_size=8192,
        moe_intermediate_size=512,
        num_hidden_layers=40,
        num_attention_heads=48,
        num_key_value_heads=8,
        rms_norm_eps=1e-6,
        num_experts=256,
        num_experts_per_tok=8,
        gating=True,
    ),
    more=(Key("shared_expert_intermediate_size", "shared_ffn", 512),),
    attentions=(
        Attention(
            rope=rope(
                "full",
                500000.0,
                rope("sliding", 10000.0, share=("rope_parameters.sliding_attention.partial_rotary_factor",)),
                share=("rope_parameters.full_attention.partial_rotary_factor",),
            )
        ),
    ),
    kinds=(),
    per_layer=(
        PerLayer("layer_types", "'full_attention'"),
        kinds("i == 0"),
        PerLayer("num_attention_heads_per_layer", "num_attention_heads"),
    ),
    fixed=LLAMA.fixed | {"experts"},
    refusals={"kv_heads": BY_LAYER, "group": BY_LAYER},
    foreign={},
    bindings=(
        stacked(
            M,
            "expert_ffn",
            **{"router.choice": "gate.e_score_correction_bias"},
            **AS_ONE,
        ),
    ),
)

DEEPSEEK_V2 = like(
    DEEPSEEK_V3,
    "deepseek_v2",
    drop("router.choice"),
    alter("router", idle=""),  # its weights are those of a softmax over all experts
    alter(MLP, bias=Bias("mlp_bias")),
    lacks="rope_interleave norm_topk_prob",
    keys=with_defaults(
        tuple(key for key in DEEPSEEK_V3.keys if key.name not in ("rope_interleave", "norm_topk_prob")),
        vocab_size=102400,
        hidden_size=4096,
        intermediate_size=11008,
        moe_intermediate_size=1407,
        n_routed_experts=64,
        n_shared_experts=2,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads="num_attention_heads",
        first_k_dense_replace=0,
        mlp_bias=False,
    ),
    # The class turns pairs as complex numbers, which must stand at even places.
    constraints=("hidden // heads * heads == hidden", "key_dim % 2 == 0", "kv_rank % 2 == 0"),
)

CHOOSES = A + "indexer."
K_NORM = Norm("layer", "inner", eps=1e-6, of="indexer.k")
IDLE = "True"  # which tokens are read is no smooth function of these
INDEXER = (
    Weight(CHOOSES + "wq_b.weight", "(index_heads index_dim) <- q_rank", "indexer.q", idle=IDLE),
    Weight(CHOOSES + "wk.weight", "index_dim <- hidden", "indexer.k", idle=IDLE),
    Weight(CHOOSES + "k_norm.weight", "* index_dim", "indexer.k_norm", K_NORM, Bias(idle=IDLE), idle=IDLE),
    Weight(CHOOSES + "weights_proj.weight", "index_heads <- hidden", "indexer.weights", idle=IDLE),
)
DEEPSEEK_V32 = like(
    DEEPSEEK_V3,
    "deepseek_v32",
    listed(),
    after("attn.kv_norm", *INDEXER),
    axes={**DEEPSEEK_V3.axes, "index_heads": "index_n_heads", "index_dim": "index_head_dim"},
    lacks="rope_interleave",
    more=(Key("index_n_heads", default=64), Key("index_head_dim", default=128)),
    kinds=(),
    per_layer=(kinds("i < first_k_dense_replace"), PerLayer("layer_types", "'indexed_attention'")),
    fixed=DEEPSEEK_V3.fixed | {"index_heads", "index_dim"},
)

LAYOUTS = (ARIA, PHIMOE, DBRX, LLAMA4, LAGUNA, DEEPSEEK_V2, DEEPSEEK_V32)
