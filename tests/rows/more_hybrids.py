"""More families of layers of two kinds: LFM2 as a mixture, OLMo Hybrid, Kimi Linear; GLM with an indexer."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import BOOLS, NORMED, NORMED_HEADS, Family, Json, gated, more_options
from hypothesis import strategies as st

from rows.experts_llama_attention import EACH
from rows.experts_other_attention import INDEX, indexed
from rows.mlp_layer_types import KINDS, LISTED
from rows.recurrent_states import LFM2, TAPS, kinds
from rows.sparse import DEEPSEEK_V3, LATENT

KIN = True


LFM2_MOE = gated(
    "lfm2_moe",
    transformers.Lfm2MoeConfig,
    lambda draw: {
        **{key: said for key, said in LFM2.options(draw).items() if key != "rms_norm_eps"},
        "num_experts": draw(st.sampled_from([2, 4])),
        "num_experts_per_tok": draw(st.sampled_from([1, 2])),
        "num_dense_layers": draw(st.sampled_from([0, 1])),
        "use_expert_bias": draw(BOOLS),
    },
    {**NORMED, **TAPS, **EACH},
    dict(hidden=75, ffn="x3", expert_ffn="+5", heads=15, kv_heads=3, head_dim=20, layers="+2"),
    absent=("head_dim",),
    layer_types=["conv", "full_attention", "conv"],
    norm_eps=1e-2,
    conv_bias=True,
    num_dense_layers=1,
    num_experts=4,
    num_experts_per_tok=4,
    moe_intermediate_size=11,
)

LINEAR: Json = dict(
    linear_num_key_heads=2,
    linear_num_value_heads=6,
    linear_key_head_dim=5,
    linear_value_head_dim=7,
)
OLMO_HYBRID = gated(
    "olmo_hybrid",
    transformers.OlmoHybridConfig,
    lambda draw: {
        **kinds(draw, more_options(attention_bias=BOOLS)(draw), ("linear_attention", "full_attention")),
        **LINEAR,
    },
    {**NORMED_HEADS, **TAPS},
    dict(hidden=75, ffn="x3", heads=18, kv_heads=6, layers="+2"),
    absent=("head_dim", "rope_parameters"),
    layer_types=["linear_attention", "full_attention", "linear_attention"],
    attention_bias=True,
    **LINEAR,
)

KIMI = replace(
    DEEPSEEK_V3,
    name="kimi_linear",
    config=transformers.KimiLinearConfig,
    classes=("KimiLinearForCausalLM", "KimiLinearModel"),
    sizes={
        **{
            key: said
            for key, said in LATENT.items()
            if key not in ("rope_parameters", "first_k_dense_replace")
        },
        "mlp_layer_types": KINDS,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "linear_head_dim": 7,
        "linear_num_heads": 5,
    },
    growths={**DEEPSEEK_V3.growths, **TAPS},
)

GLM_MOE_DSA = replace(
    DEEPSEEK_V3,
    name="glm_moe_dsa",
    config=transformers.GlmMoeDsaConfig,
    classes=("GlmMoeDsaForCausalLM", "GlmMoeDsaModel"),
    sizes={**LISTED, "mlp_layer_types": KINDS, **INDEX},
    options=indexed,
)

ROWS: tuple[Family, ...] = (LFM2_MOE, OLMO_HYBRID, KIMI, GLM_MOE_DSA)
