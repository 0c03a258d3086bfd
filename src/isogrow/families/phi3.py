"""Phi-3, GLM-4: Llama's architecture with fused projections; only a part of each head may rotate."""

from __future__ import annotations

from isogrow.families.edits import after, alter, like, swap
from isogrow.families.llama import EQUAL, LLAMA, A, L, M
from isogrow.layouts.layout import Attention, Norm, Rope, Weight

BRANCH = Norm("rms", "branch", eps="rms_norm_eps")
QKV = "(q: kv_heads group key_dim + k: kv_heads key_dim + v: kv_heads value_dim)"
SHARE = (
    "rope_scaling.partial_rotary_factor",
    "rope_parameters.partial_rotary_factor",
    "partial_rotary_factor",
)
GATE_UP = Weight(M + "gate_up_proj.weight", "(gate: ffn + up: ffn) <- hidden", "mlp.*")

PHI3 = like(
    LLAMA,
    "phi3",
    swap("attn.q attn.k attn.v", Weight(A + "qkv_proj.weight", f"{QKV} <- hidden", "attn.*")),
    swap("mlp.gate mlp.up", GATE_UP),
    alter("attn.o mlp.down", bias=None),
    defaults=dict(vocab_size=32064, hidden_size=3072, intermediate_size=8192, rms_norm_eps=1e-5),
    attentions=(Attention(rope=Rope(share=SHARE, aliases=(("su", "longrope"), ("yarn", "longrope")))),),
    # The class holds LongRoPE's lists against hidden and heads.
    constraints=(
        "key_dim == value_dim",
        "rope_type != 'longrope' or hidden // (kv_heads * group) == key_dim",
    ),
)

GLM4 = like(
    LLAMA,
    "glm4",
    after("attn.o", Weight(L + "post_self_attn_layernorm.weight", "* hidden", "attn_after", BRANCH)),
    swap("mlp.gate mlp.up", GATE_UP),
    after("mlp.down", Weight(L + "post_mlp_layernorm.weight", "* hidden", "mlp_after", BRANCH)),
    alter("attn.o mlp.down", bias=None),
    defaults=dict(
        vocab_size=151552,
        intermediate_size=13696,
        num_hidden_layers=40,
        num_key_value_heads=2,
        head_dim=128,
        rms_norm_eps=1.5625e-07,
    ),
    attentions=(Attention(rope=Rope("adjacent", share=SHARE, portion=0.5)),),
    constraints=EQUAL,
)

LAYOUTS = (PHI3, GLM4)
