"""DistilBERT: BERT under other names, without types and without a pooler; ε stands in the code."""

from __future__ import annotations

from isogrow.families.heads import BIAS, SPAN, head
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Weight

POST = Norm("layer", "post", eps=1e-12)
HEAD = Norm("layer", "inner", eps=1e-12, of="transform")
L = "transformer.layer.{layers}."
A = L + "attention."

DISTILBERT = Layout(
    family="distilbert",
    model_types=("distilbert",),
    weights=(
        Weight("embeddings.word_embeddings.weight", "vocab -> hidden", "embed"),
        Weight("embeddings.position_embeddings.weight", "positions -> hidden", "positions"),
        Weight("embeddings.LayerNorm.weight", "* hidden", "embed_norm", POST, BIAS),
        Weight(A + "q_lin.weight", "(heads key_dim) <- hidden", "attn.q", bias=BIAS),
        Weight(A + "k_lin.weight", "(heads key_dim) <- hidden", "attn.k", bias=BIAS),
        Weight(A + "v_lin.weight", "(heads value_dim) <- hidden", "attn.v", bias=BIAS),
        Weight(A + "out_lin.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
        Weight(L + "sa_layer_norm.weight", "* hidden", "attn_norm", POST, BIAS),
        Weight(L + "ffn.lin1.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(L + "ffn.lin2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight(L + "output_layer_norm.weight", "* hidden", "mlp_norm", POST, BIAS),
        head("vocab_transform.weight", "transform <- hidden", "transform", bias=BIAS),
        head("vocab_layer_norm.weight", "* transform", "transform_norm", norm=HEAD, bias=BIAS),
        head("vocab_projector.weight", "vocab <- transform", "decoder", bias=BIAS, tied="embed"),
        head("pre_classifier.weight", "features <- hidden", "features", bias=BIAS),
        head("classifier.weight", "labels <- features", "classifier", needs="features"),
        head("classifier.weight", "labels <- hidden", "tagger"),
        head("classifier.bias", "-> labels", "classifier.bias"),  # of either
        SPAN,
    ),
    axes={
        "vocab": "vocab_size",
        "positions": "max_position_embeddings",
        "hidden": "dim",
        "transform": "dim",
        "features": "dim",
        "ffn": "hidden_dim",
        "heads": "n_heads",
        "key_dim": "dim // n_heads",
        "value_dim": "dim // n_heads",
        "layers": "n_layers",
    },
    keys=(
        Key("vocab_size", default=30522),
        Key("max_position_embeddings", default=512),
        Key("dim", "hidden", 768, alias="hidden_size"),
        Key("hidden_dim", "ffn", 3072),
        Key("n_heads", "heads", 12, alias="num_attention_heads"),
        Key("n_layers", "layers", 6, alias="num_hidden_layers"),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("distilbert.", ""),
    attentions=(Attention(),),
    follows={"transform": "hidden", "features": "hidden"},
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    derived=(r"embeddings\.position_ids$",),
)

LAYOUTS = (DISTILBERT,)
