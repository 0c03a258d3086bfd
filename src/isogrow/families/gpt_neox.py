"""GPT-NeoX (Pythia): LayerNorm before each branch, a part of each head rotates, branches may run in parallel.

In a parallel block both branches are read before either is written: the order of the rows says it. GPT-NeoX
Japanese has a bias in its last layer alone, and an MLP that is a multiple of the width.
"""

from __future__ import annotations

from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.heads import BIAS, HEADS, head
from isogrow.families.phi3 import SHARE
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, Rename, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
NEOX = "layers.{layers}."
QKV = "(heads (q: key_dim + k: key_dim + v: value_dim))"
SAID, PARALLEL = Bias("attention_bias"), "use_parallel_residual"


def _read(when: str) -> tuple[Weight, ...]:
    """The MLP's norm and first projection."""
    return (
        Weight(NEOX + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE, BIAS, when=when),
        Weight(NEOX + "mlp.dense_h_to_4h.weight", "ffn <- hidden", "mlp.up", bias=BIAS, when=when),
    )


GPT_NEOX = Layout(
    family="gpt_neox",
    model_types=("gpt_neox",),
    weights=(
        Weight("embed_in.weight", "vocab -> hidden", "embed"),
        Weight(NEOX + "input_layernorm.weight", "* hidden", "attn_norm", PRE, BIAS),
        Weight(NEOX + "attention.query_key_value.weight", f"{QKV} <- hidden", "attn.*", bias=SAID),
        *_read(PARALLEL),
        Weight(NEOX + "attention.dense.weight", "hidden <- (heads value_dim)", "attn.o", bias=SAID),
        *_read(f"not {PARALLEL}"),
        Weight(NEOX + "mlp.dense_4h_to_h.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight("final_layer_norm.weight", "* hidden", "final_norm", PRE, BIAS),
        *HEADS,
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=50432),
        Key("hidden_size", "hidden", 6144),
        Key("intermediate_size", "ffn", 24576),
        Key("num_attention_heads", "heads", 64),
        Key("num_hidden_layers", "layers", 44),
        Key("layer_norm_eps", default=1e-5),
        Key("attention_bias", default=True),
        Key(PARALLEL, default=True),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("gpt_neox.", ""),
    attentions=(
        Attention(
            rope=Rope(
                theta=("rope_scaling.rope_theta", "rope_parameters.rope_theta", "rotary_emb_base"),
                share=(*SHARE[:-1], "rotary_pct"),
                portion=0.25,
            )
        ),
    ),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    derived=(r"rotary_emb\.inv_freq$", r"attention\.(masked_)?bias$"),
    renames=(Rename("embed_out.", "lm_head."),),
)

LAST = Bias("layers == num_hidden_layers - 1", name=NEOX + "attention.dense_bias")
JAPANESE = like(
    GPT_NEOX,
    "gpt_neox_japanese",
    drop("mlp_norm mlp.up"),
    alter("attn.*", bias=None),
    swap(
        "attn.o",
        Weight(NEOX + "attention.dense.weight", "hidden <- (heads value_dim)", "attn.o", bias=LAST),
        Weight(NEOX + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE, BIAS),
        Weight(NEOX + "mlp.dense_h_to_4h.weight", "ffn <- hidden", "mlp.up"),
    ),
    alter("mlp.down", bias=None),
    swap("head", head("embed_out.weight", "vocab <- hidden", "head", tied="embed")),
    drop("score tag span"),
    axes={**GPT_NEOX.axes, "ffn": "int(hidden_size * intermediate_multiple_size)"},
    defaults=dict(
        vocab_size=32000,
        hidden_size=2560,
        num_attention_heads=32,
        num_hidden_layers=32,
        tie_word_embeddings=True,
    ),
    lacks="intermediate_size attention_bias use_parallel_residual",
    more=(Key("intermediate_multiple_size", "ffn // hidden", 4),),
    prefixes=("gpt_neox_japanese.", ""),
    attentions=(
        Attention(
            rope=Rope(
                theta=("rope_scaling.rope_theta", "rope_parameters.rope_theta", "rotary_emb_base"),
                share=(*SHARE[:-1], "rotary_pct"),
            )
        ),
    ),
    constraints=(*GPT_NEOX.constraints, "ffn % hidden == 0"),
    renames=(),
)

LAYOUTS = (GPT_NEOX, JAPANESE)
