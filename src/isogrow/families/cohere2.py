"""Cohere 2 (Command R7B): Cohere with windows, and no positions in layers without one."""

from __future__ import annotations

from isogrow.families.cohere import COHERE
from isogrow.families.edits import drop, like
from isogrow.layouts.layout import Attention, Key, PerLayer, Rope

COHERE2 = like(
    COHERE,
    "cohere2",
    drop("attn.q_norm attn.k_norm"),
    lacks="use_qk_norm",
    more=(Key("sliding_window_pattern", default=4),),
    attentions=(Attention(rope=Rope("adjacent", everywhere=False)),),
    per_layer=(
        PerLayer(
            "layer_types", "'sliding_attention' if (i + 1) % sliding_window_pattern else 'full_attention'"
        ),
    ),
)

LAYOUTS = (COHERE2,)
