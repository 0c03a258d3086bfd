"""OPT: LayerNorms whose ε stands in the code, before each branch or after it; embeddings may be narrower than
the residual, and are then projected into it and out of it."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.heads import BIAS, HEADS
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, Weight

EPS = 1e-5
L = "layers.{layers}."
A = L + "self_attn."
QK, V = "(heads key_dim)", "(heads value_dim)"
SAID, BEFORE, AFFINE = Bias("enable_bias"), "do_layer_norm_before", "layer_norm_elementwise_affine"
WIDE = "word_embed_proj_dim == hidden_size"
NARROW = "word_embed_proj_dim != hidden_size"


def _norm(name: str, slot: str, where: str, when: str) -> tuple[Weight, ...]:
    """The lines of a norm: with its gain and shift, or without a tensor."""
    norm = Norm("layer", "pre" if where == "pre" else "post", eps=EPS)
    return (
        Weight(f"{name}.weight", "* hidden", slot, norm, BIAS, when=f"{when} and {AFFINE}"),
        Weight(name, "* hidden", f"{slot}.plain", norm, when=f"{when} and not {AFFINE}", stored=False),
    )


def _narrow(head: Weight) -> Weight:
    """The same head, reading what was projected out of the residual."""
    tied = head.tied and f"narrow.{head.tied}"
    pattern = head.pattern.replace("hidden", "narrow")
    return replace(head, pattern=pattern, slot=f"narrow.{head.slot}", tied=tied, when=NARROW)


OPT = Layout(
    family="opt",
    model_types=("opt",),
    weights=(
        Weight("embed_tokens.weight", "vocab -> hidden", "embed", when=WIDE),
        Weight("embed_tokens.weight", "vocab -> narrow", "narrow.embed", when=NARROW),
        Weight("project_in.weight", "hidden <- narrow", "project_in", when=NARROW),
        Weight("embed_positions.weight", "rows -> hidden", "positions"),
        *_norm(L + "self_attn_layer_norm", "attn_norm", "pre", BEFORE),
        Weight(A + "q_proj.weight", f"{QK} <- hidden", "attn.q", bias=SAID),
        Weight(A + "k_proj.weight", f"{QK} <- hidden", "attn.k", bias=SAID),
        Weight(A + "v_proj.weight", f"{V} <- hidden", "attn.v", bias=SAID),
        Weight(A + "out_proj.weight", f"hidden <- {V}", "attn.o", bias=SAID),
        *_norm(L + "self_attn_layer_norm", "attn_after", "post", f"not {BEFORE}"),
        *_norm(L + "final_layer_norm", "mlp_norm", "pre", BEFORE),
        Weight(L + "fc1.weight", "ffn <- hidden", "mlp.up", bias=SAID),
        Weight(L + "fc2.weight", "hidden <- ffn", "mlp.down", bias=SAID),
        *_norm(L + "final_layer_norm", "mlp_after", "post", f"not {BEFORE}"),
        *_norm("final_layer_norm", "final_norm", "pre", f"{BEFORE} and not _remove_final_layer_norm"),
        Weight("project_out.weight", "narrow <- hidden", "project_out", when=NARROW),
        *(replace(head, when=WIDE) for head in HEADS),
        *(_narrow(head) for head in HEADS),
    ),
    axes={
        "vocab": "vocab_size",
        "positions": "max_position_embeddings",
        "rows": "max_position_embeddings + 2",  # the first two are for padding
        "narrow": "word_embed_proj_dim",
        "hidden": "hidden_size",
        "ffn": "ffn_dim",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=50272),
        Key("max_position_embeddings", default=2048),
        Key("hidden_size", "hidden", 768),
        Key("word_embed_proj_dim", "hidden", "hidden_size", when=WIDE),
        Key("ffn_dim", "ffn", 3072),
        Key("num_attention_heads", "heads", 12),
        Key("num_hidden_layers", "layers", 12),
        Key("do_layer_norm_before", default=True),
        Key("_remove_final_layer_norm", default=False),
        Key("layer_norm_elementwise_affine", default=True),
        Key("enable_bias", default=True),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("model.decoder.", "decoder."),
    attentions=(Attention(),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    fixed=frozenset({"vocab", "positions", "rows", "narrow"}),
    derived=(r"^(model\.)?decoder\.version$",),
)

LAYOUTS = (OPT,)
