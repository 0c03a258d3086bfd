"""BLOOM: ALiBi, a LayerNorm on the embeddings that writes the residual, qkv fused by head.

Where the config says so, each block's residual is its norm's output: the norms then write the residual, as
in a post-norm model.
"""

from __future__ import annotations

from isogrow.families.heads import BIAS, HEADS
from isogrow.layouts.layout import Alibi, Attention, Bias, Key, Layout, Norm, Weight

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
    kinds = ((POST, NORMED), (PRE, f"not {NORMED}"))
    return tuple(Weight(f"{L}{name}.weight", "* hidden", slot, norm, BIAS, when=when) for norm, when in kinds)


BLOOM = Layout(
    family="bloom",
    model_types=("bloom",),
    weights=(
        Weight("word_embeddings.weight", "vocab -> hidden", "embed"),
        Weight("word_embeddings_layernorm.weight", "* hidden", "embed_norm", POST, BIAS),
        *_norm("input_layernorm", "attn_norm"),
        Weight(A + "query_key_value.weight", f"{QKV} <- hidden", "attn.*", bias=BIAS),
        Weight(A + "dense.weight", "hidden <- (heads value_dim)", "attn.o", bias=Bias(idle=SLICED)),
        *_norm("post_attention_layernorm", "mlp_norm"),
        Weight(L + "mlp.dense_h_to_4h.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(L + "mlp.dense_4h_to_h.weight", "hidden <- ffn", "mlp.down", bias=Bias(idle=SLICED)),
        Weight("ln_f.weight", "* hidden", "final_norm", PRE, BIAS),
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
