"""Mistral with a window in each layer (Ministral), or queries scaled by their position (Ministral 3)."""

from __future__ import annotations

from isogrow.families.edits import alter, like
from isogrow.families.llama import ATTENTION, MISTRAL, MLP
from isogrow.layouts.layout import Attention, Key, PerLayer, Rope

MINISTRAL = like(
    MISTRAL,
    "ministral",
    more=(Key("sliding_window", default=4096, null=0),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if sliding_window else 'full_attention'"),),
)

# The class fills in a table where the config has none, and then reads no θ that stands beside it.
YARN = (
    ("rope_theta", 1e6),
    ("type", "yarn"),
    ("factor", 16.0),
    ("original_max_position_embeddings", 16384),
    ("beta_fast", 32.0),
    ("beta_slow", 1.0),
    ("mscale_all_dim", 1.0),
    ("mscale", 1.0),
    ("llama_4_scaling_beta", 0.1),
)

MINISTRAL3 = like(
    MISTRAL,
    "ministral3",
    alter(f"{ATTENTION} {MLP}", bias=None),
    defaults=dict(vocab_size=131072, num_hidden_layers=34, head_dim=128, rms_norm_eps=1e-5),
    attentions=(Attention(rope=Rope(default=1e6, filled=YARN)),),
)

LAYOUTS = (MINISTRAL, MINISTRAL3)
