"""More families of layers of two kinds: LFM2 as a mixture, OLMo Hybrid, Kimi Linear; GLM with an indexer."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import (
    BOOLS,
    LABELS,
    LAYERS,
    NORMED,
    NORMED_HEADS,
    PAD,
    POSITIONS,
    VOCAB,
    Family,
    Json,
    gated,
    more_options,
)
from hypothesis import strategies as st

from isogrow.plans.expansions import HiddenExpansion
from rows.experts_llama_attention import EACH
from rows.experts_other_attention import INDEX, WHOLE, indexed
from rows.mlp_layer_types import KINDS, LISTED, listed
from rows.recurrent_states import LFM2, TAPS, kinds
from rows.sparse import DEEPSEEK_V3, LATENT, latent_options

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
    said={"layer_types": ["conv", "full_attention"] * 16},
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


def hybrid_options(draw: st.DrawFn) -> Json:
    """The class wants a layer of each kind."""
    layers = st.sampled_from([2, 3])
    found = more_options(attention_bias=BOOLS, num_hidden_layers=layers)(draw)
    found = kinds(draw, found, ("linear_attention", "full_attention"))
    return {**found, **LINEAR, "layer_types": ["linear_attention", *found["layer_types"][1:]]}


OLMO_HYBRID = gated(
    "olmo_hybrid",
    transformers.OlmoHybridConfig,
    hybrid_options,
    {**NORMED_HEADS, **TAPS},
    dict(hidden=75, ffn="x3", heads=18, kv_heads=6, layers="+2"),
    absent=("head_dim", "rope_parameters.rope_theta"),
    layer_types=["linear_attention", "full_attention", "linear_attention"],
    attention_bias=True,
    **LINEAR,
)


def kimi_options(draw: st.DrawFn) -> Json:
    """Latent attention without positions, in some layers."""
    found = listed(latent_options)(draw)
    for key in ("rope_parameters", "rope_interleave"):
        del found[key]
    return kinds(draw, found, ("linear_attention", "full_attention"))


GONE = ("rope_parameters", "first_k_dense_replace", "n_routed_experts")
KIMI = replace(
    DEEPSEEK_V3,
    name="kimi_linear",
    config=transformers.KimiLinearConfig,
    classes=("KimiLinearForCausalLM", "KimiLinearModel"),
    sizes={
        **{key: said for key, said in LATENT.items() if key not in GONE},
        "num_local_experts": 4,
        "mlp_layer_types": KINDS,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "linear_head_dim": 7,
        "linear_num_heads": 5,
    },
    growths={**DEEPSEEK_V3.growths, **TAPS},
    options=kimi_options,
    absent=frozenset({"linear_attn_config.full_attn_layers", "first_k_dense_replace", "q_lora_rank"}),
)

GLM_MOE_DSA = replace(
    DEEPSEEK_V3,
    name="glm_moe_dsa",
    config=transformers.GlmMoeDsaConfig,
    classes=("GlmMoeDsaForCausalLM", "GlmMoeDsaModel"),
    sizes={**LISTED, "mlp_layer_types": KINDS, **INDEX},
    options=indexed,
    absent=frozenset({"said_indexers", "index_topk_freq", "index_skip_topk_offset"}),
)


def lightning_options(draw: st.DrawFn) -> Json:
    found = more_options(
        num_local_experts=st.sampled_from([2, 4]), num_experts_per_tok=st.sampled_from([1, 2])
    )(draw)
    found = {**found, "num_hidden_layers": max(found["num_hidden_layers"], 2)}
    return kinds(draw, found, ("linear_attention", "full_attention"))


MINIMAX = replace(
    gated(
        "minimax",
        transformers.MiniMaxConfig,
        lightning_options,
        {**WHOLE, "heads": {}, "kv_heads": {}, "heads and kv_heads": {}, "layers": {}},
        dict(hidden=75, ffn="x3"),
        absent=("head_dim",),
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        num_local_experts=4,
        num_experts_per_tok=4,
        block_size=8,
        full_attn_alpha_factor=0.7,
        linear_attn_beta_factor=0.8,
        mlp_alpha_factor=1.3,
    ),
    draws=lambda draw, _: [HiddenExpansion(f"+{n}") for n in draw(st.sampled_from([[], [7], [2, 9]]))],
    classes=("MiniMaxForCausalLM", "MiniMaxModel"),
)

CTRL = Family(
    "ctrl",
    transformers.CTRLConfig,
    ("CTRLLMHeadModel", "CTRLModel", "CTRLForSequenceClassification"),
    dict(
        num_labels=LABELS,
        pad_token_id=PAD,
        vocab_size=VOCAB,
        n_embd=30,
        dff=37,
        n_layer=3,
        n_head=5,
        n_positions=POSITIONS,
        layer_norm_epsilon=1e-2,
    ),
    {"ffn": {"ffn": 51}, "layers": {"layers": 5}},
    dict(ffn="x3", layers="+2"),
    lambda draw: dict(
        n_layer=draw(LAYERS), n_head=draw(st.sampled_from([1, 3, 5])), tie_word_embeddings=draw(BOOLS)
    ),
    lambda draw, _: [],
    unread={"w.weight": [PAD]},
)

ROWS: tuple[Family, ...] = (LFM2_MOE, OLMO_HYBRID, KIMI, GLM_MOE_DSA, MINIMAX, CTRL)
