"""Llama under other names: SeedOSS, InternLM 3, IQuest-Coder, CWM, Ministral, Helium, ERNIE 4.5, Emu3. What
differs are defaults, biases, windows, and how rotary pairs lie."""

from __future__ import annotations

from isogrow.families.edits import alter, like
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MISTRAL, MLP
from isogrow.layouts.layout import Attention, Bias, Key, PerLayer, Rope

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

# The class fills in a scaling where the config has none.
FILLED = (
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

MINISTRAL = like(
    MISTRAL,
    "ministral",
    more=(Key("sliding_window", default=4096, null=0),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if sliding_window else 'full_attention'"),),
)

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

ERNIE4_5 = like(
    LLAMA,
    "ernie4_5",
    alter(ATTENTION + " " + MLP, bias=Bias("use_bias")),
    defaults=dict(
        vocab_size=103424,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=18,
        num_attention_heads=16,
        num_key_value_heads=2,
        head_dim=128,
        rms_norm_eps=1e-5,
        use_bias=False,
        tie_word_embeddings=True,
    ),
    attentions=(Attention(rope=Rope("adjacent", default=500000.0)),),
    constraints=EQUAL,
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

LAYOUTS = (SEED_OSS, INTERNLM3, IQUESTCODER, CWM, MINISTRAL, HELIUM, ERNIE4_5, EMU3)
