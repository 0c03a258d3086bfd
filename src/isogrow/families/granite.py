"""Granite, SmolLM3: Llama with scales from the config, or with layers that have no positions."""

from __future__ import annotations

from isogrow.families.edits import like
from isogrow.families.llama import EQUAL, LLAMA
from isogrow.layouts.layout import Attention, Key, PerLayer, Rope

# The other multipliers (embedding, residual, logits) do not depend on a size, so they stay.
GRANITE = like(
    LLAMA,
    "granite",
    more=(Key("attention_multiplier", default=1.0),),
    attentions=(Attention(scale="attention_multiplier", rope=Rope()),),
    constraints=EQUAL,
)

SMOLLM3 = like(
    LLAMA,
    "smollm3",
    defaults=dict(
        vocab_size=128256,
        hidden_size=2048,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    ),
    more=(Key("no_rope_layer_interval", default=4),),
    attentions=(Attention(rope=Rope(default=2e6, everywhere=False)),),
    # The class computes layer_types from no_rope_layers where the config leaves it out.
    per_layer=(
        PerLayer("no_rope_layers", "int((i + 1) % no_rope_layer_interval != 0)"),
        PerLayer("layer_types"),
    ),
    constraints=EQUAL,
)

LAYOUTS = (GRANITE, SMOLLM3)
