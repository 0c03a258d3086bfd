"""Apertus: Llama without gates, whose activation (xIELU) has trained numbers. To Apertus 1.5 images and sound
are tokens, too, and it may have a head for the others alone."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import LM, head
from isogrow.families.llama import EQUAL, LLAMA, L, M
from isogrow.families.qwen3 import head_norms
from isogrow.layouts.layout import Attention, Bias, Norm, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
SAID = Bias("attention_bias")
XIELU = "hidden_act == 'xielu'"

# The class fills in a table where the config has none, and then reads no θ that stands beside it.
LLAMA3 = (
    ("rope_theta", 12e6),
    ("rope_type", "llama3"),
    ("factor", 8.0),
    ("original_max_position_embeddings", 8192),
    ("low_freq_factor", 1.0),
    ("high_freq_factor", 4.0),
)


def bent(name: str, slot: str) -> Weight:
    """A number of an activation, which multiplies what the MLP gives by no zero."""
    return Weight(M + f"act_fn.{name}", "-> 1", slot, when=XIELU, scales="mlp.down", centred=True)


APERTUS = like(
    LLAMA,
    "apertus",
    swap("attn_norm", Weight(L + "attention_layernorm.weight", "* hidden", "attn_norm", PRE)),
    swap("mlp_norm", Weight(L + "feedforward_layernorm.weight", "* hidden", "mlp_norm", PRE)),
    alter("attn.q attn.k attn.v attn.o", bias=SAID),
    after("attn.k", *head_norms()),
    drop("mlp.gate"),
    alter("mlp.up mlp.down", bias=None),
    after(
        "mlp.up",
        bent("alpha_p", "mlp.above"),
        bent("alpha_n", "mlp.below"),
        *(
            Weight(M + f"act_fn.{name}", "->", f"mlp.{name}", when=XIELU, idle="True", constant=True)
            for name in ("beta", "eps")
        ),
    ),
    defaults=dict(
        vocab_size=131072,
        intermediate_size=14336,
        rms_norm_eps=1e-5,
        attention_bias=False,
        hidden_act="'xielu'",
    ),
    attentions=(Attention(rope=Rope(default=12e6, filled=LLAMA3)),),
    constraints=EQUAL,
)

PRUNED = "output_vocab_size and output_vocab_size != vocab_size"

APERTUS_1_5 = like(
    APERTUS,
    "apertus1p5_text",
    swap(
        "head",
        replace(LM, when=f"not ({PRUNED})"),
        head("lm_head.weight", "outputs <- hidden", "head", when=PRUNED),
    ),
    defaults=dict(vocab_size=266752, output_vocab_size=0),
)

LAYOUTS = (APERTUS, APERTUS_1_5)
