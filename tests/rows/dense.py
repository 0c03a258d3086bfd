"""StarCoder2, StableLM, Cohere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import transformers
from family import BOOLS, EPS, LAYERS, NORMED, Family, Json, Requests, filled_growths, gated, more_options
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

ROWS = (STARCODER2, STABLELM, COHERE)
