"""BERT: LayerNorm after each branch (post-norm), pooler, and an MLM head whose decoder is tied."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, Weight

POST = Norm("layer", "post", eps="layer_norm_eps")
HEAD = Norm("layer", "inner", eps="layer_norm_eps", of="transform")
L = "encoder.layer.{layers}."
A, X = L + "attention.", L + "crossattention."
CROSS = "add_cross_attention"  # to an encoder's output, which is as wide as the model
MLM = "cls.predictions."


def head(
    name: str, pattern: str, slot: str, norm: Norm | None = None, tied: str = "", needs: str = ""
) -> Weight:
    """A line of a head: named without the base model's prefix, and not in every checkpoint."""
    return Weight(name, pattern, slot, norm, required=False, head=True, tied=tied, needs=needs)


BERT = Layout(
    family="bert",
    model_types=("bert",),
    weights=(
        Weight("embeddings.word_embeddings.weight", "vocab -> hidden", "embed"),
        Weight("embeddings.position_embeddings.weight", "positions -> hidden", "positions"),
        Weight("embeddings.token_type_embeddings.weight", "types -> hidden", "types"),
        Weight("embeddings.LayerNorm.weight", "* hidden", "embed_norm", POST),
        Weight("embeddings.LayerNorm.bias", "-> hidden", "embed_norm.bias", POST),
        Weight(A + "self.query.weight", "(heads key_dim) <- hidden", "attn.q"),
        Weight(A + "self.query.bias", "-> (heads key_dim)", "attn.q.bias"),
        Weight(A + "self.key.weight", "(heads key_dim) <- hidden", "attn.k"),
        Weight(A + "self.key.bias", "-> (heads key_dim)", "attn.k.bias"),
        Weight(A + "self.value.weight", "(heads value_dim) <- hidden", "attn.v"),
        Weight(A + "self.value.bias", "-> (heads value_dim)", "attn.v.bias"),
        Weight(A + "output.dense.weight", "hidden <- (heads value_dim)", "attn.o"),
        Weight(A + "output.dense.bias", "-> hidden", "attn.o.bias"),
        Weight(A + "output.LayerNorm.weight", "* hidden", "attn_norm", POST),
        Weight(A + "output.LayerNorm.bias", "-> hidden", "attn_norm.bias", POST),
        Weight(X + "self.query.weight", "(heads key_dim) <- hidden", "cross.q", when=CROSS),
        Weight(X + "self.query.bias", "-> (heads key_dim)", "cross.q.bias", when=CROSS),
        Weight(X + "self.key.weight", "(heads key_dim) <- memory", "cross.k", when=CROSS),
        Weight(X + "self.key.bias", "-> (heads key_dim)", "cross.k.bias", when=CROSS),
        Weight(X + "self.value.weight", "(heads value_dim) <- memory", "cross.v", when=CROSS),
        Weight(X + "self.value.bias", "-> (heads value_dim)", "cross.v.bias", when=CROSS),
        Weight(X + "output.dense.weight", "hidden <- (heads value_dim)", "cross.o", when=CROSS),
        Weight(X + "output.dense.bias", "-> hidden", "cross.o.bias", when=CROSS),
        Weight(X + "output.LayerNorm.weight", "* hidden", "cross_norm", POST, when=CROSS),
        Weight(X + "output.LayerNorm.bias", "-> hidden", "cross_norm.bias", POST, when=CROSS),
        Weight(L + "intermediate.dense.weight", "ffn <- hidden", "mlp.up"),
        Weight(L + "intermediate.dense.bias", "-> ffn", "mlp.up.bias"),
        Weight(L + "output.dense.weight", "hidden <- ffn", "mlp.down"),
        Weight(L + "output.dense.bias", "-> hidden", "mlp.down.bias"),
        Weight(L + "output.LayerNorm.weight", "* hidden", "mlp_norm", POST),
        Weight(L + "output.LayerNorm.bias", "-> hidden", "mlp_norm.bias", POST),
        Weight("pooler.dense.weight", "pooled <- hidden", "pooler", required=False),
        Weight("pooler.dense.bias", "-> pooled", "pooler.bias", required=False),
        head(MLM + "transform.dense.weight", "transform <- hidden", "transform"),
        head(MLM + "transform.dense.bias", "-> transform", "transform.bias"),
        head(MLM + "transform.LayerNorm.weight", "* transform", "transform_norm", HEAD),
        head(MLM + "transform.LayerNorm.bias", "-> transform", "transform_norm.bias", HEAD),
        head(MLM + "decoder.weight", "vocab <- transform", "decoder", tied="embed"),
        head(MLM + "decoder.bias", "-> vocab", "decoder.bias", tied="decoder.own_bias"),
        head(MLM + "bias", "-> vocab", "decoder.own_bias"),
        head("cls.seq_relationship.weight", "choices <- pooled", "next"),
        head("cls.seq_relationship.bias", "-> choices", "next.bias"),
        head("classifier.weight", "labels <- pooled", "classifier", needs="pooler.dense.weight"),
        head("classifier.weight", "labels <- hidden", "tagger"),
        head("classifier.bias", "-> labels", "classifier.bias"),
        head("qa_outputs.weight", "labels <- hidden", "span"),
        head("qa_outputs.bias", "-> labels", "span.bias"),
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
    renames={r"LayerNorm\.gamma$": "LayerNorm.weight", r"LayerNorm\.beta$": "LayerNorm.bias"},
)

LAYOUTS = (BERT,)
