"""Llama with scales by position, by depth or in its activation, norms without a gain, a θ for each layer."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import BOOLS, NORMED, Json, Steps, gated, gated_growths, more_options, rope_options
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadAddition, HeadsExpansion, HiddenExpansion
from rows.one_of_a_kind import YOUTU, dense_options

KIN = True


def scaled(draw: st.DrawFn) -> Json:
    """Rotary tables that also say how queries are scaled by their position."""
    found = more_options(sliding_window=st.sampled_from([None, 5]))(draw)
    rope = rope_options(draw, found["head_dim"] // 2)
    rope |= {"original_max_position_embeddings": draw(st.sampled_from([4, 9])), "llama_4_scaling_beta": 0.1}
    return {**found, "rope_parameters": rope}


def whole_heads(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """The same growths without those of a head's dims."""
    found = gated_growths(draw, anatomy)
    return [step for step in found if not isinstance(step, AttentionExpansion | HeadsExpansion)]


SCALED = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 4,
    "llama_4_scaling_beta": 0.3,
}


def by_layer(draw: st.DrawFn) -> Json:
    """A θ for each layer, or none; windows in some layers."""
    found = more_options(
        attention_bias=BOOLS,
        mlp_bias=BOOLS,
        sliding_window=st.just(5),
        attention_multiplier=st.sampled_from([0.2, 1.0]),
    )(draw)
    layers = found["num_hidden_layers"]
    thetas = st.lists(st.sampled_from([0, 50.0, 700.0]), min_size=layers, max_size=layers)
    return {**found, "layer_rope_theta": draw(st.one_of(st.none(), thetas))}


def mini_options(draw: st.DrawFn) -> Json:
    found = {key: said for key, said in dense_options(draw).items() if key != "rope_interleave"}
    return {
        **found,
        "mlp_bias": draw(BOOLS),
        "scale_depth": draw(st.sampled_from([1.4, None])),
        "dim_model_base": draw(st.sampled_from([7, None])),
        "v_head_dim": 9,
        "hidden_size": 36,
    }


def divided(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Latent attention's growths where heads must divide hidden."""
    sizes = st.sampled_from([[], ["x2"], ["x2", "x3"]])
    found: Steps = [HiddenExpansion(size) for size in draw(sizes)]
    found += [HeadAddition(size) for size in draw(st.sampled_from([[], ["x2"]]))]
    found += [AttentionExpansion(size) for size in draw(sizes)]
    return [*found, *(HeadsExpansion(size) for size in draw(sizes))]


GRANITE = dict(
    attention_multiplier=0.3, embedding_multiplier=3.0, residual_multiplier=0.4, logits_scaling=2.0
)
THETAS = dict(sliding_window=5, layer_rope_theta=[0, 70.0, 900.0])
EXPERTS = dict(num_local_experts=4, num_experts_per_tok=4)
MINICPM3 = replace(
    YOUTU,
    name="minicpm3",
    config=transformers.MiniCPM3Config,
    classes=("MiniCPM3ForCausalLM", "MiniCPM3Model", "MiniCPM3ForSequenceClassification"),
    sizes={**YOUTU.sizes, "dim_model_base": 7, "mlp_bias": True},
    together={**YOUTU.together, "hidden": 80},
    options=mini_options,
    draws=divided,
)
ROWS = (
    replace(
        gated("ministral3", transformers.Ministral3Config, scaled, rope_parameters=SCALED, sliding_window=5),
        dated=False,  # without a table it reads no θ, whatever rope_theta says: tests/test_rotary.py
    ),
    gated(
        "apertus",
        transformers.ApertusConfig,
        more_options(attention_bias=BOOLS),
        NORMED,
        attention_bias=True,
        absent=("head_dim",),
    ),
    replace(
        gated(
            "apertus1p5_text",
            transformers.Apertus1p5TextConfig,
            more_options(attention_bias=BOOLS, output_vocab_size=st.sampled_from([None, 29, 43])),
            NORMED,
            attention_bias=True,
            absent=("head_dim", "output_vocab_size"),
            output_vocab_size=29,
        ),
        classes=("Apertus1p5TextForCausalLM", "Apertus1p5TextModel"),
    ),
    replace(
        gated(
            "nanochat",
            transformers.NanoChatConfig,
            more_options(attention_bias=BOOLS),
            {"head_dim": {}, "head_dim, a multiple": {}},
            dict(hidden=75, ffn="x3", heads=15, kv_heads=3, layers="+2"),
            attention_bias=True,
            hidden_act="gelu",  # of a ReLU's units some sleep, and get no gradient
            absent=("head_dim",),
            without=("NanoChatModel",),  # whose last norm has no gain
        ),
        draws=whole_heads,
    ),
    gated(
        "granite_swa",
        transformers.GraniteSWAConfig,
        by_layer,
        absent=("head_dim",),
        attention_bias=True,
        mlp_bias=True,
        **GRANITE,
        **THETAS,
    ),
    gated(
        "granitemoe_swa",
        transformers.GraniteMoeSWAConfig,
        by_layer,
        {"shared_ffn": {"shared_ffn": 20}},
        absent=("head_dim",),
        attention_bias=True,
        shared_intermediate_size=17,
        **GRANITE,
        **THETAS,
        **EXPERTS,
    ),
    MINICPM3,
)
