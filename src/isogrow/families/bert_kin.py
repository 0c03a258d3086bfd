"""More of BERT's kin: BigBird, RoFormer, RemBERT, RoCBert, LayoutLM, LUKE, Longformer, BertGeneration."""

from __future__ import annotations

from isogrow.families.bert import BERT, MLM, A
from isogrow.families.edits import after, alter, before, drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.families.roberta import DENSE, ROBERTA
from isogrow.layouts.layout import Attention, Bias, Key, Norm, Weight

SAID = Bias("use_bias")
S = A + "self."
WIDE = {"features": "hidden_size"}

# Which blocks a head reads at random is drawn for all heads together.
BIG_BIRD = like(
    BERT,
    "big_bird",
    alter("embed", times="hidden ** 0.5 if rescale_embeddings else 1"),
    alter("attn.q attn.k attn.v cross.q cross.k cross.v", bias=SAID),
    swap("pooler", Weight("pooler.weight", "pooled <- hidden", "pooler", bias=BIAS, required=False)),
    after("classifier.bias", *DENSE),
    drop("span"),
    axes={**BERT.axes, **WIDE},
    follows={**BERT.follows, "features": "hidden"},
    defaults=dict(
        vocab_size=50358,
        max_position_embeddings=4096,
        use_bias=True,
        rescale_embeddings=False,
        attention_type="'block_sparse'",
    ),
    constraints=(*BERT.constraints, "attention_type == 'original_full' or heads == num_attention_heads"),
)

ANGLES = "its positions are turned by angles that the class computes from the head dim: grow heads instead"
ROFORMER = like(
    BERT,
    "roformer",
    drop("positions pooler next classifier tagger classifier.bias"),
    before(
        "attn.q",
        Weight(
            "encoder.embed_positions.weight", "positions -> turned", "angles", required=False, idle="True"
        ),
    ),
    before("span", *DENSE, head("classifier.weight", "labels <- hidden", "tagger", bias=BIAS)),
    axes={**BERT.axes, **WIDE, "turned": "hidden_size // num_attention_heads"},
    defaults=dict(vocab_size=50000, max_position_embeddings=1536),
    more=(Key("embedding_size", "hidden", "hidden_size"),),
    prefixes=("roformer.", ""),
    fixed=BERT.fixed | {"turned"},
    follows={**BERT.follows, "features": "hidden"},
    refusals={"key_dim": ANGLES, "value_dim": ANGLES},
)

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

TABLES = ("x", "y", "h", "w")
LAYOUTLM = like(
    BERT,
    "layoutlm",
    after(
        "positions",
        *(
            Weight(f"{E}{name}_position_embeddings.weight", "places -> hidden", f"places.{name}")
            for name in TABLES
        ),
    ),
    drop("cross.q cross.k cross.v cross.o cross_norm next"),
    axes={**{k: v for k, v in BERT.axes.items() if k != "memory"}, "places": "max_2d_position_embeddings"},
    more=(Key("max_2d_position_embeddings", default=1024),),
    lacks="add_cross_attention",
    attentions=(Attention(),),
    prefixes=("layoutlm.", ""),
    fixed=BERT.fixed | {"places"},
    follows={"pooled": "hidden", "transform": "hidden"},
)

# What a token that all others read has of its own; whether there is one, the input says.
GLOBAL = tuple(
    Weight(
        f"{S}{name}_global.weight",
        f"(heads {axis}) <- hidden",
        f"global.{name[0]}",
        bias=Bias(idle="True"),
        idle="True",
    )
    for name, axis in (("query", "key_dim"), ("key", "key_dim"), ("value", "value_dim"))
)
LONGFORMER = like(
    ROBERTA,
    "longformer",
    after("attn.v", *GLOBAL),
    drop("cross.q cross.k cross.v cross.o cross_norm classifier"),
    axes={k: v for k, v in ROBERTA.axes.items() if k != "memory"},
    defaults=dict(vocab_size=30522),
    lacks="add_cross_attention",
    attentions=(Attention(), Attention("global.q", "global.k", "global.v")),
    prefixes=("longformer.", ""),
    follows={"pooled": "hidden", "transform": "hidden", "features": "hidden"},
)

LAST = Bias(tied="head.own_bias")
GENERATION = like(
    BERT,
    "bert-generation",
    drop("types pooler transform transform_norm next decoder decoder.own_bias"),
    drop("classifier tagger classifier.bias span"),
    after(
        "mlp_norm",
        head("lm_head.decoder.weight", "vocab <- hidden", "head", tied="embed", bias=LAST),
        head("lm_head.bias", "-> vocab", "head.own_bias"),
    ),
    axes={axis: said for axis, said in BERT.axes.items() if axis not in ("types", "pooled", "transform")},
    defaults=dict(
        vocab_size=50358,
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=16,
        num_hidden_layers=24,
    ),
    lacks="type_vocab_size",
    fixed=BERT.fixed - {"types"},
    follows={"memory": "hidden"},
)

LAYOUTS = (BIG_BIRD, ROFORMER, REMBERT, LAYOUTLM, LONGFORMER, GENERATION)
