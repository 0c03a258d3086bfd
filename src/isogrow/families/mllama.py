"""Mllama's language model (Llama 3.2 Vision): Llama, some of whose layers look at an image through
cross-attention behind gates of one number, instead of at the text. A text without an image skips them."""

from __future__ import annotations

from isogrow.families.edits import after, alter, like
from isogrow.families.llama import ATTENTION, LLAMA, MLP, L
from isogrow.families.multimodal_rope import DIVIDED, FILLING
from isogrow.layouts.layout import Attention, Kinds, Norm, Rope, Weight

CROSS = "layers in cross_attention_layers"
PLAIN = f"not ({CROSS})"
X = L + "cross_attn."


def _norm(of: str) -> Norm:
    return Norm("rms", "inner", eps="rms_norm_eps", of=of)


MLLAMA = like(
    LLAMA,
    "mllama_text_model",
    alter("embed", pattern="rows -> hidden"),  # eight more than tokens, of which one is an image
    alter("head", tied=""),
    alter(ATTENTION, when=PLAIN, bias=None),
    alter(MLP, bias=None),
    after(
        "attn.o",
        Weight(X + "q_proj.weight", "(kv_heads group key_dim) <- hidden", "cross.q", when=CROSS),
        Weight(X + "q_norm.weight", "* key_dim", "cross.q_norm", _norm("cross.q"), when=CROSS),
        Weight(X + "k_proj.weight", "(kv_heads key_dim) <- memory", "cross.k", when=CROSS),
        Weight(X + "k_norm.weight", "* key_dim", "cross.k_norm", _norm("cross.k"), when=CROSS),
        Weight(X + "v_proj.weight", "(kv_heads value_dim) <- memory", "cross.v", when=CROSS),
        Weight(X + "o_proj.weight", "hidden <- (kv_heads group value_dim)", "cross.o", when=CROSS),
        Weight(L + "cross_attn_attn_gate", "-> 1", "cross.gate", when=CROSS, scales="cross.o"),
    ),
    after("mlp.down", Weight(L + "cross_attn_mlp_gate", "-> 1", "mlp.scale", when=CROSS, scales="mlp.down")),
    axes={**DIVIDED, "memory": "hidden_size", "rows": "vocab_size + 8"},
    lacks="head_dim",
    defaults=dict(
        vocab_size=128256,
        intermediate_size=14336,
        num_hidden_layers=40,
        num_key_value_heads=8,
        rms_norm_eps=1e-5,
        cross_attention_layers=[3, 8, 13, 18, 23, 28, 33, 38],
    ),
    attentions=(Attention(rope=Rope(default=500000.0)), Attention("cross.q", "cross.k", "cross.v")),
    kinds=(Kinds("cross_attention_layers", CROSS),),
    follows={"memory": "hidden"},
    constraints=FILLING,
    fixed=LLAMA.fixed | {"rows"},
)

LAYOUTS = (MLLAMA,)
