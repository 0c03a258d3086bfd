"""BERT whose attention estimates the softmax: Nyströmformer by landmarks, YOSO by hashes. Each head has a
convolution of its own."""

from __future__ import annotations

from typing import Any

from isogrow.families.bert import A
from isogrow.families.bert_tokens import ENCODER
from isogrow.families.edits import after, drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.families.roberta import DENSE
from isogrow.layouts.layout import Attention, Key, Layout, Weight

S = A + "self."


def estimated(family: str, taps: str, **said: Any) -> Layout:
    """BERT without a pooler, with a convolution over the tokens, of each head's values, beside attention."""
    return like(
        ENCODER,
        family,
        after("attn.v", Weight(S + "conv.weight", "-> heads 1 kernel 1", "attn.conv", when=taps)),
        drop("pooler"),
        swap(
            "classifier",
            *DENSE,
            head("pre_classifier.weight", "choosing <- hidden", "choosing", bias=BIAS),
            head("classifier.weight", "labels <- choosing", "choice", needs="choosing"),
        ),
        axes={axis: size for axis, size in ENCODER.axes.items() if axis not in ("positions", "pooled")}
        | {"positions": "max_position_embeddings + 2", "features": "hidden_size", "choosing": "hidden_size"},
        prefixes=(f"{family}.", ""),
        follows={"transform": "hidden", "features": "hidden", "choosing": "hidden"},
        attentions=(Attention(bias="attn.conv"),),  # an entry of each head beside what it attends to
        **said,
    )


# The inverse that joins the landmarks starts from the largest number of all heads together.
NYSTROMFORMER = estimated(
    "nystromformer",
    "conv_kernel_size",
    defaults=dict(vocab_size=30000, max_position_embeddings=510, layer_norm_eps=1e-5),
    more=(
        Key("conv_kernel_size", default=65, null=0),
        Key("num_landmarks", default=64),
        Key("segment_means_seq_len", default=64),
    ),
    constraints=(
        *ENCODER.constraints,
        "num_landmarks == segment_means_seq_len or heads == num_attention_heads",
    ),
)
LENGTH = (
    "queries, keys and what comes of values are divided by their lengths in each head: grow heads instead"
)
YOSO = estimated(
    "yoso",
    "conv_window",
    defaults=dict(vocab_size=50265, max_position_embeddings=4096, type_vocab_size=1),
    more=(Key("conv_window", default=0, null=0), Key("use_expectation", default=True)),
    refusals={"key_dim": LENGTH, "value_dim": LENGTH},
    constraints=(*ENCODER.constraints, "use_expectation or heads == num_attention_heads"),
)

LAYOUTS = (NYSTROMFORMER, YOSO)
