"""BioGPT: LayerNorm before each branch, whose ε stands in the code, and embeddings times √hidden."""

from __future__ import annotations

from isogrow.families.heads import BIAS, TAG, head
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Weight

PRE = Norm("layer", "pre", eps=1e-5)  # whatever layer_norm_eps says
L = "layers.{layers}."
A = L + "self_attn."
QK, V = "(heads key_dim)", "(heads value_dim)"

# Of every layer, and the norm behind the last.
LAYERS = (
    Weight(L + "self_attn_layer_norm.weight", "* hidden", "attn_norm", PRE, BIAS),
    Weight(A + "q_proj.weight", f"{QK} <- hidden", "attn.q", bias=BIAS),
    Weight(A + "k_proj.weight", f"{QK} <- hidden", "attn.k", bias=BIAS),
    Weight(A + "v_proj.weight", f"{V} <- hidden", "attn.v", bias=BIAS),
    Weight(A + "out_proj.weight", f"hidden <- {V}", "attn.o", bias=BIAS),
    Weight(L + "final_layer_norm.weight", "* hidden", "mlp_norm", PRE, BIAS),
    Weight(L + "fc1.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
    Weight(L + "fc2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
    Weight("layer_norm.weight", "* hidden", "final_norm", PRE, BIAS),
)

BIOGPT = Layout(
    family="biogpt",
    model_types=("biogpt",),
    weights=(
        Weight(
            "embed_tokens.weight",
            "vocab -> hidden",
            "embed",
            times="hidden ** 0.5 if scale_embedding else 1",
        ),
        Weight("embed_positions.weight", "rows -> hidden", "positions"),
        *LAYERS,
        head("output_projection.weight", "vocab <- hidden", "head", tied="embed"),
        head("score.weight", "labels <- hidden", "score"),
        TAG,
    ),
    axes={
        "vocab": "vocab_size",
        "positions": "max_position_embeddings",
        "rows": "max_position_embeddings + 2",  # the first two are for padding
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=42384),
        Key("max_position_embeddings", default=1024),
        Key("hidden_size", "hidden", 1024),
        Key("intermediate_size", "ffn", 4096),
        Key("num_attention_heads", "heads", 16),
        Key("num_hidden_layers", "layers", 24),
        Key("scale_embedding", default=True),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("biogpt.", ""),
    attentions=(Attention(),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    fixed=frozenset({"vocab", "positions", "rows"}),
)

LAYOUTS = (BIOGPT,)
