"""Phi-3, GLM-4: Llama's architecture with fused projections; only a part of each head may rotate."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, L, line, with_defaults
from isogrow.layout import Attention, Norm, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
BRANCH = Norm("rms", "branch", eps="rms_norm_eps")
QKV = "(q: kv_heads group key_dim + k: kv_heads key_dim + v: kv_heads value_dim)"
SHARE = (
    "rope_scaling.partial_rotary_factor",
    "rope_parameters.partial_rotary_factor",
    "partial_rotary_factor",
)
GATE_UP = Weight(L + "mlp.gate_up_proj.weight", "(gate: ffn + up: ffn) <- hidden", "mlp.*")

_Q, _O, _MLP = line(WEIGHTS, "attn.q"), line(WEIGHTS, "attn.o"), line(WEIGHTS, "mlp_norm")
_DOWN, _FINAL = line(WEIGHTS, "mlp.down"), line(WEIGHTS, "final_norm")

PHI3 = replace(
    LLAMA,
    family="phi3",
    model_types=("phi3",),
    weights=(
        *WEIGHTS[:_Q],
        Weight(L + "self_attn.qkv_proj.weight", f"{QKV} <- hidden", "attn.*"),
        WEIGHTS[_O],
        WEIGHTS[_MLP],
        GATE_UP,
        WEIGHTS[_DOWN],
        *WEIGHTS[_FINAL:],
    ),
    keys=with_defaults(KEYS, vocab_size=32064, hidden_size=3072, intermediate_size=8192, rms_norm_eps=1e-5),
    attentions=(Attention(rope=Rope(share=SHARE, aliases=(("su", "longrope"), ("yarn", "longrope")))),),
    # The class holds LongRoPE's lists against hidden and heads.
    constraints=(
        "key_dim == value_dim",
        "rope_type != 'longrope' or hidden // (kv_heads * group) == key_dim",
    ),
)

GLM4 = replace(
    LLAMA,
    family="glm4",
    model_types=("glm4",),
    weights=(
        *WEIGHTS[: _O + 1],
        Weight(L + "post_self_attn_layernorm.weight", "* hidden", "attn_after", BRANCH),
        WEIGHTS[_MLP],
        GATE_UP,
        WEIGHTS[_DOWN],
        Weight(L + "post_mlp_layernorm.weight", "* hidden", "mlp_after", BRANCH),
        *WEIGHTS[_FINAL:],
    ),
    keys=with_defaults(
        KEYS,
        vocab_size=151552,
        intermediate_size=13696,
        num_hidden_layers=40,
        num_key_value_heads=2,
        head_dim=128,
        rms_norm_eps=1.5625e-07,
    ),
    attentions=(Attention(rope=Rope("adjacent", share=SHARE, portion=0.5)),),
    constraints=("key_dim == value_dim",),
)

LAYOUTS = (PHI3, GLM4)
