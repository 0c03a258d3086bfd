"""NanoChat: Llama whose norms have no gain."""

from __future__ import annotations

from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, L, M
from isogrow.layouts.layout import Bias, Norm, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
POST = Norm("rms", "post", eps="rms_norm_eps")
SAID = Bias("attention_bias")

NO_GAIN = (
    "queries and keys are normalised over it without a gain, so new channels would count in its mean square"
)

NANOCHAT = like(
    LLAMA,
    "nanochat",
    swap("embed", LLAMA.weights[0], Weight("norm", "* hidden", "embed_norm", POST, stored=False)),
    swap("attn_norm", Weight(L + "input_layernorm", "* hidden", "attn_norm", PRE, stored=False)),
    alter(ATTENTION, bias=SAID),
    swap("mlp_norm", Weight(L + "post_attention_layernorm", "* hidden", "mlp_norm", PRE, stored=False)),
    swap(
        MLP,
        Weight(M + "fc1.weight", "ffn <- hidden", "mlp.up"),
        Weight(M + "fc2.weight", "hidden <- ffn", "mlp.down"),
    ),
    swap("final_norm", Weight("norm", "* hidden", "final_norm", PRE, stored=False)),
    drop("score span"),
    defaults=dict(
        vocab_size=50304,
        hidden_size=768,
        intermediate_size=8192,
        num_hidden_layers=12,
        num_attention_heads=6,
        num_key_value_heads=6,
        attention_bias=False,
    ),
    constraints=EQUAL,
    refusals={"key_dim": NO_GAIN, "value_dim": NO_GAIN},
    kept=("rms_norm_eps",),
)

LAYOUTS = (NANOCHAT,)
