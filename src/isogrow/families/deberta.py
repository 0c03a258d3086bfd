"""DeBERTa (arXiv 2006.03654) and its second version: BERT whose tokens attend by what they are and by how far
apart they are, each with the other. Distances have embeddings of their own, a stream that all layers read.

    logit = s (q · k + q · k_d + q_d · k),   s = 1/√(key_dim · terms)

The first version has no bias on keys; the second may read distances by the projections of tokens
(share_att_key), and may add a convolution of the embeddings to what the first layer gives.
"""

from __future__ import annotations

from typing import Any

from isogrow.families.bert import BERT, HEAD, POST
from isogrow.families.edits import Rows, like
from isogrow.families.heads import BIAS, SPAN, head
from isogrow.layouts.layout import Attention, Bias, Key, Stream, Weight

L = "encoder.layer.{layers}."
A = L + "attention."
S, E = A + "self.", "embeddings."
FAR = "distances"
C2P, P2C = (f"relative_attention and '{term}' in pos_att_type" for term in ("c2p", "p2c"))
UNREAD = "not relative_attention or not ('c2p' in pos_att_type or 'p2c' in pos_att_type)"
OLD, NEW = "cls.predictions.", "lm_predictions.lm_head."


def _head(dense: str, norm: str, bias: str) -> Rows:
    """What masked tokens are read from; a head of the second kind reads the embedding whatever is tied."""
    return (
        head(dense + ".weight", "transform <- hidden", "transform", bias=BIAS),
        head(norm + ".weight", "* transform", "transform_norm", norm=HEAD, bias=BIAS),
        head(bias, "-> vocab", "decoder.own_bias"),
    )


def _deberta(attention: Rows, norms: Rows = (), beside: Rows = ()) -> Rows:
    return (
        Weight(E + "word_embeddings.weight", "vocab -> hidden", "embed"),
        Weight(
            E + "position_embeddings.weight", "positions -> hidden", "positions", when="position_biased_input"
        ),
        Weight(E + "token_type_embeddings.weight", "types -> hidden", "types", when="type_vocab_size > 0"),
        Weight(E + "LayerNorm.weight", "* hidden", "embed_norm", POST, BIAS),
        Weight(
            "encoder.rel_embeddings.weight",
            f"{FAR} -> hidden",
            "far.embed",
            when="relative_attention",
            idle=UNREAD,
            stream=FAR,
        ),
        *norms,
        *attention,
        Weight(A + "output.dense.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
        Weight(A + "output.LayerNorm.weight", "* hidden", "attn_norm", POST, BIAS),
        Weight(L + "intermediate.dense.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(L + "output.dense.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight(L + "output.LayerNorm.weight", "* hidden", "mlp_norm", POST, BIAS),
        *beside,
        *_head(OLD + "transform.dense", OLD + "transform.LayerNorm", OLD + "bias"),
        *_head(NEW + "dense", NEW + "LayerNorm", NEW + "bias"),
        head(
            OLD + "decoder.weight",
            "vocab <- transform",
            "decoder",
            bias=Bias(tied="decoder.own_bias"),
            tied="embed",
        ),
        head("pooler.dense.weight", "pooled <- hidden", "pooler", bias=BIAS),
        head("classifier.weight", "labels <- pooled", "classifier", needs="pooler"),
        head("classifier.weight", "labels <- hidden", "tagger"),
        head("classifier.bias", "-> labels", "classifier.bias"),  # of either
        SPAN,
    )


def _far(name: str, slot: str, when: str, **said: Any) -> Weight:
    return Weight(S + name, "(heads key_dim) <- hidden", slot, when=when, stream=FAR, **said)


DEBERTA = like(
    BERT,
    "deberta",
    weights=_deberta(
        (
            Weight(
                S + "in_proj.weight",
                "(heads (q: key_dim + k: key_dim + v: value_dim)) <- hidden",
                "attn.*",
            ),
            Weight(S + "q_bias", "-> (heads key_dim)", "attn.q.bias"),
            Weight(S + "v_bias", "-> (heads value_dim)", "attn.v.bias"),
            _far("pos_proj.weight", "far.k", C2P),
            _far("pos_q_proj.weight", "far.q", P2C, bias=BIAS),
        )
    ),
    axes={axis: said for axis, said in BERT.axes.items() if axis != "memory"}
    | {
        "types": "type_vocab_size or None",
        FAR: "2 * (max_relative_positions if max_relative_positions > 0 else max_position_embeddings)",
    },
    defaults=dict(vocab_size=50265, type_vocab_size=0, layer_norm_eps=1e-7),
    more=(
        Key("embedding_size", "hidden", "hidden_size"),
        Key("pooler_hidden_size", "hidden", "hidden_size"),
        Key("relative_attention", default=False),
        Key("max_relative_positions", default=-1),
        Key("position_biased_input", default=True),
        Key("pos_att_type", default=[], null=[]),
    ),
    lacks="add_cross_attention",
    prefixes=("deberta.", ""),
    # Each term has the same scale, of which the number of terms is no size.
    attentions=(Attention(), Attention("attn.q", "far.k"), Attention("far.q", "attn.k")),
    streams=(Stream("text"), Stream(FAR)),
    fixed=BERT.fixed | {FAR},
    follows={"pooled": "hidden", "transform": "hidden"},
    foreign={
        "head_(logits|weights)_proj": "mixes all heads with each other (talking_head), so that no head is new"
        " without the others: grow a model without it",
        "embed_proj": "is for embeddings of a width of their own, which no table says: grow another model",
        r"^mask_predictions\.": "is a head of the training that no class reads: remove its tensors",
    },
)

SHARED = "relative_attention and share_att_key"
BOTH = f"text {FAR}"
OWN = f"not ({SHARED})"


def _read(name: str, slot: str) -> Rows:
    """A projection of tokens, which may read distances as well."""
    own = Weight(S + name, "(heads key_dim) <- hidden", slot, bias=BIAS, when=OWN)
    both = Weight(S + name, "(heads key_dim) <- hidden", slot, bias=BIAS, when=SHARED, stream=BOTH)
    return own, both


DEBERTA_V2 = like(
    DEBERTA,
    "deberta-v2",
    weights=_deberta(
        (
            *_read("query_proj.weight", "attn.q"),
            *_read("key_proj.weight", "attn.k"),
            Weight(S + "value_proj.weight", "(heads value_dim) <- hidden", "attn.v", bias=BIAS),
            _far("pos_key_proj.weight", "far.k", f"{C2P} and {OWN}", bias=BIAS),
            _far("pos_query_proj.weight", "far.q", f"{P2C} and {OWN}", bias=BIAS),
        ),
        (
            Weight(
                "encoder.LayerNorm.weight",
                "* hidden",
                "far.norm",
                POST,
                Bias(idle=UNREAD),
                when="'layer_norm' in norm_rel_ebd",
                idle=UNREAD,
                stream=FAR,
            ),
        ),
        (
            # It runs once, behind the first layer, and reads what that read.
            Weight(
                "encoder.conv.conv.weight",
                "hidden <- first kernel",
                "conv",
                bias=BIAS,
                when="conv_kernel_size > 0",
            ),
            Weight(
                "encoder.conv.LayerNorm.weight",
                "* hidden",
                "conv_norm",
                POST,
                BIAS,
                when="conv_kernel_size > 0",
            ),
        ),
    ),
    axes={
        **DEBERTA.axes,
        FAR: "2 * (position_buckets if position_buckets > 0 else max_relative_positions"
        " if max_relative_positions > 0 else max_position_embeddings)",
        "key_dim": "attention_head_size",
        "value_dim": "attention_head_size",
        "first": "hidden_size if conv_kernel_size > 0 else None",
        "kernel": "conv_kernel_size or None",
    },
    defaults=dict(vocab_size=128100, hidden_size=1536, intermediate_size=6144, num_attention_heads=24)
    | dict(num_hidden_layers=24),
    more=(
        Key("attention_head_size", "key_dim", "hidden_size // num_attention_heads"),
        Key("position_buckets", default=-1),
        Key("norm_rel_ebd", default="'none'"),
        Key("share_att_key", default=False),
        Key("conv_kernel_size", default=0),
        Key("conv_groups", default=1),
    ),
    fixed=DEBERTA.fixed | {"kernel"},
    follows={**DEBERTA.follows, "first": "hidden"},
    constraints=(*DEBERTA.constraints, "conv_groups == 1 or not conv_kernel_size"),
)

LAYOUTS = (DEBERTA, DEBERTA_V2)
