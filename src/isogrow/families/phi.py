"""Phi: one LayerNorm before attention and MLP, which run in parallel; a part of each head rotates."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.heads import HEADS
from isogrow.families.llama import KEYS, LLAMA, with_defaults, without
from isogrow.families.phi3 import SHARE
from isogrow.layout import Attention, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
L = "layers.{layers}."
A = L + "self_attn."
Q_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.q")
K_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.k")

PHI = replace(
    LLAMA,
    family="phi",
    model_types=("phi",),
    weights=(
        Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
        Weight(L + "input_layernorm.weight", "* hidden", "norm", PRE),
        Weight(L + "input_layernorm.bias", "-> hidden", "norm.bias", PRE),
        Weight(A + "q_proj.weight", "(kv_heads group key_dim) <- hidden", "attn.q"),
        Weight(A + "q_proj.bias", "-> (kv_heads group key_dim)", "attn.q.bias"),
        Weight(A + "k_proj.weight", "(kv_heads key_dim) <- hidden", "attn.k"),
        Weight(A + "k_proj.bias", "-> (kv_heads key_dim)", "attn.k.bias"),
        Weight(A + "q_layernorm.weight", "* key_dim", "attn.q_norm", Q_NORM, when="qk_layernorm"),
        Weight(A + "q_layernorm.bias", "-> key_dim", "attn.q_norm.bias", Q_NORM, when="qk_layernorm"),
        Weight(A + "k_layernorm.weight", "* key_dim", "attn.k_norm", K_NORM, when="qk_layernorm"),
        Weight(A + "k_layernorm.bias", "-> key_dim", "attn.k_norm.bias", K_NORM, when="qk_layernorm"),
        Weight(A + "v_proj.weight", "(kv_heads value_dim) <- hidden", "attn.v"),
        Weight(A + "v_proj.bias", "-> (kv_heads value_dim)", "attn.v.bias"),
        Weight(L + "mlp.fc1.weight", "ffn <- hidden", "mlp.up"),
        Weight(L + "mlp.fc1.bias", "-> ffn", "mlp.up.bias"),
        Weight(A + "dense.weight", "hidden <- (kv_heads group value_dim)", "attn.o"),
        Weight(A + "dense.bias", "-> hidden", "attn.o.bias"),
        Weight(L + "mlp.fc2.weight", "hidden <- ffn", "mlp.down"),
        Weight(L + "mlp.fc2.bias", "-> hidden", "mlp.down.bias"),
        Weight("final_layernorm.weight", "* hidden", "final_norm", PRE),
        Weight("final_layernorm.bias", "-> hidden", "final_norm.bias", PRE),
        *HEADS,
    ),
    keys=with_defaults(
        without(KEYS, "rms_norm_eps"),
        vocab_size=51200,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=24,
        layer_norm_eps=1e-5,
        qk_layernorm=False,
    ),
    attentions=(Attention(rope=Rope(share=SHARE, portion=0.5)),),
    constraints=("key_dim == value_dim",),
)

LAYOUTS = (PHI,)
