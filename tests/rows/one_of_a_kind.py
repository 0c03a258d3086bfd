"""Families that share their rows with no other: EuroBERT, Youtu, Persimmon, GPT-BigCode, BioGPT, AFMoE."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import (
    BOOLS,
    COMMON,
    EPS,
    HEADS,
    LAYERS,
    NORMED,
    POSITIONS,
    VOCAB,
    Family,
    Json,
    Requests,
    fused_growths,
    fused_options,
    gated,
    more_options,
)
from hypothesis import strategies as st

from rows.dense import FULL_HEADS, GPT_NEO
from rows.fused import NEOX
from rows.sparse import ALL, DEEPSEEK_V3, EACH, LATENT, latent_options

KIN = True

EUROBERT = replace(
    gated(
        "eurobert",
        transformers.EuroBertConfig,
        more_options(
            hidden_size=st.just(36),
            attention_bias=BOOLS,
            mlp_bias=BOOLS,
            classifier_pooling=st.sampled_from(["bos", "mean", "late"]),
        ),
        attention_bias=True,
        mlp_bias=True,
        mask_token_id=1,
    ),
    classes=(
        "EuroBertForMaskedLM",
        "EuroBertModel",
        "EuroBertForSequenceClassification",
        "EuroBertForTokenClassification",
    ),
)

GONE = (
    *("moe_intermediate_size", "n_routed_experts", "n_shared_experts", "n_group", "topk_group"),
    *("num_experts_per_tok", "first_k_dense_replace", "norm_topk_prob"),
)


def dense_options(draw: st.DrawFn) -> Json:
    """Latent attention's alone."""
    return {key: said for key, said in latent_options(draw).items() if key not in GONE}


YOUTU = replace(
    DEEPSEEK_V3,
    name="youtu",
    config=transformers.YoutuConfig,
    classes=("YoutuForCausalLM", "YoutuModel"),
    sizes={key: said for key, said in LATENT.items() if key not in GONE},
    growths={axis: sizes for axis, sizes in DEEPSEEK_V3.growths.items() if axis != "expert_ffn"},
    together={axis: size for axis, size in DEEPSEEK_V3.together.items() if axis != "expert_ffn"},
    options=dense_options,
)

TURNED = st.sampled_from(
    [{"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": part} for part in (0.25, 0.5)]
)
PLAIN: Requests = {axis: sizes for axis, sizes in NEOX.growths.items() if axis != "hidden and head_dim"}
PERSIMMON = replace(
    NEOX,
    name="persimmon",
    config=transformers.PersimmonConfig,
    classes=tuple(f"Persimmon{head}" for head in HEADS if hasattr(transformers, f"Persimmon{head}")),
    sizes={**NEOX.sizes, "hidden_act": "gelu"},
    growths={**PLAIN, "hidden and head_dim, a multiple": {"hidden": 80, "head_dim": 16}},
    together=dict(hidden=112, heads=7, head_dim=16, ffn="x3", layers="+2"),
    options=fused_options(qk_layernorm=st.just(False), rope_parameters=TURNED, hidden_act=st.just("gelu")),
)


def bigcode_options(draw: st.DrawFn) -> Json:
    heads, dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7]))
    return dict(
        n_embd=heads * dim,
        n_inner=draw(st.sampled_from([None, 37])),
        n_layer=draw(LAYERS),
        n_head=heads,
        layer_norm_epsilon=draw(EPS),
        scale_attn_weights=draw(BOOLS),
        multi_query=draw(BOOLS),
        tie_word_embeddings=draw(BOOLS),
    )


BIGCODE = Family(
    "gpt_bigcode",
    transformers.GPTBigCodeConfig,
    tuple(f"GPTBigCode{head}" for head in HEADS),
    dict(
        COMMON,
        vocab_size=VOCAB,
        n_embd=40,
        n_inner=37,
        n_layer=3,
        n_head=5,
        n_positions=POSITIONS,
        layer_norm_epsilon=1e-2,
    ),
    FULL_HEADS,
    GPT_NEO.together,
    bigcode_options,
    fused_growths,
    frozenset({"n_inner"}),
)


def bio_options(draw: st.DrawFn) -> Json:
    heads, dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7]))
    return dict(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        num_hidden_layers=draw(LAYERS),
        scale_embedding=draw(BOOLS),
        tie_word_embeddings=draw(BOOLS),
    )


BIOGPT = Family(
    "biogpt",
    transformers.BioGptConfig,
    ("BioGptForCausalLM", "BioGptModel", "BioGptForSequenceClassification", "BioGptForTokenClassification"),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=40,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=5,
        max_position_embeddings=POSITIONS,
    ),
    FULL_HEADS,
    GPT_NEO.together,
    bio_options,
    fused_growths,
    unread={"embed_positions.weight": [0, 1]},
)

AFMOE = gated(
    "afmoe",
    transformers.AfmoeConfig,
    more_options(
        attention_bias=BOOLS,
        mup_enabled=BOOLS,
        sliding_window=st.just(5),
        global_attn_every_n_layers=st.sampled_from([2, 4]),
        num_dense_layers=st.sampled_from([0, 1, 2]),
        num_experts_per_tok=st.sampled_from([1, 2, 4]),
    ),
    {**NORMED, **EACH},
    ALL,
    attention_bias=True,
    sliding_window=5,
    global_attn_every_n_layers=2,
    moe_intermediate_size=11,
    num_experts=4,
    num_experts_per_tok=4,
    num_shared_experts=5,
)

ROWS = (EUROBERT, YOUTU, PERSIMMON, BIGCODE, BIOGPT, AFMOE)
