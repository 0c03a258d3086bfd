"""GLM-4.7 Flash: DeepSeek-V3 whose config lists which layers are dense."""

from __future__ import annotations

from isogrow.families.deepseek import DEEPSEEK_V3
from isogrow.families.edits import like
from isogrow.families.mlp_layer_types import kinds, listed

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

LAYOUTS = (GLM4_MOE_LITE,)
