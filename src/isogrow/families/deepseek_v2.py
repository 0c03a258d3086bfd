"""DeepSeek-V2, whose router is a softmax, and DeepSeek-V3.2, whose attention reads the tokens that an indexer
chooses."""

from __future__ import annotations

from isogrow.families.deepseek import DEEPSEEK_V3
from isogrow.families.edits import after, alter, drop, like, with_defaults
from isogrow.families.llama import MLP, A
from isogrow.families.mlp_layer_types import kinds, listed
from isogrow.layouts.layout import Bias, Key, Norm, PerLayer, Weight

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

# A layer may read the tokens that the last indexer chose: a new layer before it would choose others.
SHARES = "layers if index_topk_freq > 1 or 'shared' in said_indexers else 0"
BY_TURNS = "'full' if max(i - index_skip_topk_offset + 1, 0) % index_topk_freq == 0 else 'shared'"
GLM_MOE_DSA = like(
    DEEPSEEK_V32,
    "glm_moe_dsa",
    alter(" ".join(row.slot for row in INDEXER), when="indexer_types[layers] == 'full'"),
    defaults=dict(
        vocab_size=154880,
        hidden_size=6144,
        intermediate_size=12288,
        num_hidden_layers=78,
        num_attention_heads=64,
        num_key_value_heads=64,
        q_lora_rank=2048,
        qk_nope_head_dim=192,
        v_head_dim=256,
        rms_norm_eps=1e-5,
        index_n_heads=32,
    ),
    more=(
        Key("said_indexers", default=[], alias="indexer_types"),
        Key("index_topk_freq", default=1),
        Key("index_skip_topk_offset", default=2),
    ),
    per_layer=(*DEEPSEEK_V32.per_layer, PerLayer("indexer_types", BY_TURNS)),
    leading=SHARES,
    led="some read the tokens that the one before them chose",
)

LAYOUTS = (DEEPSEEK_V2, DEEPSEEK_V32, GLM_MOE_DSA)
