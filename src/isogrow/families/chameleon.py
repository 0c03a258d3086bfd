"""Chameleon: Llama with a LayerNorm on each head's queries and keys; images are tokens of its vocabulary."""

from __future__ import annotations

from isogrow.families.edits import after, alter, drop, like
from isogrow.families.heads import BIAS
from isogrow.families.llama import ATTENTION, LLAMA, MLP, A
from isogrow.families.multimodal_rope import DIVIDED, FILLING
from isogrow.layouts.layout import Attention, Bias, Norm, Rope, Weight

EACH = ("key_dim",)
MEANT = (
    "queries and keys are normalised over it by their mean, which new channels would move: grow heads instead"
)

CHAMELEON = like(
    LLAMA,
    "chameleon",
    alter(ATTENTION, bias=Bias("attention_bias")),
    alter(MLP, bias=Bias("mlp_bias")),
    after(
        "attn.k",
        Weight(
            A + "q_norm.weight",
            "* (kv_heads group) key_dim",
            "attn.q_norm",
            Norm("layer", "inner", 1e-5, of="attn.q", over=EACH),
            BIAS,
        ),
        Weight(
            A + "k_norm.weight",
            "* kv_heads key_dim",
            "attn.k_norm",
            Norm("layer", "inner", 1e-5, of="attn.k", over=EACH),
            BIAS,
        ),
    ),
    drop("score span"),
    lacks="head_dim",
    defaults=dict(vocab_size=65536, rms_norm_eps=1e-5, attention_bias=False, mlp_bias=False, swin_norm=False),
    axes=DIVIDED,
    attentions=(Attention(rope=Rope()),),
    # Layers that normalise what they give, as in Swin, are of another kind.
    constraints=(*FILLING, "not swin_norm"),
    carried=("model.vqmodel.", "vqmodel."),
    refusals={"key_dim": MEANT, "value_dim": MEANT},
)

LAYOUTS = (CHAMELEON,)
