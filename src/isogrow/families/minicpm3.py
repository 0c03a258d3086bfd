"""MiniCPM3: latent attention, and branches that are scaled by the root of the number of layers."""

from __future__ import annotations

from isogrow.families.deepseek import SCALE
from isogrow.families.edits import alter, like
from isogrow.families.llama import MLP
from isogrow.families.youtu import YOUTU
from isogrow.layouts.layout import Attention, Bias, Key, Rope

SAME = "dim_model_base == hidden_size"

MINICPM3 = like(
    YOUTU,
    "minicpm3",
    alter(MLP, bias=Bias("mlp_bias")),
    # The head reads the residual times dim_model_base / hidden, where these differ.
    alter("head", times=f"1 if {SAME} else 1 / hidden"),
    lacks="rope_interleave qk_head_dim",
    defaults=dict(
        vocab_size=73448,
        hidden_size=2560,
        intermediate_size=6400,
        num_hidden_layers=62,
        num_attention_heads=40,
        num_key_value_heads=40,
        q_lora_rank=768,
        kv_lora_rank=256,
        qk_nope_head_dim=64,
        qk_rope_head_dim=32,
        v_head_dim="hidden_size // num_attention_heads",
        rms_norm_eps=1e-5,
        mlp_bias=False,
    ),
    more=(
        Key("dim_model_base", "hidden", 256, null="hidden_size", when=SAME),
        # Each branch is divided by the root of the number of layers, so that the scale follows that.
        Key(
            "scale_depth",
            "scale_depth * (layers / num_hidden_layers) ** 0.5",
            1.4,
            null="sqrt(num_hidden_layers)",
        ),
    ),
    attentions=(
        Attention(scale=SCALE),
        Attention("attn.q_rope", "attn.k_rope", axis="rope_dim", scale=SCALE, rope=Rope()),
    ),
    constraints=("hidden // heads * heads == hidden",),
)

LAYOUTS = (MINICPM3,)
