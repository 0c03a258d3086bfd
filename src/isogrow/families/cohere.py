"""Cohere (Command R): one LayerNorm without a shift before attention and MLP, which run in parallel; pairs of
adjacent channels rotate; queries and keys may be normalised, each head with a gain of its own."""

from __future__ import annotations

from isogrow.families.edits import after, alter, drop, like, move
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, A
from isogrow.layouts.layout import Attention, Bias, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
Q_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.q", over=("key_dim",))
K_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.k", over=("key_dim",))

COHERE = like(
    LLAMA,
    "cohere",
    alter("attn_norm", slot="norm", norm=PRE),
    alter(ATTENTION, bias=Bias("attention_bias")),
    after(
        "attn.k",
        Weight(A + "q_norm.weight", "* (kv_heads group) key_dim", "attn.q_norm", Q_NORM, when="use_qk_norm"),
        Weight(A + "k_norm.weight", "* kv_heads key_dim", "attn.k_norm", K_NORM, when="use_qk_norm"),
    ),
    alter(MLP, bias=None),
    move("attn.o", behind="mlp.up"),
    alter("final_norm", norm=PRE),
    drop("mlp_norm score span"),
    lacks="rms_norm_eps",
    defaults=dict(
        vocab_size=256000,
        hidden_size=8192,
        intermediate_size=22528,
        num_hidden_layers=40,
        num_attention_heads=64,
        layer_norm_eps=1e-5,
        attention_bias=False,
        use_qk_norm=False,
        tie_word_embeddings=True,
    ),
    attentions=(Attention(rope=Rope("adjacent", default=500000.0)),),
    constraints=EQUAL,
)

LAYOUTS = (COHERE,)
