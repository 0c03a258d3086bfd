"""BERT: LayerNorm after each branch (post-norm), pooler, and an MLM head whose decoder is tied."""

from __future__ import annotations

from isogrow.families.heads import BIAS, SPAN, head
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, Rename, Weight

POST = Norm("layer", "post", eps="layer_norm_eps")
HEAD = Norm("layer", "inner", eps="layer_norm_eps", of="transform")
L = "encoder.layer.{layers}."
A, X = L + "attention.", L + "crossattention."
CROSS = "add_cross_attention"  # to an encoder's output, which is as wide as the model
MLM = "cls.predictions."
OWN = Bias(tied="decoder.own_bias")


BERT = Layout(
    family="bert",
    model_types=("bert",),
    weights=(
        Weight("embeddings.word_embeddings.weight", "vocab -> hidden", "embed"),
        Weight("embeddings.position_embeddings.weight", "positions -> hidden", "positions"),
        Weight("embeddings.token_type_embeddings.weight", "types -> hidden", "types"),
        Weight("embeddings.LayerNorm.weight", "* hidden", "embed_norm", POST, BIAS),
        Weight(A + "self.query.weight", "(heads key_dim) <- hidden", "attn.q", bias=BIAS),
        Weight(A + "self.key.weight", "(heads key_dim) <- hidden", "attn.k", bias=BIAS),
        Weight(A + "self.value.weight", "(heads value_dim) <- hidden", "attn.v", bias=BIAS),
        Weight(A + "output.dense.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
        Weight(A + "output.LayerNorm.weight", "* hidden", "attn_norm", POST, BIAS),
        Weight(X + "self.query.weight", "(heads key_dim) <- hidden", "cross.q", bias=BIAS, when=CROSS),
        Weight(X + "self.key.weight", "(heads key_dim) <- memory", "cross.k", bias=BIAS, when=CROSS),
        Weight(X + "self.value.weight", "(heads value_dim) <- memory", "cross.v", bias=BIAS, when=CROSS),
        Weight(X + "output.dense.weight", "hidden <- (heads value_dim)", "cross.o", bias=BIAS, when=CROSS),
        Weight(X + "output.LayerNorm.weight", "* hidden", "cross_norm", POST, BIAS, when=CROSS),
        Weight(L + "intermediate.dense.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(L + "output.dense.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight(L + "output.LayerNorm.weight", "* hidden", "mlp_norm", POST, BIAS),
        Weight("pooler.dense.weight", "pooled <- hidden", "pooler", bias=BIAS, required=False),
        head(MLM + "transform.dense.weight", "transform <- hidden", "transform", bias=BIAS),
        head(MLM + "transform.LayerNorm.weight", "* transform", "transform_norm", norm=HEAD, bias=BIAS),
        head(
            MLM + "decoder.weight",
            "vocab <- transform",
            "decoder",
            bias=Bias(tied="decoder.own_bias"),
            tied="embed",
        ),
        head(MLM + "bias", "-> vocab", "decoder.own_bias"),
        head("cls.seq_relationship.weight", "choices <- pooled", "next", bias=BIAS),
        head("classifier.weight", "labels <- pooled", "classifier", needs="pooler"),
        head("classifier.weight", "labels <- hidden", "tagger"),
        head("classifier.bias", "-> labels", "classifier.bias"),  # of either
        SPAN,
    ),
    axes={
        "vocab": "vocab_size",
        "positions": "max_position_embeddings",
        "types": "type_vocab_size",
        "hidden": "hidden_size",
        "memory": "hidden_size",
        "pooled": "hidden_size",
        "transform": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=30522),
        Key("max_position_embeddings", default=512),
        Key("type_vocab_size", default=2),
        Key("hidden_size", "hidden", 768),
        Key("intermediate_size", "ffn", 3072),
        Key("num_attention_heads", "heads", 12),
        Key("num_hidden_layers", "layers", 12),
        Key("layer_norm_eps", default=1e-12),
        Key("add_cross_attention", default=False),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("bert.", ""),
    attentions=(Attention(), Attention("cross.q", "cross.k", "cross.v")),
    fixed=frozenset({"vocab", "positions", "types"}),
    follows={"memory": "hidden", "pooled": "hidden", "transform": "hidden"},
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    derived=(r"embeddings\.position_ids$", r"embeddings\.token_type_ids$"),
    renames=(
        Rename("LayerNorm.gamma", "LayerNorm.weight", "end"),
        Rename("LayerNorm.beta", "LayerNorm.bias", "end"),
    ),
)

LAYOUTS = (BERT,)
