"""Gemma 3n: several streams, layers that read the keys of others, and sparse gates."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import BOOLS, NORMED, PAD, VOCAB, Json, Steps, gated, gated_growths, gated_options
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import HiddenExpansion

WINDOW, FULL = "sliding_attention", "full_attention"
HIDDEN = 30


def options(draw: st.DrawFn) -> Json:
    """Kinds of layers, how many of the last read the keys of others, and which gates are sparse."""
    found, layers = gated_options(draw), draw(st.sampled_from([2, 3, 4]))
    kinds = draw(st.lists(st.sampled_from([WINDOW, FULL]), min_size=layers, max_size=layers))
    shared = [n for n in range(layers) if {*kinds[: layers - n]} == {*kinds}]
    sparse = draw(st.lists(st.sampled_from([0.0, 0.6, 0.95]), min_size=layers, max_size=layers))
    return {
        **found,
        "hidden_size": HIDDEN * found["num_attention_heads"],
        "intermediate_size": 37,
        "num_hidden_layers": layers,
        "layer_types": kinds,
        "num_kv_shared_layers": draw(st.sampled_from(shared)),
        "activation_sparsity_pattern": sparse,
        "attention_bias": draw(BOOLS),
        "altup_num_inputs": draw(st.sampled_from([2, 3])),
        "altup_active_idx": draw(st.sampled_from([0, 1])),
        "altup_correct_scale": draw(BOOLS),
        "rope_parameters": None,
    }


def growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Heads that divide hidden, which stays."""
    found = gated_growths(draw, anatomy)
    return [each for each in found if not isinstance(each, HiddenExpansion)]


GROWTHS = {
    **NORMED,
    "hidden": {},
    "layers": {},
    "ffn": {"ffn": 74},
    "heads and kv_heads": {"heads": 15, "kv_heads": 5},
    "head_dim, a multiple": {"head_dim": 30},
}

ROWS = (
    replace(
        gated(
            "gemma3n_text",
            transformers.Gemma3nTextConfig,
            options,
            GROWTHS,
            dict(ffn="x3", heads=15, kv_heads=3, head_dim=20),
            without=("Gemma3nForSequenceClassification", "Gemma3nForTokenClassification"),
            num_hidden_layers=4,
            layer_types=[WINDOW, FULL, WINDOW, FULL],
            num_kv_shared_layers=2,
            # A unit is active at some tokens: of 0.95 some would be at none.
            activation_sparsity_pattern=[0.6, 0.0, 0.3, 0.0],
            hidden_size_per_layer_input=7,
            vocab_size_per_layer_input=VOCAB,
            laurel_rank=5,
            altup_num_inputs=3,
            sliding_window=5,
            hidden_activation="silu",  # behind a large number a tanh is 1 in float64
        ),
        classes=("Gemma3nForCausalLM", "Gemma3nTextModel"),
        unread={"embed_tokens_per_layer.weight": [PAD]},
        draws=growths,
        widths=((), ("x2",), ("x3",), ("x2", "x2")),
    ),
)
