"""ESM: pre-LayerNorm, learned or rotary positions; a contact head reads every head of every layer."""

from __future__ import annotations

from isogrow.families.heads import BIAS, head
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, Rename, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
WRITES = Norm("layer", "post", eps="layer_norm_eps")
HEAD = Norm("layer", "inner", eps="layer_norm_eps", of="transform")
E = "embeddings."
L = "encoder.layer.{layers}."
A = L + "attention."
LEARNED, ROTATED = "position_embedding_type == 'absolute'", "position_embedding_type == 'rotary'"
OWN = Bias(name="lm_head.bias")
TABLE_NOW = "rotary_embeddings.inv_freq"
TABLE = f"attention.self.{TABLE_NOW}"
ROTARY = TABLE.replace(".", r"\.") + "$"


WEIGHTS = (
    Weight(E + "word_embeddings.weight", "vocab -> hidden", "embed"),
    Weight(
        E + "position_embeddings.weight",
        "positions -> hidden",
        "positions",
        when=LEARNED,
    ),
    Weight("rotary_embeddings.inv_freq", "-> pairs", "frequencies", when=ROTATED),
    Weight(E + "layer_norm.weight", "* hidden", "embed_norm", WRITES, BIAS, when="emb_layer_norm_before"),
    Weight(A + "LayerNorm.weight", "* hidden", "attn_norm", PRE, BIAS),
    Weight(A + "self.query.weight", "(heads key_dim) <- hidden", "attn.q", bias=BIAS),
    Weight(A + "self.key.weight", "(heads key_dim) <- hidden", "attn.k", bias=BIAS),
    Weight(A + "self.value.weight", "(heads value_dim) <- hidden", "attn.v", bias=BIAS),
    Weight(A + "output.dense.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
    Weight(L + "LayerNorm.weight", "* hidden", "mlp_norm", PRE, BIAS),
    Weight(L + "intermediate.dense.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
    Weight(L + "output.dense.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
    Weight("encoder.emb_layer_norm_after.weight", "* hidden", "final_norm", PRE, BIAS),
    Weight("contact_head.regression.weight", "1 <- (layers heads)", "contact", bias=BIAS),
    Weight("pooler.dense.weight", "pooled <- hidden", "pooler", bias=BIAS, required=False),
    head("lm_head.dense.weight", "transform <- hidden", "transform", bias=BIAS),
    head("lm_head.layer_norm.weight", "* transform", "transform_norm", norm=HEAD, bias=BIAS),
    head("lm_head.decoder.weight", "vocab <- transform", "decoder", bias=OWN, tied="embed"),
    head("classifier.dense.weight", "transform <- hidden", "class.dense", bias=BIAS),
    head("classifier.out_proj.weight", "labels <- transform", "class.out", bias=BIAS),
    head("classifier.weight", "labels <- hidden", "tag", bias=BIAS),
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
    renames=(
        Rename("LayerNorm.gamma", "LayerNorm.weight", "end"),
        Rename("LayerNorm.beta", "LayerNorm.bias", "end"),
        *(Rename(f"encoder.layer.{n}.{TABLE}", TABLE_NOW, "end") for n in "0*"),
    ),
)
