"""StarCoder2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import transformers
from family import BOOLS, Family, Json, gated, more_options
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


STARCODER2 = layered(
    "norm_epsilon",
    "starcoder2",
    transformers.Starcoder2Config,
    more_options(use_bias=BOOLS, sliding_window=st.sampled_from([None, 5])),
    sliding_window=5,
    absent=("head_dim",),
)

ROWS = (STARCODER2,)
