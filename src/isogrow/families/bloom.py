"""BLOOM: ALiBi, a LayerNorm on the embeddings that writes the residual, qkv fused by head.

Where the config says so, each block's residual is its norm's output: the norms then write the residual, as
in a post-norm model.
"""

from __future__ import annotations

from isogrow.families.heads import HEADS
from isogrow.layout import Alibi, Attention, Key, Layout, Norm, Weight

POST = Norm("layer", "post", eps="layer_norm_epsilon")
PRE = Norm("layer", "pre", eps="layer_norm_epsilon")
L = "h.{layers}."
A = L + "self_attention."
QKV = "(heads (q: key_dim + k: key_dim + v: value_dim))"
NORMED = "apply_residual_connection_post_layernorm"
SLICED = (
    "slow_but_exact and pretraining_tp > 1"  # projections are summed slice by slice, without their biases
)


def _norm(name: str, slot: str) -> tuple[Weight, ...]:
    """The norm before a branch, which writes the residual where the config says so."""
    return tuple(
        line
        for norm, when in ((POST, NORMED), (PRE, f"not {NORMED}"))
        for line in (
            Weight(f"{L}{name}.weight", "* hidden", slot, norm, when=when),
            Weight(f"{L}{name}.bias", "-> hidden", f"{slot}.bias", norm, when=when),
        )
    )


BLOOM = Layout(
    family="bloom",
    model_types=("bloom",),
    weights=(
        Weight("word_embeddings.weight", "vocab -> hidden", "embed"),
        Weight("word_embeddings_layernorm.weight", "* hidden", "embed_norm", POST),
        Weight("word_embeddings_layernorm.bias", "-> hidden", "embed_norm.bias", POST),
        *_norm("input_layernorm", "attn_norm"),
        Weight(A + "query_key_value.weight", f"{QKV} <- hidden", "attn.*"),
        Weight(A + "query_key_value.bias", f"-> {QKV}", "attn.*.bias"),
        Weight(A + "dense.weight", "hidden <- (heads value_dim)", "attn.o"),
        Weight(A + "dense.bias", "-> hidden", "attn.o.bias", idle=SLICED),
        *_norm("post_attention_layernorm", "mlp_norm"),
        Weight(L + "mlp.dense_h_to_4h.weight", "ffn <- hidden", "mlp.up"),
        Weight(L + "mlp.dense_h_to_4h.bias", "-> ffn", "mlp.up.bias"),
        Weight(L + "mlp.dense_4h_to_h.weight", "hidden <- ffn", "mlp.down"),
        Weight(L + "mlp.dense_4h_to_h.bias", "-> hidden", "mlp.down.bias", idle=SLICED),
        Weight("ln_f.weight", "* hidden", "final_norm", PRE),
        Weight("ln_f.bias", "-> hidden", "final_norm.bias", PRE),
        *HEADS,
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "4 * hidden_size",
        "heads": "n_head",
        "key_dim": "hidden_size // n_head",
        "value_dim": "hidden_size // n_head",
        "layers": "n_layer",
    },
    keys=(
        Key("vocab_size", default=250880),
        Key("hidden_size", "hidden", 64, alias="n_embed"),
        Key("n_head", "heads", 8, alias="num_attention_heads"),
        Key("n_layer", "layers", 2, alias="num_hidden_layers"),
        Key("layer_norm_epsilon", default=1e-5),
        Key(NORMED, default=False),
        Key("slow_but_exact", default=False),
        Key("pretraining_tp", default=1),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("transformer.", ""),
    attentions=(Attention(alibi=Alibi()),),
    follows={"ffn": "4 * hidden"},
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
)

LAYOUTS = (BLOOM,)
