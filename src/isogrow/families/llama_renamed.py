"""Llama under other names, with defaults of their own and switches for biases: SeedOSS, InternLM 3,
IQuest-Coder, Emu3."""

from __future__ import annotations

from isogrow.families.edits import alter, like
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP
from isogrow.layouts.layout import Attention, Bias, Rope

SEED_OSS = like(
    LLAMA,
    "seed_oss",
    defaults=dict(
        vocab_size=155136,
        intermediate_size=27648,
        num_hidden_layers=64,
        num_attention_heads=80,
        num_key_value_heads=8,
        head_dim=128,
    ),
    constraints=EQUAL,
)

INTERNLM3 = like(
    LLAMA,
    "internlm3",
    defaults=dict(
        vocab_size=128512,
        intermediate_size=10240,
        num_hidden_layers=48,
        num_key_value_heads=2,
        head_dim=128,
        rms_norm_eps=1e-5,
    ),
)

IQUESTCODER = like(
    LLAMA,
    "iquestcoder",
    defaults=dict(
        vocab_size=76800,
        hidden_size=5120,
        intermediate_size=27648,
        num_hidden_layers=80,
        num_attention_heads=40,
        num_key_value_heads=8,
        head_dim=128,
        rms_norm_eps=1e-5,
    ),
)

# Images are tokens of its vocabulary, too.
EMU3 = like(
    LLAMA,
    "emu3_text_model",
    alter(ATTENTION, bias=Bias("attention_bias")),
    alter(MLP, bias=Bias("mlp_bias")),
    defaults=dict(
        vocab_size=184622,
        intermediate_size=14336,
        num_key_value_heads=8,
        rms_norm_eps=1e-5,
        attention_bias=False,
        mlp_bias=False,
    ),
    attentions=(Attention(rope=Rope(default=1e6)),),
    constraints=EQUAL,
)

LAYOUTS = (SEED_OSS, INTERNLM3, IQUESTCODER, EMU3)
