"""CWM: Llama with windows in three of four layers, and rotary positions that the class scales."""

from __future__ import annotations

from isogrow.families.edits import alter, like
from isogrow.families.llama import ATTENTION, LLAMA, MLP
from isogrow.layouts.layout import Attention, Bias, PerLayer, Rope

# The class fills in a table where the config has none, whatever `rope_theta` stands beside it (transformers
# 5.23, findings/theta_beside_no_table.sh).
FILLED = (
    ("rope_theta", 1e6),
    ("rope_type", "llama3"),
    ("factor", 16.0),
    ("high_freq_factor", 4.0),
    ("low_freq_factor", 1.0),
    ("original_max_position_embeddings", 8192),
)

CWM = like(
    LLAMA,
    "cwm",
    alter(ATTENTION + " " + MLP, bias=Bias(required=False)),
    defaults=dict(
        vocab_size=128256,
        hidden_size=6144,
        intermediate_size=21504,
        num_hidden_layers=64,
        num_attention_heads=48,
        num_key_value_heads=8,
        head_dim=128,
        rms_norm_eps=1e-5,
    ),
    attentions=(Attention(rope=Rope(default=1e6, filled=FILLED)),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if i % 4 else 'full_attention'"),),
)

LAYOUTS = (CWM,)
