"""Granite with windows and sinks, whose config lists a θ for each layer (0: no positions), dense and as a
mixture of experts."""

from __future__ import annotations

from typing import Any

from isogrow.families.edits import after, like
from isogrow.families.granite import GRANITE
from isogrow.families.granitemoe import GRANITEMOESHARED
from isogrow.families.llama import A
from isogrow.layouts.layout import Attention, PerLayer, Rope, Weight

ROPE = Rope(listed="layer_rope_theta", everywhere=False)
SAID: dict[str, Any] = dict(
    attentions=(Attention(scale="attention_multiplier", rope=ROPE, sink="attn.sinks"),),
    per_layer=(
        PerLayer("layer_types", "'sliding_attention' if i % 4 else 'full_attention'"),
        PerLayer("layer_rope_theta"),  # where it is left out, the table's θ is that of all layers
    ),
)
SINKS = after("attn.v", Weight(A + "sinks", "-> (kv_heads group)", "attn.sinks"))

GRANITE_SWA = like(
    GRANITE,
    "granite_swa",
    SINKS,
    defaults=dict(
        vocab_size=100352,
        hidden_size=2560,
        intermediate_size=8192,
        num_hidden_layers=24,
        num_attention_heads=20,
        num_key_value_heads=4,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    ),
    **SAID,
)

GRANITEMOE_SWA = like(GRANITEMOESHARED, "granitemoe_swa", SINKS, **SAID)
LAYOUTS = (GRANITE_SWA, GRANITEMOE_SWA)
