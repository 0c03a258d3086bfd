"""Persimmon: GPT-NeoX's fused heads, branches one after the other, and norms on queries and keys."""

from __future__ import annotations

from isogrow.families.edits import like
from isogrow.families.gpt_neox import GPT_NEOX, QKV
from isogrow.families.heads import BIAS, HEADS
from isogrow.families.phi3 import SHARE
from isogrow.layouts.layout import Attention, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
Q_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.q")
K_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.k")
L = "layers.{layers}."
A, M = L + "self_attn.", L + "mlp."
NORMED = "qk_layernorm"

WEIGHTS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE, BIAS),
    Weight(A + "query_key_value.weight", f"{QKV} <- hidden", "attn.*", bias=BIAS),
    Weight(A + "q_layernorm.weight", "* key_dim", "attn.q_norm", Q_NORM, BIAS, when=NORMED),
    Weight(A + "k_layernorm.weight", "* key_dim", "attn.k_norm", K_NORM, BIAS, when=NORMED),
    Weight(A + "dense.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE, BIAS),
    Weight(M + "dense_h_to_4h.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
    Weight(M + "dense_4h_to_h.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
    Weight("final_layernorm.weight", "* hidden", "final_norm", PRE, BIAS),
    *HEADS,
)

PERSIMMON = like(
    GPT_NEOX,
    "persimmon",
    weights=WEIGHTS,
    lacks="attention_bias use_parallel_residual",
    defaults=dict(
        vocab_size=262144,
        hidden_size=4096,
        intermediate_size=16384,
        num_hidden_layers=36,
        qk_layernorm=True,
    ),
    prefixes=("model.", ""),
    attentions=(Attention(rope=Rope(share=SHARE, portion=0.5)),),
    renames=(),
)

LAYOUTS = (PERSIMMON,)
