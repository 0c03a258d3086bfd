"""Helium: Llama with a square output projection, and rotary pairs side by side."""

from __future__ import annotations

from isogrow.families.edits import alter, like
from isogrow.families.llama import LLAMA
from isogrow.layouts.layout import Attention, Rope

HELIUM = like(
    LLAMA,
    "helium",
    alter("attn.o", bias=None),
    defaults=dict(
        vocab_size=48000,
        hidden_size=2560,
        intermediate_size=7040,
        num_hidden_layers=24,
        num_attention_heads=20,
        num_key_value_heads=20,
        head_dim=128,
        rms_norm_eps=1e-8,
    ),
    attentions=(Attention(rope=Rope("adjacent", default=100000.0)),),
    # The output projection is square, whatever head_dim says.
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
)

LAYOUTS = (HELIUM,)
