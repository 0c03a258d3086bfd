"""ModernBERT, encoder and decoder: norms before each branch, but for the first attention, which reads the
embeddings' norm; gated MLPs, windows in most layers, a rotary table for each kind of layer."""

from __future__ import annotations

from isogrow.families.edits import like, swap
from isogrow.families.heads import head
from isogrow.families.mellum import rope
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, PerLayer, Weight

POST = Norm("layer", "post", eps="norm_eps")
PRE = Norm("layer", "pre", eps="norm_eps")
HEAD = Norm("layer", "inner", eps="norm_eps", of="transform")
L = "layers.{layers}."
SHIFT, SAID, MLP = Bias("norm_bias"), Bias("attention_bias"), Bias("mlp_bias")
ALL, HEADED = Bias("classifier_bias"), Bias("decoder_bias")
QKV = "(q: heads key_dim + k: heads key_dim + v: heads value_dim) <- hidden"


def _heads(stem: str) -> tuple[Weight, ...]:
    return (
        head(f"{stem}.dense.weight", "transform <- hidden", "transform", bias=ALL),
        head(f"{stem}.norm.weight", "* transform", "transform_norm", norm=HEAD, bias=SHIFT),
        head("decoder.weight", "vocab <- transform", "decoder", bias=HEADED, tied="embed"),
        head("classifier.weight", "labels <- transform", "classifier", bias=Bias()),
    )


MODERNBERT = Layout(
    family="modernbert",
    model_types=("modernbert",),
    weights=(
        Weight("embeddings.tok_embeddings.weight", "vocab -> hidden", "embed"),
        Weight("embeddings.norm.weight", "* hidden", "embed_norm", POST, SHIFT),
        Weight(L + "attn_norm.weight", "* hidden", "attn_norm", PRE, SHIFT, when="layers > 0"),
        Weight(L + "attn.Wqkv.weight", QKV, "attn.*", bias=SAID),
        Weight(L + "attn.Wo.weight", "hidden <- (heads value_dim)", "attn.o", bias=SAID),
        Weight(L + "mlp_norm.weight", "* hidden", "mlp_norm", PRE, SHIFT),
        Weight(L + "mlp.Wi.weight", "(gate: ffn + up: ffn) <- hidden", "mlp.*", bias=MLP),
        Weight(L + "mlp.Wo.weight", "hidden <- ffn", "mlp.down", bias=MLP),
        Weight("final_norm.weight", "* hidden", "final_norm", PRE, SHIFT),
        *_heads("head"),
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "transform": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=50368),
        Key("hidden_size", "hidden", 768),
        Key("intermediate_size", "ffn", 1152),
        Key("num_hidden_layers", "layers", 22),
        Key("num_attention_heads", "heads", 12),
        Key("norm_eps", default=1e-5),
        Key("norm_bias", default=False),
        Key("attention_bias", default=False),
        Key("mlp_bias", default=False),
        Key("classifier_bias", default=False),
        Key("decoder_bias", default=True),
        Key("global_attn_every_n_layers", default=3),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("model.", ""),
    attentions=(Attention(rope=rope("full", 160000.0, rope("sliding", 10000.0))),),
    per_layer=(
        PerLayer(
            "layer_types", "'sliding_attention' if i % global_attn_every_n_layers else 'full_attention'"
        ),
    ),
    follows={"transform": "hidden"},
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
)

DECODER = like(
    MODERNBERT,
    "modernbert-decoder",
    swap(
        "attn.*",
        Weight(L + "attn.q_proj.weight", "(heads key_dim) <- hidden", "attn.q", bias=SAID),
        Weight(L + "attn.k_proj.weight", "(heads key_dim) <- hidden", "attn.k", bias=SAID),
        Weight(L + "attn.v_proj.weight", "(heads value_dim) <- hidden", "attn.v", bias=SAID),
    ),
    swap("transform transform_norm decoder classifier", *_heads("lm_head")),
)

LAYOUTS = (MODERNBERT, DECODER)
