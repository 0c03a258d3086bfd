"""ESM: a BERT of proteins with its norms before each branch, rotary or learned positions, and a head
(contacts) that is told where every head of every layer looks."""

from __future__ import annotations

from isogrow.families.bert import A, L, X
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.families.roberta import ROBERTA, pre
from isogrow.layouts.layout import Attention, Key, Rope, Weight

ROTARY = "position_embedding_type == 'rotary'"

ESM = like(
    pre(
        ROBERTA,
        "esm",
        A + "LayerNorm.weight",
        X + "LayerNorm.weight",
        L + "LayerNorm.weight",
        "encoder.emb_layer_norm_after.weight",
    ),
    "esm",
    drop("types"),
    alter("positions", when="position_embedding_type == 'absolute'"),
    alter("embed_norm", name="embeddings.layer_norm.weight", when="emb_layer_norm_before"),
    after(
        "final_norm",
        # What was stored is read, whatever θ is: it may have been rounded as it was trained.
        Weight("rotary_embeddings.inv_freq", "-> pairs", "rotary", when=ROTARY, required=False),
        Weight(A + "self.rotary_embeddings.inv_freq", "-> pairs", "rotary.old", when=ROTARY, required=False),
        Weight(
            "contact_head.regression.weight",
            "contact <- ({layers} maps)",
            "contacts",
            bias=BIAS,
            required=False,
            idle="True",
            aside=True,
        ),
    ),
    swap(
        "decoder decoder.own_bias",
        head("lm_head.decoder.weight", "vocab <- transform", "decoder", tied="embed"),
        head("lm_head.bias", "-> vocab", "decoder.own_bias"),
    ),
    axes={
        **{name: said for name, said in ROBERTA.axes.items() if name != "types"},
        "pairs": "hidden_size // num_attention_heads // 2",
        "maps": "num_attention_heads",
        "contact": "1",
    },
    lacks="type_vocab_size",
    more=(
        Key("position_embedding_type", default="'absolute'"),
        Key("rope_theta", default=10000.0),
        Key("emb_layer_norm_before", default=False, null=False),
    ),
    defaults=dict(max_position_embeddings=1026),
    prefixes=("esm.", ""),
    attentions=(
        Attention(rope=Rope(theta=("rope_theta",), scaling=(), when=ROTARY)),
        Attention("cross.q", "cross.k", "cross.v"),
    ),
    fixed=frozenset({"vocab", "positions", "pairs", "maps", "contact"}),
    refusals={
        "heads": "its contact head has a number for each of them in one vector, which no rule widens within a"
        " layer; grow ffn, layers, or hidden with head_dim instead",
        "key_dim": "its rotary table is read from the file, and not computed from the head's size; grow ffn"
        " or layers instead",
    },
    lifted={"key_dim": "position_embedding_type != 'rotary'"},
)

LAYOUTS = (ESM,)
