"""Phi: one LayerNorm before attention and MLP, which run in parallel; a part of each head rotates."""

from __future__ import annotations

from isogrow.families.edits import like
from isogrow.families.heads import BIAS, HEADS
from isogrow.families.llama import EQUAL, LLAMA, A, L, M
from isogrow.families.phi3 import SHARE
from isogrow.layouts.layout import Attention, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
Q_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.q")
K_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.k")

# PhiAttention makes its norms for hidden // heads entries, whatever head_dim says (transformers 5.23).
NORMED = "not qk_layernorm or key_dim == hidden // (kv_heads * group)"

WEIGHTS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
    Weight(L + "input_layernorm.weight", "* hidden", "norm", PRE, BIAS),
    Weight(A + "q_proj.weight", "(kv_heads group key_dim) <- hidden", "attn.q", bias=BIAS),
    Weight(A + "k_proj.weight", "(kv_heads key_dim) <- hidden", "attn.k", bias=BIAS),
    Weight(A + "q_layernorm.weight", "* key_dim", "attn.q_norm", Q_NORM, BIAS, when="qk_layernorm"),
    Weight(A + "k_layernorm.weight", "* key_dim", "attn.k_norm", K_NORM, BIAS, when="qk_layernorm"),
    Weight(A + "v_proj.weight", "(kv_heads value_dim) <- hidden", "attn.v", bias=BIAS),
    Weight(M + "fc1.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
    Weight(A + "dense.weight", "hidden <- (kv_heads group value_dim)", "attn.o", bias=BIAS),
    Weight(M + "fc2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
    Weight("final_layernorm.weight", "* hidden", "final_norm", PRE, BIAS),
    *HEADS,
)

PHI = like(
    LLAMA,
    "phi",
    weights=WEIGHTS,
    lacks="rms_norm_eps",
    defaults=dict(
        vocab_size=51200,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=24,
        layer_norm_eps=1e-5,
        qk_layernorm=False,
    ),
    attentions=(Attention(rope=Rope(share=SHARE, portion=0.5)),),
    constraints=(*EQUAL, NORMED),
)

LAYOUTS = (PHI,)
