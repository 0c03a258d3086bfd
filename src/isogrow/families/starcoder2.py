"""StarCoder2: LayerNorm before each branch, grouped queries with RoPE, a plain MLP, biases by config."""

from __future__ import annotations

from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.heads import BIAS, HEADS
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, M
from isogrow.layouts.layout import Bias, Norm, Weight

PRE = Norm("layer", "pre", eps="norm_epsilon")
SAID = Bias("use_bias")

STARCODER2 = like(
    LLAMA,
    "starcoder2",
    alter("attn_norm mlp_norm final_norm", norm=PRE, bias=BIAS),
    alter(ATTENTION, bias=SAID),
    drop("mlp.gate"),
    swap("mlp.up", Weight(M + "c_fc.weight", "ffn <- hidden", "mlp.up", bias=SAID)),
    swap("mlp.down", Weight(M + "c_proj.weight", "hidden <- ffn", "mlp.down", bias=SAID)),
    swap("head score span", *HEADS),
    lacks="rms_norm_eps",
    defaults=dict(
        vocab_size=49152,
        hidden_size=3072,
        intermediate_size=12288,
        num_hidden_layers=30,
        num_attention_heads=24,
        num_key_value_heads=2,
        norm_epsilon=1e-5,
        use_bias=True,
        tie_word_embeddings=True,
    ),
    constraints=EQUAL,
)

LAYOUTS = (STARCODER2,)
