"""BERT whose tokens have more than a number: TAPAS (cells of a table), RoCBERT (how a token sounds and
looks), LUKE (entities beside words)."""

from __future__ import annotations

from isogrow.families.bert import BERT, POST, A
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.families.roberta import LM
from isogrow.layouts.layout import Bias, Key, Norm, Weight

E = "embeddings."
# BERT without a decoder's rows.
ENCODER = like(
    BERT,
    "encoder",
    drop("cross.q cross.k cross.v cross.o cross_norm next"),
    axes={axis: said for axis, said in BERT.axes.items() if axis != "memory"},
    lacks="add_cross_attention",
    attentions=BERT.attentions[:1],
    follows={"pooled": "hidden", "transform": "hidden"},
)
UNTYPED = {axis: said for axis, said in ENCODER.axes.items() if axis != "types"}

KINDS = 7  # of types that a token of a table has: segment, column, row, and what its number is among others
TAPAS = like(
    ENCODER,
    "tapas",
    swap(
        "types",
        *(
            Weight(
                f"{E}token_type_embeddings_{kind}.weight",
                f"types_{kind} -> hidden",
                f"types.{kind}",
                when=f"len(type_vocab_sizes) > {kind}",
            )
            for kind in range(KINDS)
        ),
    ),
    drop("span tagger"),
    after(
        "classifier.bias",
        head("output_weights", "<- hidden", "cell"),
        head("output_bias", "->", "cell.own_bias"),
        head("column_output_weights", "<- hidden", "column"),
        head("column_output_bias", "->", "column.own_bias"),
        head("aggregation_classifier.weight", "labels <- pooled", "aggregation", bias=BIAS),
    ),
    axes=UNTYPED,
    lacks="type_vocab_size",
    defaults=dict(max_position_embeddings=1024),
    more=(Key("type_vocab_sizes", default=(3, 256, 256, 2, 256, 256, 10)),),
    prefixes=("tapas.", ""),
)

JOINED = (
    "its first projection reads side by side what a token is, sounds like and looks like, and the first of"
    " them is the tied head: grow ffn instead"
)
ROC_BERT = like(
    BERT,
    "roc_bert",
    swap(
        "embed",
        Weight(f"{E}word_embeddings.weight", "vocab -> words", "embed"),
        Weight(
            f"{E}pronunciation_embed.weight",
            "sounds -> sound",
            "embed.sound",
            idle="not enable_pronunciation",
        ),
        Weight(f"{E}shape_embed.weight", "shapes -> shape", "embed.shape", idle="not enable_shape"),
        Weight(f"{E}map_inputs_layer.weight", "hidden <- joined", "project", bias=BIAS),
    ),
    drop("next"),
    axes={
        **BERT.axes,
        "words": "hidden_size",
        "sound": "pronunciation_embed_dim",
        "shape": "shape_embed_dim",
        "sounds": "pronunciation_vocab_size",
        "shapes": "shape_vocab_size",
        "joined": "hidden_size + (shape_embed_dim if enable_shape else 0)"
        " + (pronunciation_embed_dim if enable_pronunciation else 0)",
    },
    more=(
        Key("pronunciation_embed_dim", default=768),
        Key("pronunciation_vocab_size", default=910),
        Key("shape_embed_dim", default=512),
        Key("shape_vocab_size", default=24858),
        Key("enable_pronunciation", default=True),
        Key("enable_shape", default=True),
        Key("concat_input", default=True),
    ),
    prefixes=("roc_bert.", ""),
    fixed=BERT.fixed | {"words", "sound", "shape", "sounds", "shapes", "joined"},
    constraints=(*BERT.constraints, "concat_input"),
    refusals={"hidden": JOINED},
)

ENTITIES = (
    "what classifies entities reads several vectors of the residual side by side, as many as its class has:"
    " grow ffn instead"
)
READ = Norm("layer", "inner", eps="layer_norm_eps", of="entity.transform")
P = "entity_predictions."
V = "entity_embeddings."
AWARE = "use_entity_aware_attention"
GIVEN = Bias(AWARE, idle="True")
LUKE = like(
    ENCODER,
    "luke",
    after(
        "embed_norm",
        Weight(f"{V}entity_embeddings.weight", "entities -> narrow", "entity.embed", idle="True"),
        Weight(
            f"{V}entity_embedding_dense.weight",
            "hidden <- narrow",
            "entity.project",
            when="entity_emb_size != hidden_size",
            idle="True",
        ),
        Weight(f"{V}position_embeddings.weight", "positions -> hidden", "entity.positions", idle="True"),
        Weight(f"{V}token_type_embeddings.weight", "types -> hidden", "entity.types", idle="True"),
        Weight(f"{V}LayerNorm.weight", "* hidden", "entity.norm", POST, BIAS, idle="True"),
    ),
    after(
        "attn.q",
        *(
            Weight(
                f"{A}self.{pair}_query.weight",
                "(heads key_dim) <- hidden",
                f"attn.{pair}",
                bias=GIVEN,
                when=AWARE,
                idle="True",
            )
            for pair in ("w2e", "e2w", "e2e")
        ),
    ),
    swap(
        "transform transform_norm decoder decoder.own_bias",
        *LM,
        head(f"{P}transform.dense.weight", "read <- hidden", "entity.transform", bias=BIAS),
        head(f"{P}transform.LayerNorm.weight", "* read", "entity.transform_norm", norm=READ, bias=BIAS),
        head(f"{P}decoder.weight", "entities <- read", "entity.decoder", tied="entity.embed"),
        head(f"{P}bias", "-> entities", "entity.own_bias"),
    ),
    alter("decoder", tied=""),  # the class ties the entities' head alone (transformers 5.23)
    swap("classifier", head("classifier.weight", "labels <- vectors", "classifier", needs="pooler")),
    axes={
        **ENCODER.axes,
        "entities": "entity_vocab_size",
        "narrow": "entity_emb_size",
        "read": "entity_emb_size",
    },
    defaults=dict(vocab_size=50267),
    more=(
        Key("entity_vocab_size", default=500000),
        Key("entity_emb_size", default=256),
        Key(AWARE, default=True),
    ),
    prefixes=("luke.", ""),
    refusals={"hidden": ENTITIES},
    fixed=ENCODER.fixed | {"entities", "narrow", "read", "vectors"},
)

LAYOUTS = (TAPAS, ROC_BERT, LUKE)
