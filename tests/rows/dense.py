"""StarCoder2, StableLM, Cohere, GPT-Neo, OPT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

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
    filled_growths,
    fused_growths,
    gated,
    more_options,
)
from hypothesis import strategies as st


def named(eps: str, options: Callable[[st.DrawFn], Json]) -> Callable[[st.DrawFn], Json]:
    """The same options, ε under another key."""

    def drawn(draw: st.DrawFn) -> Json:
        found = options(draw)
        return {**found, eps: found.pop("rms_norm_eps")}

    return drawn


def layered(eps: str, name: str, config: Any, options: Callable[[st.DrawFn], Json], **more: Any) -> Family:
    """A row of a family whose LayerNorms read their ε from this key."""
    row = gated(name, config, named(eps, options), **more)
    sizes = {eps if key == "rms_norm_eps" else key: value for key, value in row.sizes.items()}
    return replace(row, sizes=sizes)


def filled(row: Family) -> Family:
    """The same where heads fill hidden, so that their dim is no key."""
    sizes = {key: value for key, value in row.sizes.items() if key != "head_dim"}
    return replace(row, sizes={**sizes, "hidden_size": 48}, draws=filled_growths)


STARCODER2 = layered(
    "norm_epsilon",
    "starcoder2",
    transformers.Starcoder2Config,
    more_options(use_bias=BOOLS, sliding_window=st.sampled_from([None, 5])),
    sliding_window=5,
    absent=("head_dim",),
)

FILLED: Requests = {
    "hidden": {},
    "heads": {},
    "kv_heads": {},
    "heads and kv_heads": {},
    "head_dim": {},
    "head_dim, a multiple": {},
    "hidden and heads": {"hidden": 80, "heads": 10},
    "hidden and kv_heads": {"hidden": 96, "kv_heads": 4},
    "hidden, heads and kv_heads": {"hidden": 120, "heads": 15, "kv_heads": 3},
    "hidden and head_dim, a multiple": {"hidden": 96, "head_dim": 16},
}
TURNING = st.sampled_from(
    [
        {"rope_type": "default", "rope_theta": 700.0, "partial_rotary_factor": part}
        for part in (0.25, 0.5, 1.0)
    ]
)


def stablelm_options(draw: st.DrawFn) -> Json:
    """Heads fill hidden."""
    kv_heads, group = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2]))
    return dict(
        hidden_size=kv_heads * group * 8,
        num_hidden_layers=draw(LAYERS),
        num_attention_heads=kv_heads * group,
        num_key_value_heads=kv_heads,
        rms_norm_eps=draw(EPS),
        tie_word_embeddings=draw(BOOLS),
        rope_parameters=draw(TURNING),
        use_qkv_bias=draw(BOOLS),
        qk_layernorm=draw(BOOLS),
        use_parallel_residual=draw(BOOLS),
    )


STABLELM = filled(
    layered(
        "layer_norm_eps",
        "stablelm",
        transformers.StableLmConfig,
        stablelm_options,
        growths=FILLED,
        together=dict(hidden=240, ffn="x3", heads=15, kv_heads=3, head_dim=16, layers="+2"),
        absent=("head_dim",),
        use_qkv_bias=True,
        qk_layernorm=True,
    )
)

COHERE = layered(
    "layer_norm_eps",
    "cohere",
    transformers.CohereConfig,
    more_options(attention_bias=BOOLS, use_qk_norm=BOOLS),
    attention_bias=True,
    use_qk_norm=True,
    growths=NORMED,
    absent=("head_dim",),
)


def windows(draw: st.DrawFn, layers: int) -> Json:
    """Windows in some layers, told by runs."""
    kinds = st.sampled_from(["global", "local"])
    said = draw(st.lists(kinds, min_size=layers, max_size=layers))
    runs = draw(st.sampled_from([[[said, 1]], [[[kind], 1] for kind in said], [[["local"], layers]]]))
    return {"attention_types": runs, "window_size": 5}


def neo_options(draw: st.DrawFn) -> Json:
    heads, dim, layers = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7])), draw(LAYERS)
    return dict(
        hidden_size=heads * dim,
        num_heads=heads,
        num_layers=layers,
        intermediate_size=draw(st.sampled_from([None, 37])),
        layer_norm_epsilon=draw(EPS),
        tie_word_embeddings=draw(BOOLS),
        **windows(draw, layers),
    )


FULL_HEADS: Requests = {
    "hidden and heads": {"hidden": 56, "heads": 7},
    "hidden and head_dim": {"hidden": 55, "head_dim": 11},
    "ffn": {"ffn": 51},
    "layers": {"layers": 5},
}
GPT_NEO = Family(
    "gpt_neo",
    transformers.GPTNeoConfig,
    tuple(f"GPTNeo{head}" for head in (*HEADS, "ForQuestionAnswering")),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=40,
        intermediate_size=37,
        num_layers=3,
        num_heads=5,
        max_position_embeddings=POSITIONS,
        layer_norm_epsilon=1e-2,
        attention_types=[[["global", "local"], 1], [["local"], 1]],
        window_size=5,
    ),
    FULL_HEADS,
    dict(hidden=98, heads=7, head_dim=14, ffn="x3", layers="+2"),
    neo_options,
    fused_growths,
    frozenset({"intermediate_size"}),
)


def opt_options(draw: st.DrawFn) -> Json:
    """Norms before branches, with gains or, under a head of its own, without."""
    heads, dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7]))
    width = draw(st.sampled_from([None, 9]))
    affine = draw(BOOLS)
    return dict(
        hidden_size=heads * dim,
        word_embed_proj_dim=width,
        num_attention_heads=heads,
        num_hidden_layers=draw(LAYERS),
        enable_bias=draw(BOOLS),
        activation_function=draw(st.sampled_from(["relu", "gelu"])),
        layer_norm_elementwise_affine=affine,
        tie_word_embeddings=draw(BOOLS) if affine or width else False,
        _remove_final_layer_norm=bool(width) and draw(BOOLS),
    )


OPT = Family(
    "opt",
    transformers.OPTConfig,
    ("OPTForCausalLM", "OPTModel", "OPTForSequenceClassification", "OPTForQuestionAnswering"),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=40,
        ffn_dim=37,
        num_hidden_layers=3,
        num_attention_heads=5,
        max_position_embeddings=POSITIONS,
        activation_function="gelu",  # of a ReLU's units some sleep, and get no gradient
    ),
    FULL_HEADS,
    GPT_NEO.together,
    opt_options,
    fused_growths,
    unread={"embed_positions.weight": [0]},
)

ROWS = (STARCODER2, STABLELM, COHERE, GPT_NEO, OPT)

REAL = {
    "starcoder2-3b": ("Starcoder2ForCausalLM", dict(use_bias=True, sliding_window=4096)),
    "starcoder2-15b": (
        "Starcoder2ForCausalLM",
        dict(
            hidden_size=6144,
            intermediate_size=24576,
            num_hidden_layers=40,
            num_attention_heads=48,
            num_key_value_heads=4,
            tie_word_embeddings=False,
        ),
    ),
    "stablelm-3b-4e1t": ("StableLmForCausalLM", dict(partial_rotary_factor=0.25)),
    "stablelm-2-12b": (
        "StableLmForCausalLM",
        dict(
            vocab_size=100352,
            hidden_size=5120,
            intermediate_size=13824,
            num_hidden_layers=40,
            num_key_value_heads=8,
            qk_layernorm=True,
            use_parallel_residual=True,
        ),
    ),
    "c4ai-command-r-v01": ("CohereForCausalLM", dict(num_key_value_heads=64)),
    "c4ai-command-r-plus": (
        "CohereForCausalLM",
        dict(
            hidden_size=12288,
            intermediate_size=33792,
            num_hidden_layers=64,
            num_attention_heads=96,
            num_key_value_heads=8,
            use_qk_norm=True,
        ),
    ),
    "gpt-neo-125m": (
        "GPTNeoForCausalLM",
        dict(hidden_size=768, num_layers=12, num_heads=12, attention_types=[[["global", "local"], 6]]),
    ),
    "gpt-neo-1.3B": ("GPTNeoForCausalLM", dict(attention_types=[[["global", "local"], 12]])),
    "opt-125m": ("OPTForCausalLM", {}),
    "opt-350m": (
        "OPTForCausalLM",
        dict(
            hidden_size=1024,
            ffn_dim=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            word_embed_proj_dim=512,
            do_layer_norm_before=False,
        ),
        dict(hidden="x2", heads="x2", ffn="x2"),
    ),
    "opt-66b": (
        "OPTForCausalLM",
        dict(hidden_size=9216, ffn_dim=36864, num_hidden_layers=64, num_attention_heads=72),
    ),
}
