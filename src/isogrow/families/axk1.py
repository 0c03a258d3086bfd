"""A.X K1: DeepSeek-V3 with a norm behind each mixture, whose config lists which layers are dense."""

from __future__ import annotations

from isogrow.families.deepseek import DEEPSEEK_V3
from isogrow.families.edits import after, like
from isogrow.families.experts import stacked
from isogrow.families.llama import L, M
from isogrow.families.mlp_layer_types import SPARSE, kinds, listed
from isogrow.layouts.layout import Norm, Weight

BRANCH = Norm("rms", "branch", eps="rms_norm_eps")

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

LAYOUTS = (AXK1,)
