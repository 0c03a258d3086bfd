"""Encoders that normalise what each branch has written, as BERT does, whose positions are rotary: Nomic's,
GTE and Jina's. Files have queries, keys and values in one tensor, and names that the class no longer has."""

from __future__ import annotations

from collections.abc import Mapping

from isogrow.families.bert import BERT, MLM, POST
from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.families.roberta import LM
from isogrow.layouts.layout import Attention, Bias, Binding, Key, Rope, Weight

QKV = "(q: heads key_dim + k: heads key_dim + v: heads value_dim) <- hidden"
PLAIN = {
    "q": "(heads key_dim) <- hidden",
    "k": "(heads key_dim) <- hidden",
    "v": "(heads value_dim) <- hidden",
}
NORMS = {
    "embed_norm": "embeddings.LayerNorm",
    "attn_norm": "post_attention_layernorm",
    "mlp_norm": "post_mlp_layernorm",
}


def in_memory(names: Mapping[str, str]) -> Binding:
    """How the class calls them: `names` (slot -> name without its end) beside what all of them have."""
    said: dict[str, str | tuple[str, str]] = {}
    for slot, name in {**NORMS, "attn.o": "self_attn.o_proj", **names}.items():
        stem = "" if name.startswith(("embeddings.", "lm_head.")) else "layers.{layers}."
        said[f"{stem}{name}.weight"] = slot
    for part, pattern in PLAIN.items():
        said[f"layers.{{layers}}.self_attn.{part}_proj.weight"] = (f"attn.{part}", pattern)
    return Binding("memory", said)


def attention(layer: str, fused: str, out: str, bias: Bias | None) -> tuple[Weight, Weight]:
    return (
        Weight(f"{layer}{fused}.weight", QKV, "attn.*", bias=bias),
        Weight(f"{layer}{out}.weight", "hidden <- (heads value_dim)", "attn.o", bias=bias),
    )


def norms(embed: str, attn: str, mlp: str) -> tuple[Weight, Weight, Weight]:
    return (
        Weight(f"{embed}.weight", "* hidden", "embed_norm", POST, BIAS),
        Weight(f"{attn}.weight", "* hidden", "attn_norm", POST, BIAS),
        Weight(f"{mlp}.weight", "* hidden", "mlp_norm", POST, BIAS),
    )


N = "encoder.layers.{layers}."
FIRST, AFTER, LAST = norms("emb_ln", N + "norm1", N + "norm2")
BASE = like(
    BERT,
    "rotary-bert",
    drop("positions cross.q cross.k cross.v cross.o cross_norm next"),
    axes={axis: said for axis, said in BERT.axes.items() if axis not in ("positions", "memory")},
    lacks="add_cross_attention",
    attentions=(Attention(),),
    fixed=BERT.fixed - {"positions"},
    follows={"pooled": "hidden", "transform": "hidden"},
    derived=(),
    renames=(),
)


NOMIC = like(
    BASE,
    "nomic_bert",
    swap("embed_norm", FIRST),
    swap("attn.q attn.k attn.v attn.o attn_norm", *attention(N + "attn.", "Wqkv", "out_proj", None), AFTER),
    swap(
        "mlp.up mlp.down mlp_norm",
        Weight(N + "mlp.fc12.weight", "ffn <- hidden", "mlp.gate"),
        Weight(N + "mlp.fc11.weight", "ffn <- hidden", "mlp.up"),
        Weight(N + "mlp.fc2.weight", "hidden <- ffn", "mlp.down"),
        LAST,
    ),
    alter("transform_norm", name=MLM + "transform.layer_norm.weight"),
    axes={**BASE.axes, "key_dim": "head_dim", "value_dim": "head_dim"},
    defaults=dict(vocab_size=30528, max_position_embeddings=2048),
    more=(Key("head_dim", "key_dim", "hidden_size // num_attention_heads"),),
    prefixes=("nomic_bert.", ""),
    attentions=(Attention(rope=Rope(default=1000.0)),),
    constraints=("key_dim == value_dim",),
    bindings=(
        in_memory({"mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"}),
    ),
)

G = "encoder.layer.{layers}."
FIRST_GTE, AFTER_GTE, LAST_GTE = norms("embeddings.LayerNorm", G + "attn_ln", G + "mlp_ln")
UNBOUND = like(
    BASE,
    "gte",
    alter("types", when="type_vocab_size"),
    swap(
        "attn.q attn.k attn.v attn.o attn_norm",
        *attention(G + "attention.", "qkv_proj", "o_proj", BIAS),
        AFTER_GTE,
    ),
    swap(
        "mlp.up mlp.down mlp_norm",
        Weight(G + "mlp.up_gate_proj.weight", "(up: ffn + gate: ffn) <- hidden", "mlp.*"),
        Weight(G + "mlp.down_proj.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        LAST_GTE,
    ),
    swap(
        "transform transform_norm decoder decoder.own_bias",
        LM[0],
        head("lm_head.norm.weight", "* transform", "transform_norm", norm=LM[1].norm, bias=BIAS),
        head("lm_head.decoder.weight", "vocab <- transform", "decoder", bias=BIAS, tied="embed"),
    ),
    defaults=dict(vocab_size=250048, max_position_embeddings=8192, type_vocab_size=1),
    prefixes=("new.", "gte.", ""),
    attentions=(Attention(rope=Rope(default=160000.0)),),
)
GTE = like(
    UNBOUND,
    "gte",
    bindings=(
        Binding(
            "memory",
            {
                **{
                    name: slot
                    for name, slot in in_memory({"mlp.down": "mlp.down_proj"}).places.items()
                    if slot != "embed_norm"
                },
                "layers.{layers}.mlp.gate_proj.weight": ("mlp.gate", "ffn <- hidden"),
                "layers.{layers}.mlp.up_proj.weight": ("mlp.up", "ffn <- hidden"),
                "lm_head.layer_norm.weight": "transform_norm",
            },
        ),
    ),
)

J = "encoder.layers.{layers}."
FIRST_JINA, AFTER_JINA, LAST_JINA = norms("emb_ln", J + "norm1", J + "norm2")
JINA = like(
    BASE,
    "jina_embeddings_v3",
    swap("embed_norm", FIRST_JINA),
    swap(
        "attn.q attn.k attn.v attn.o attn_norm",
        *attention(J + "mixer.", "Wqkv", "out_proj", BIAS),
        AFTER_JINA,
    ),
    swap(
        "mlp.up mlp.down mlp_norm",
        Weight(J + "mlp.fc1.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(J + "mlp.fc2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        LAST_JINA,
    ),
    swap("transform transform_norm decoder decoder.own_bias", *LM),
    defaults=dict(
        vocab_size=250002,
        max_position_embeddings=8194,
        type_vocab_size=1,
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=16,
        num_hidden_layers=24,
        layer_norm_eps=1e-5,
    ),
    prefixes=("roberta.", ""),
    attentions=(Attention(rope=Rope(default=20000.0)),),
    bindings=(in_memory({"mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"}),),
)

LAYOUTS = (NOMIC, GTE, JINA)
