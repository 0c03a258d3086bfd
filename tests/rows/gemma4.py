"""Gemma 4: two kinds of heads, layers that read the keys of others, and inputs of each layer's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import transformers
from family import BOOLS, NORMED, PAD, VOCAB, Json, gated, gated_options
from hypothesis import strategies as st

WINDOW, FULL = "sliding_attention", "full_attention"
SHARING: dict[str, Any] = dict(
    layer_types=[WINDOW, FULL, WINDOW, FULL, WINDOW, FULL],
    num_hidden_layers=6,
    num_kv_shared_layers=2,
    use_double_wide_mlp=True,
    head_dim=8,
    global_head_dim=12,
    sliding_window=5,
    # A gate of an own input reads the residual as it is; behind a large number tanh is 1 in float64.
    hidden_activation="silu",
)
INPUTS: dict[str, Any] = dict(hidden_size_per_layer_input=7, vocab_size_per_layer_input=VOCAB)
ABSENT = ("global_head_dim", "num_global_key_value_heads", "per_layer_config")


def sharing_options(draw: st.DrawFn) -> Json:
    """Kinds of layers, how many of the last read the keys of others, and whether keys are values."""
    found = gated_options(draw)
    layers = draw(st.sampled_from([2, 3, 4]))
    kinds = draw(st.lists(st.sampled_from([WINDOW, FULL]), min_size=layers - 2, max_size=layers - 2))
    kinds = [WINDOW, *kinds, FULL]
    shared = [n for n in range(layers) if {*kinds[: layers - n]} == {*kinds}]
    alike = draw(BOOLS)
    return {
        **found,
        "num_hidden_layers": layers,
        "layer_types": kinds,
        "num_kv_shared_layers": draw(st.sampled_from(shared)),
        "use_double_wide_mlp": draw(BOOLS),
        "attention_k_eq_v": alike,
        "num_global_key_value_heads": 1 if alike else None,
        "global_head_dim": draw(st.sampled_from([6, 12])),
        "attention_bias": draw(BOOLS),
        "sliding_window": 5,
        "rope_parameters": None,
    }


def more(draw: st.DrawFn) -> Json:
    """The same, with inputs of each layer's own or without, and with experts or without."""
    found = sharing_options(draw)
    # transformers 5.23 does not run where layers share keys and have no inputs of their own.
    return {
        **found,
        "hidden_size_per_layer_input": 7 if found["num_kv_shared_layers"] else draw(st.sampled_from([0, 7])),
        "vocab_size_per_layer_input": VOCAB,
        **draw(st.sampled_from([{}, EXPERTS])),
    }


EXPERTS = dict(enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=11)
TOGETHER = dict(hidden=75, ffn="x3", heads=15, kv_heads=3, head_dim=16, layers="+2")
GROWTHS = {**NORMED, "head_dim, a multiple": {"head_dim": 24}, "layers": {"layers": 8}}

GEMMA4 = replace(
    gated(
        "gemma4_text",
        transformers.Gemma4TextConfig,
        more,
        GROWTHS,
        TOGETHER,
        absent=(*ABSENT, "num_experts", "top_k_experts", "moe_intermediate_size"),
        **SHARING,
        **INPUTS,
    ),
    classes=("Gemma4ForCausalLM", "Gemma4TextModel"),
    unread={"embed_tokens_per_layer.weight": [PAD]},
    dated=False,
    places=("start", "end"),
)
UNIFIED = replace(
    gated(
        "gemma4_unified_text",
        transformers.Gemma4UnifiedTextConfig,
        sharing_options,
        GROWTHS,
        TOGETHER,
        absent=ABSENT,
        **SHARING,
    ),
    classes=("Gemma4UnifiedForCausalLM", "Gemma4UnifiedTextModel"),
    dated=False,
    places=("start", "end"),
)

ROWS = (GEMMA4, UNIFIED)
