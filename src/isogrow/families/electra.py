"""ELECTRA: BERT whose embeddings may be narrower than the residual, and are then projected into it; a
generator that reads them again, or a discriminator."""

from __future__ import annotations

from isogrow.families.bert import BERT, POST
from isogrow.families.edits import drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.families.roberta import DENSE
from isogrow.layouts.layout import Key, Norm, Weight

WIDE, NARROW = "embedding_size == hidden_size", "embedding_size != hidden_size"
E, G, D = "embeddings.", "generator_predictions.", "discriminator_predictions."
INNER = Norm("layer", "inner", eps="layer_norm_eps", of="narrow.embed")
LM = "generator_lm_head.weight"
TABLES = (
    ("word_embeddings.weight", "vocab", "embed"),
    ("position_embeddings.weight", "positions", "positions"),
    ("token_type_embeddings.weight", "types", "types"),
)


def _generator(axis: str, prefix: str, when: str) -> tuple[Weight, ...]:
    """What predicts masked tokens by the embedding, from as many features as that has."""
    tied, slot = f"{prefix}embed", f"{prefix}transform"
    norm = Norm("layer", "inner", eps="layer_norm_eps", of=slot)
    return (
        head(G + "dense.weight", f"{axis} <- hidden", slot, bias=BIAS, when=when),
        head(G + "LayerNorm.weight", f"* {axis}", f"{slot}_norm", norm=norm, bias=BIAS, when=when),
        head(LM, f"vocab <- {axis}", f"{prefix}decoder", bias=BIAS, when=when, tied=tied),
    )


ELECTRA = like(
    BERT,
    "electra",
    drop("pooler next classifier"),
    swap(
        "embed positions types embed_norm",
        *(Weight(E + name, f"{rows} -> hidden", slot, when=WIDE) for name, rows, slot in TABLES),
        Weight(E + "LayerNorm.weight", "* hidden", "embed_norm", POST, BIAS, when=WIDE),
        *(
            Weight(E + name, f"{rows} -> narrow", f"narrow.{slot}", when=NARROW)
            for name, rows, slot in TABLES
        ),
        Weight(E + "LayerNorm.weight", "* narrow", "narrow.embed_norm", INNER, BIAS, when=NARROW),
        Weight("embeddings_project.weight", "hidden <- narrow", "project", bias=BIAS, when=NARROW),
    ),
    swap(
        "transform transform_norm decoder decoder.own_bias",
        *_generator("transform", "", WIDE),
        *_generator("read", "narrow.", NARROW),
        head(D + "dense.weight", "choosing <- hidden", "choosing", bias=BIAS),
        head(D + "dense_prediction.weight", "1 <- choosing", "choice", bias=BIAS),
        *DENSE,
        head("sequence_summary.summary.weight", "pooled <- hidden", "pooler", bias=BIAS),
        head("classifier.weight", "labels <- pooled", "classifier", needs="pooler"),
    ),
    axes={
        **BERT.axes,
        "narrow": "embedding_size",
        "read": "embedding_size",
        "features": "hidden_size",
        "choosing": "hidden_size",
    },
    defaults=dict(hidden_size=256, intermediate_size=1024, num_attention_heads=4),
    more=(Key("embedding_size", "hidden", 128, when=WIDE),),
    prefixes=("electra.", ""),
    fixed=BERT.fixed | {"narrow", "read"},
    follows={
        **BERT.follows,
        "features": "hidden",
        "choosing": "hidden",
    },
)

LAYOUTS = (ELECTRA,)
