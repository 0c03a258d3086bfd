"""Falcon: plain, multi-query or grouped heads in one fused qkv; ALiBi or rotary positions; branches in
parallel or one after the other, with one norm or two.

The rows of each kind of block have a condition, and their order says what is read before what is written.
"""

from __future__ import annotations

from isogrow.families.heads import BIAS, HEADS
from isogrow.layouts.layout import Alibi, Attention, Bias, Key, Layout, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_epsilon")
L = "h.{layers}."
A = L + "self_attention."
NEW = "new_decoder_architecture"
TWO = f"{NEW} and num_ln_in_parallel_attn == 2"
SAID = Bias("bias")
SERIAL = f"not ({NEW} or parallel_attn)"
# How heads have keys and values: (condition, the fused rows, what the output projection reads).
KINDS = (
    (NEW, "(kv_heads (q: group key_dim + k: key_dim + v: value_dim))", "(kv_heads group value_dim)"),
    (f"not {NEW} and multi_query", "(q: heads key_dim + k: key_dim + v: value_dim)", "(heads value_dim)"),
    (f"not ({NEW} or multi_query)", "(heads (q: key_dim + k: key_dim + v: value_dim))", "(heads value_dim)"),
)


def _norm(name: str, slot: str, when: str) -> Weight:
    return Weight(f"{L}{name}.weight", "* hidden", slot, PRE, BIAS, when=when)


def _up(when: str) -> Weight:
    return Weight(L + "mlp.dense_h_to_4h.weight", "ffn <- hidden", "mlp.up", bias=SAID, when=when)


FALCON = Layout(
    family="falcon",
    model_types=("falcon",),
    weights=(
        Weight("word_embeddings.weight", "vocab -> hidden", "embed"),
        _norm("input_layernorm", "attn_norm", f"not ({TWO})"),
        _norm("ln_attn", "attn_norm", TWO),
        *(
            Weight(A + "query_key_value.weight", f"{rows} <- hidden", "attn.*", bias=SAID, when=when)
            for when, rows, _ in KINDS
        ),
        _norm("ln_mlp", "mlp_norm", TWO),
        _up(f"not ({SERIAL})"),
        *(
            Weight(A + "dense.weight", f"hidden <- {read}", "attn.o", bias=SAID, when=when)
            for when, _, read in KINDS
        ),
        _norm("post_attention_layernorm", "mlp_norm", SERIAL),
        _up(SERIAL),
        Weight(L + "mlp.dense_4h_to_h.weight", "hidden <- ffn", "mlp.down", bias=SAID),
        Weight("ln_f.weight", "* hidden", "final_norm", PRE, BIAS),
        *HEADS,
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "ffn_hidden_size",
        "heads": f"None if {NEW} else num_attention_heads",
        "kv_heads": f"num_kv_heads if {NEW} else None",
        "group": f"num_attention_heads // num_kv_heads if {NEW} else None",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=65024),
        Key("hidden_size", "hidden", 4544, alias="n_embed"),
        Key("ffn_hidden_size", "ffn", "4 * hidden_size"),
        Key("num_hidden_layers", "layers", 32),
        Key("num_attention_heads", "heads", 71),
        Key("num_attention_heads", "kv_heads * group", 71),
        Key("num_kv_heads", "kv_heads", "num_attention_heads"),
        Key("num_kv_heads", "heads", "num_attention_heads", when="not multi_query"),
        Key(NEW, default=False),
        Key("multi_query", default=True),
        Key("parallel_attn", default=True),
        Key("num_ln_in_parallel_attn", default=f"2 if {NEW} else 1"),
        Key("bias", default=False),
        Key("alibi", default=False),
        Key("layer_norm_epsilon", default=1e-5),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("transformer.", ""),
    attentions=(Attention(rope=Rope(when="not alibi"), alibi=Alibi(inside=True, when="alibi")),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden", "kv_heads * group * key_dim == hidden"),
    derived=(r"rotary_emb\.inv_freq$",),
)

LAYOUTS = (FALCON,)
