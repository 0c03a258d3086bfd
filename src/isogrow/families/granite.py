"""Granite, SmolLM3: Llama with scales from the config, or with layers that have no positions."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.llama import KEYS, LLAMA, with_defaults
from isogrow.layout import Attention, Key, PerLayer, Rope

# The other multipliers (embedding, residual, logits) do not depend on a size, so they stay.
GRANITE = replace(
    LLAMA,
    family="granite",
    model_types=("granite",),
    keys=(*KEYS, Key("attention_multiplier", default=1.0)),
    attentions=(Attention(scale="attention_multiplier", rope=Rope()),),
    constraints=("key_dim == value_dim",),
)

SMOLLM3 = replace(
    LLAMA,
    family="smollm3",
    model_types=("smollm3",),
    keys=(
        *with_defaults(
            KEYS,
            vocab_size=128256,
            hidden_size=2048,
            num_hidden_layers=36,
            num_attention_heads=16,
            num_key_value_heads=4,
            tie_word_embeddings=True,
        ),
        Key("no_rope_layer_interval", default=4),
    ),
    attentions=(Attention(rope=Rope(default=2e6, everywhere=False)),),
    # The class computes layer_types from no_rope_layers where the config leaves it out.
    per_layer=(
        PerLayer("no_rope_layers", "int((i + 1) % no_rope_layer_interval != 0)"),
        PerLayer("layer_types"),
    ),
    constraints=("key_dim == value_dim",),
)

LAYOUTS = (GRANITE, SMOLLM3)
