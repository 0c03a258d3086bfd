"""Plain decoders that are Llama's, OLMo's, Cohere's, Gemma's, GLM's and Granite's kin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import transformers
from family import (
    BOOLS,
    HEADS,
    NORMED,
    NORMED_HEADS,
    Family,
    Json,
    gated,
    gated_options,
    more_options,
    partial_options,
)
from hypothesis import strategies as st

from rows.dense import FILLED, layered
from rows.rescaled import local_options
from rows.sparse import multiples

KIN = True

WINDOW = st.sampled_from([5, 50])
DIVIDED = st.just(36)  # hidden, by any number of heads that is drawn


def olmo3_options(draw: st.DrawFn) -> Json:
    """Gemma 3's rotary tables and kinds of layers."""
    found = local_options(draw)
    gone = ("query_pre_attn_scalar", "final_logit_softcapping", "use_bidirectional_attention")
    return {key: value for key, value in found.items() if key not in (*gone, "sliding_window_pattern")}


def square_options(draw: st.DrawFn) -> Json:
    """Helium: heads fill hidden, though head_dim is a key."""
    found = gated_options(draw)
    biases = {"attention_bias": draw(BOOLS), "mlp_bias": draw(BOOLS)}
    return {**found, **biases, "hidden_size": found["num_attention_heads"] * found["head_dim"]}


HELIUM = replace(
    gated(
        "helium",
        transformers.HeliumConfig,
        square_options,
        FILLED,
        dict(hidden=240, ffn="x3", heads=15, kv_heads=3, head_dim=16, layers="+2"),
        hidden_size=48,
        head_dim=8,
        attention_bias=True,
        mlp_bias=True,
    ),
    draws=multiples,
)


def llama(name: str, config: Any, options: Callable[[st.DrawFn], Json], **sizes: Any) -> Family:
    """A row of a model type that Llama's classes run."""
    classes = tuple(f"Llama{head}" for head in (*HEADS, "ForQuestionAnswering"))
    return replace(gated(name, config, options, **sizes), classes=classes)


def internlm3_options(draw: st.DrawFn) -> Json:
    """Biases everywhere, or nowhere."""
    bias = draw(BOOLS)
    return {**more_options(hidden_size=DIVIDED)(draw), "attention_bias": bias, "mlp_bias": bias}


ROWS = (
    HELIUM,
    llama(
        "internlm3",
        transformers.InternLM3Config,
        internlm3_options,
        attention_bias=True,
        mlp_bias=True,
    ),
    *(
        llama(
            name,
            config,
            more_options(hidden_size=DIVIDED, mlp_bias=BOOLS, attention_bias=BOOLS),
            attention_bias=True,
            mlp_bias=True,
        )
        for name, config in (
            ("iquestcoder", transformers.IQuestCoderConfig),
            ("exaone", transformers.ExaoneConfig),
        )
    ),
    gated(
        "seed_oss",
        transformers.SeedOssConfig,
        more_options(attention_bias=BOOLS, attention_out_bias=BOOLS, mlp_bias=BOOLS),
        attention_out_bias=True,
        mlp_bias=True,
    ),
    gated(
        "cwm",
        transformers.CwmConfig,
        more_options(hidden_size=DIVIDED, sliding_window=WINDOW),
        sliding_window=5,
        rope_parameters={"rope_type": "default", "rope_theta": 300.0},
        bos_token_id=0,
    ),
    gated(
        "ministral",
        transformers.MinistralConfig,
        more_options(sliding_window=WINDOW),  # the class makes a mask with a window in any case
        sliding_window=5,
        absent=("head_dim",),
        said={"head_dim": 128},  # the class has no default, and computes none
    ),
    gated(
        "ernie4_5",
        transformers.Ernie4_5Config,
        more_options(use_bias=BOOLS),
        use_bias=True,
    ),
    gated(
        "arcee",
        transformers.ArceeConfig,
        more_options(hidden_size=DIVIDED, attention_bias=BOOLS, mlp_bias=BOOLS),
        attention_bias=True,
        mlp_bias=True,
        hidden_act="gelu",
    ),
    layered(
        "layer_norm_eps",
        "jais2",
        transformers.Jais2Config,
        more_options(hidden_size=DIVIDED, attention_bias=BOOLS, mlp_bias=BOOLS),
        hidden_act="gelu",
    ),
    gated(
        "olmo3",
        transformers.Olmo3Config,
        olmo3_options,
        NORMED_HEADS,
        dict(hidden=75, ffn="x3", heads=24, kv_heads=4, head_dim=20, layers="+2"),
        attention_bias=True,
        sliding_window=5,
        absent=("head_dim",),
    ),
    gated(
        "exaone4",
        transformers.Exaone4Config,
        more_options(sliding_window=WINDOW, sliding_window_pattern=st.sampled_from([2, 4])),
        NORMED,
        sliding_window=5,
        sliding_window_pattern=2,
        absent=("head_dim",),
    ),
    layered(
        "layer_norm_eps",
        "cohere2",
        transformers.Cohere2Config,
        more_options(attention_bias=BOOLS, sliding_window=WINDOW),
        attention_bias=True,
        sliding_window=5,
        absent=("sliding_window_pattern",),
    ),
    gated(
        "vaultgemma",
        transformers.VaultGemmaConfig,
        more_options(
            hidden_size=DIVIDED,
            attention_bias=BOOLS,
            sliding_window=WINDOW,
            query_pre_attn_scalar=st.sampled_from([7, 256]),
            attn_logit_softcapping=st.sampled_from([None, 3.0]),
            final_logit_softcapping=st.sampled_from([None, 5.0]),
        ),
        sliding_window=5,
        query_pre_attn_scalar=7,
    ),
    gated("glm", transformers.GlmConfig, partial_options(attention_bias=BOOLS), head_dim=12),
    gated(
        "hyperclovax",
        transformers.HyperCLOVAXConfig,
        more_options(
            hidden_size=DIVIDED,
            attention_bias=BOOLS,
            mlp_bias=BOOLS,
            use_post_norm=BOOLS,
            attention_multiplier=st.sampled_from([0.2, None]),
            embedding_multiplier=st.sampled_from([12.0, 1.0]),
            residual_multiplier=st.sampled_from([0.22, 1.0]),
        ),
        attention_bias=True,
        mlp_bias=True,
        residual_multiplier=0.4,
    ),
    gated(
        "hunyuan_v1_dense",
        transformers.HunYuanDenseV1Config,
        more_options(attention_bias=BOOLS),
        NORMED,
        attention_bias=True,
        absent=("head_dim",),
        said={"head_dim": 128},
    ),
)
