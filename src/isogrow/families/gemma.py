"""Gemma: gains of 1 + g, embeddings times √hidden. Gemma 2 normalises what a branch writes, too; Gemma 3 also
queries and keys, and has rotary positions of two kinds."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.edits import after, alter, like, swap
from isogrow.families.llama import EQUAL, LLAMA, A, L
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.layouts.layout import Attention, Key, Norm, PerLayer, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps", offset=1.0)
BRANCH = Norm("rms", "branch", eps="rms_norm_eps", offset=1.0)

GEMMA = like(
    LLAMA,
    "gemma",
    alter("embed", times="hidden ** 0.5"),
    alter("attn_norm mlp_norm final_norm", norm=PRE),
    defaults=dict(
        vocab_size=256000,
        hidden_size=3072,
        intermediate_size=24576,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=16,
        head_dim=256,
        tie_word_embeddings=True,
    ),
    constraints=EQUAL,
)

GEMMA2 = like(
    GEMMA,
    "gemma2",
    swap(
        "mlp_norm",
        Weight(L + "post_attention_layernorm.weight", "* hidden", "attn_after", BRANCH),
        Weight(L + "pre_feedforward_layernorm.weight", "* hidden", "mlp_norm", PRE),
    ),
    after("mlp.down", Weight(L + "post_feedforward_layernorm.weight", "* hidden", "mlp_after", BRANCH)),
    defaults=dict(
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=26,
        num_attention_heads=8,
        num_key_value_heads=4,
    ),
    more=(Key("query_pre_attn_scalar", default=256, usual="key_dim"),),
    attentions=(Attention(scale="query_pre_attn_scalar ** -0.5", rope=Rope()),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if (i + 1) % 2 else 'full_attention'"),),
    constraints=LLAMA.constraints,
)

LOCAL = Rope(
    theta=("rope_parameters.sliding_attention.rope_theta", "rope_local_base_freq"),
    scaling=("rope_parameters.sliding_attention",),
)
GLOBAL = Rope(
    theta=("rope_scaling.rope_theta", "rope_parameters.full_attention.rope_theta", "rope_theta"),
    scaling=("rope_scaling", "rope_parameters.full_attention"),
    default=1e6,
    merged=True,
    others=(LOCAL,),
)

GEMMA3 = like(
    GEMMA2,
    "gemma3_text",
    after(
        "attn.k",
        Weight(A + "q_norm.weight", "* key_dim", "attn.q_norm", replace(Q_NORM, offset=1.0)),
        Weight(A + "k_norm.weight", "* key_dim", "attn.k_norm", replace(K_NORM, offset=1.0)),
    ),
    defaults={"vocab_size": 262208, "sliding_window_pattern": 6},
    attentions=(Attention(scale="query_pre_attn_scalar ** -0.5", rope=GLOBAL),),
    per_layer=(
        PerLayer(
            "layer_types",
            "'sliding_attention' if (i + 1) % sliding_window_pattern else 'full_attention'",
        ),
    ),
)

LAYOUTS = (GEMMA, GEMMA2, GEMMA3)
