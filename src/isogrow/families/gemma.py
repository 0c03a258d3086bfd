"""Gemma: gains of 1 + g, embeddings times √hidden. Gemma 2 normalises what a branch writes, too; Gemma 3 also
queries and keys, and has rotary positions of two kinds."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, L, line, with_defaults
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.layout import Attention, Key, Norm, PerLayer, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps", offset=1.0)
BRANCH = Norm("rms", "branch", eps="rms_norm_eps", offset=1.0)

SCALED = tuple(
    replace(weight, times="hidden ** 0.5") if weight.slot == "embed" else weight
    for weight in (replace(weight, norm=PRE) if weight.norm else weight for weight in WEIGHTS)
)
_MLP = line(SCALED, "mlp_norm")
_FINAL = line(SCALED, "final_norm")

GEMMA = replace(
    LLAMA,
    family="gemma",
    model_types=("gemma",),
    weights=SCALED,
    keys=with_defaults(
        KEYS,
        vocab_size=256000,
        hidden_size=3072,
        intermediate_size=24576,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=16,
        head_dim=256,
        tie_word_embeddings=True,
    ),
    constraints=("key_dim == value_dim",),
)

GEMMA2 = replace(
    GEMMA,
    family="gemma2",
    model_types=("gemma2",),
    weights=(
        *SCALED[:_MLP],
        Weight(L + "post_attention_layernorm.weight", "* hidden", "attn_after", BRANCH),
        Weight(L + "pre_feedforward_layernorm.weight", "* hidden", "mlp_norm", PRE),
        *SCALED[_MLP + 1 : _FINAL],
        Weight(L + "post_feedforward_layernorm.weight", "* hidden", "mlp_after", BRANCH),
        *SCALED[_FINAL:],
    ),
    keys=(
        *with_defaults(
            GEMMA.keys,
            hidden_size=2304,
            intermediate_size=9216,
            num_hidden_layers=26,
            num_attention_heads=8,
            num_key_value_heads=4,
        ),
        Key("query_pre_attn_scalar", default=256),
    ),
    attentions=(Attention(scale="query_pre_attn_scalar ** -0.5", rope=Rope()),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if (i + 1) % 2 else 'full_attention'"),),
    constraints=("key_dim == value_dim", "hidden % (kv_heads * group) == 0"),
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
_V = line(GEMMA2.weights, "attn.v")

GEMMA3 = replace(
    GEMMA2,
    family="gemma3_text",
    model_types=("gemma3_text",),
    weights=(
        *GEMMA2.weights[:_V],
        Weight(L + "self_attn.q_norm.weight", "* key_dim", "attn.q_norm", replace(Q_NORM, offset=1.0)),
        Weight(L + "self_attn.k_norm.weight", "* key_dim", "attn.k_norm", replace(K_NORM, offset=1.0)),
        *GEMMA2.weights[_V:],
    ),
    keys=with_defaults(GEMMA2.keys, vocab_size=262208, sliding_window_pattern=6),
    attentions=(Attention(scale="query_pre_attn_scalar ** -0.5", rope=GLOBAL),),
    per_layer=(
        PerLayer(
            "layer_types",
            "'sliding_attention' if (i + 1) % sliding_window_pattern else 'full_attention'",
        ),
    ),
)

LAYOUTS = (GEMMA, GEMMA2, GEMMA3)
