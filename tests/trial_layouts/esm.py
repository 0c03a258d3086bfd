"""ESM: pre-LayerNorm, learned or rotary positions; a contact head reads every head of every layer."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
WRITES = Norm("layer", "post", eps="layer_norm_eps")
HEAD = Norm("layer", "inner", eps="layer_norm_eps", of="transform")
E = "embeddings."
L = "encoder.layer.{layers}."
A = L + "attention."
LEARNED, ROTATED = "position_embedding_type == 'absolute'", "position_embedding_type == 'rotary'"
ROTARY = r"attention\.self\.rotary_embeddings\.inv_freq$"


def head(name: str, pattern: str, slot: str, norm: Norm | None = None, tied: str = "") -> Weight:
    """A line of a head."""
    return Weight(name, pattern, slot, norm, required=False, head=True, tied=tied)


WEIGHTS = (
    Weight(E + "word_embeddings.weight", "vocab -> hidden", "embed"),
    Weight(
        E + "position_embeddings.weight",
        "positions -> hidden",
        "positions",
        when=LEARNED,
    ),
    Weight("rotary_embeddings.inv_freq", "-> pairs", "frequencies", when=ROTATED),
    Weight(E + "layer_norm.weight", "* hidden", "embed_norm", WRITES, when="emb_layer_norm_before"),
    Weight(E + "layer_norm.bias", "-> hidden", "embed_norm.bias", WRITES, when="emb_layer_norm_before"),
    Weight(A + "LayerNorm.weight", "* hidden", "attn_norm", PRE),
    Weight(A + "LayerNorm.bias", "-> hidden", "attn_norm.bias", PRE),
    Weight(A + "self.query.weight", "(heads key_dim) <- hidden", "attn.q"),
    Weight(A + "self.query.bias", "-> (heads key_dim)", "attn.q.bias"),
    Weight(A + "self.key.weight", "(heads key_dim) <- hidden", "attn.k"),
    Weight(A + "self.key.bias", "-> (heads key_dim)", "attn.k.bias"),
    Weight(A + "self.value.weight", "(heads value_dim) <- hidden", "attn.v"),
    Weight(A + "self.value.bias", "-> (heads value_dim)", "attn.v.bias"),
    Weight(A + "output.dense.weight", "hidden <- (heads value_dim)", "attn.o"),
    Weight(A + "output.dense.bias", "-> hidden", "attn.o.bias"),
    Weight(L + "LayerNorm.weight", "* hidden", "mlp_norm", PRE),
    Weight(L + "LayerNorm.bias", "-> hidden", "mlp_norm.bias", PRE),
    Weight(L + "intermediate.dense.weight", "ffn <- hidden", "mlp.up"),
    Weight(L + "intermediate.dense.bias", "-> ffn", "mlp.up.bias"),
    Weight(L + "output.dense.weight", "hidden <- ffn", "mlp.down"),
    Weight(L + "output.dense.bias", "-> hidden", "mlp.down.bias"),
    Weight("encoder.emb_layer_norm_after.weight", "* hidden", "final_norm", PRE),
    Weight("encoder.emb_layer_norm_after.bias", "-> hidden", "final_norm.bias", PRE),
    Weight("contact_head.regression.weight", "1 <- (layers heads)", "contact"),
    Weight("contact_head.regression.bias", "-> 1", "contact.bias"),
    Weight("pooler.dense.weight", "pooled <- hidden", "pooler", required=False),
    Weight("pooler.dense.bias", "-> pooled", "pooler.bias", required=False),
    head("lm_head.dense.weight", "transform <- hidden", "transform"),
    head("lm_head.dense.bias", "-> transform", "transform.bias"),
    head("lm_head.layer_norm.weight", "* transform", "transform_norm", HEAD),
    head("lm_head.layer_norm.bias", "-> transform", "transform_norm.bias", HEAD),
    head("lm_head.decoder.weight", "vocab <- transform", "decoder", tied="embed"),
    head("lm_head.bias", "-> vocab", "decoder.bias"),
    head("classifier.dense.weight", "transform <- hidden", "class.dense"),
    head("classifier.dense.bias", "-> transform", "class.dense.bias"),
    head("classifier.out_proj.weight", "labels <- transform", "class.out"),
    head("classifier.out_proj.bias", "-> labels", "class.out.bias"),
    head("classifier.weight", "labels <- hidden", "tag"),
    head("classifier.bias", "-> labels", "tag.bias"),
)

LAYOUT = Layout(
    family="esm",
    model_types=("esm",),
    weights=WEIGHTS,
    axes={
        "vocab": "vocab_size",
        "positions": "max_position_embeddings",
        "hidden": "hidden_size",
        "transform": "hidden_size",
        "pooled": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "pairs": "hidden_size // num_attention_heads // 2",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("hidden_size", "hidden", 768),
        Key("intermediate_size", "ffn", 3072),
        Key("num_attention_heads", "heads", 12),
        Key("num_hidden_layers", "layers", 12),
        Key("max_position_embeddings", default=1026),
        Key("position_embedding_type", default="'absolute'"),
        Key("emb_layer_norm_before", default=False),
        Key("layer_norm_eps", default=1e-12),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("esm.", ""),
    attentions=(Attention(rope=Rope(theta=("rope_theta",))),),
    follows={"pooled": "hidden", "transform": "hidden"},
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    # On disk each layer has a copy of the one table, or the saver's literal `*` stands for all.
    derived=(r"embeddings\.position_ids$", rf"encoder\.layer\.\d+\.{ROTARY}"),
    renames={
        r"LayerNorm\.gamma$": "LayerNorm.weight",
        r"LayerNorm\.beta$": "LayerNorm.bias",
        rf"encoder\.layer\.(0|\*)\.{ROTARY}": "rotary_embeddings.inv_freq",
    },
)
