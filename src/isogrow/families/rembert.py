"""RemBERT: BERT whose embeddings are narrower than the residual, and whose head has a width of its own."""

from __future__ import annotations

from isogrow.families.bert import BERT, MLM
from isogrow.families.edits import like, swap
from isogrow.families.heads import BIAS, head
from isogrow.layouts.layout import Norm, Weight

NARROW = Norm("layer", "inner", eps="layer_norm_eps", of="embed")
READ = Norm("layer", "inner", eps="layer_norm_eps", of="transform")
E = "embeddings."

REMBERT = like(
    BERT,
    "rembert",
    swap(
        "embed positions types embed_norm",
        Weight(E + "word_embeddings.weight", "vocab -> narrow", "embed"),
        Weight(E + "position_embeddings.weight", "positions -> narrow", "positions"),
        Weight(E + "token_type_embeddings.weight", "types -> narrow", "types"),
        Weight(E + "LayerNorm.weight", "* narrow", "embed_norm", NARROW, BIAS),
        Weight("encoder.embedding_hidden_mapping_in.weight", "hidden <- narrow", "project", bias=BIAS),
    ),
    swap(
        "transform transform_norm decoder decoder.own_bias next",
        head(MLM + "dense.weight", "transform <- hidden", "transform", bias=BIAS),
        head(MLM + "LayerNorm.weight", "* transform", "transform_norm", norm=READ, bias=BIAS),
        head(MLM + "decoder.weight", "vocab <- transform", "decoder", bias=BIAS),
    ),
    axes={**BERT.axes, "narrow": "input_embedding_size", "transform": "output_embedding_size"},
    defaults=dict(
        vocab_size=250300,
        hidden_size=1152,
        intermediate_size=4608,
        num_hidden_layers=32,
        num_attention_heads=18,
        tie_word_embeddings=False,
        input_embedding_size=256,
        output_embedding_size=1664,
    ),
    prefixes=("rembert.", ""),
    fixed=BERT.fixed | {"narrow", "transform"},
    follows={"memory": "hidden", "pooled": "hidden"},
)

LAYOUTS = (REMBERT,)
