"""torchtitan's Llama 3, whose checkpoints have names of its own; pairs of adjacent channels rotate.

Its configs are Python; config.json holds the arguments that they come to, by torchtitan's own names, and
`"model_type": "torchtitan_llama3"`. Older versions name some tensors otherwise; and a fused projection is
saved as its three parts, while its optimizer's state is not.
"""

from __future__ import annotations

from isogrow.families.edits import alter, drop, like
from isogrow.families.llama import EQUAL, LLAMA
from isogrow.layouts.layout import Attention, Binding, Key, Layout, Norm, Rope, Stream

PRE = Norm("rms", "pre", eps="norm_eps")
L = "layers.{layers}."
A, M = L + "attention.", L + "feed_forward."
FUSED = "(kv_heads (q: group key_dim + k: key_dim + v: value_dim)) <- hidden"

LLAMA3 = like(
    LLAMA,
    "torchtitan_llama3",
    drop("score span"),
    alter("embed", name="tok_embeddings.weight"),
    alter("attn_norm", name=L + "attention_norm.weight"),
    alter("attn.q", name=A + "qkv_linear.wq.weight"),
    alter("attn.k", name=A + "qkv_linear.wk.weight"),
    alter("attn.v", name=A + "qkv_linear.wv.weight"),
    alter("attn.o", name=A + "wo.weight"),
    alter("mlp_norm", name=L + "ffn_norm.weight"),
    alter("mlp.gate", name=M + "w1.weight"),
    alter("mlp.up", name=M + "w3.weight"),
    alter("mlp.down", name=M + "w2.weight"),
    alter("attn_norm mlp_norm final_norm", norm=PRE),
    axes={
        "vocab": "vocab_size",
        "hidden": "dim",
        "ffn": "hidden_dim",
        "kv_heads": "n_kv_heads",
        "group": "n_heads // n_kv_heads",
        "key_dim": "head_dim",
        "value_dim": "head_dim",
        "layers": "n_layers",
    },
    keys=(
        Key("vocab_size", default=128256),
        Key("dim", "hidden", 4096),
        Key("hidden_dim", "ffn"),
        Key("n_layers", "layers", 32),
        Key("n_heads", "kv_heads * group", 32),
        Key("n_kv_heads", "kv_heads", "n_heads", null="n_heads"),
        Key("head_dim", "key_dim", "dim // n_heads", null="dim // n_heads"),
        Key("norm_eps", default=1e-5),
        Key("enable_weight_tying", default=False),
    ),
    prefixes=("",),
    attentions=(Attention(rope=Rope("adjacent", ("rope_theta",), ("rope_scaling",))),),
    streams=(Stream(tie="enable_weight_tying"),),
    constraints=EQUAL,
    derived=(r"^freqs_cis$",),
    bindings=(
        Binding(
            "before 0.3",
            {
                A + "wq.weight": "attn.q",
                A + "wk.weight": "attn.k",
                A + "wv.weight": "attn.v",
                "output.weight": "head",
            },
        ),
        Binding("optimizer", {A + "qkv_linear.wqkv.weight": ("attn.*", FUSED)}),
    ),
)

LAYOUTS: tuple[Layout, ...] = (LLAMA3,)
