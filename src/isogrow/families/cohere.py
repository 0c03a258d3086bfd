"""Cohere (Command R): one LayerNorm without a shift before attention and MLP, which run in parallel; pairs of
adjacent channels rotate; queries and keys may be normalised, each head with a gain of its own."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, L, biased, line, with_defaults, without
from isogrow.layout import Attention, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
Q_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.q", over=("key_dim",))
K_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.k", over=("key_dim",))
A = L + "self_attn."

BIAS = "attention_bias"
_Q, _V, _O = line(WEIGHTS, "attn.q"), line(WEIGHTS, "attn.v"), line(WEIGHTS, "attn.o")
_MLP = line(WEIGHTS, "mlp_norm")
EMBED, GATE, UP, DOWN, HEAD = (
    WEIGHTS[line(WEIGHTS, slot)] for slot in ("embed", "mlp.gate", "mlp.up", "mlp.down", "head")
)

COHERE = replace(
    LLAMA,
    family="cohere",
    model_types=("cohere",),
    weights=(
        EMBED,
        Weight(L + "input_layernorm.weight", "* hidden", "norm", PRE),
        *biased(WEIGHTS[_Q:_V], BIAS),
        Weight(A + "q_norm.weight", "* (kv_heads group) key_dim", "attn.q_norm", Q_NORM, when="use_qk_norm"),
        Weight(A + "k_norm.weight", "* kv_heads key_dim", "attn.k_norm", K_NORM, when="use_qk_norm"),
        *biased(WEIGHTS[_V:_O], BIAS),
        GATE,
        UP,
        *biased(WEIGHTS[_O:_MLP], BIAS),
        DOWN,
        Weight("norm.weight", "* hidden", "final_norm", PRE),
        HEAD,
    ),
    keys=with_defaults(
        without(KEYS, "rms_norm_eps"),
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
    constraints=("key_dim == value_dim",),
)

LAYOUTS = (COHERE,)
