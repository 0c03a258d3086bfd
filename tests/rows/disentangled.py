"""ALBERT, whose layers share their weights; DeBERTa, whose distances attend and are attended to."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import BOOLS, PAD, Family, Json
from hypothesis import strategies as st

from rows.bert import bert_options
from rows.bert_and_roberta import encoder

KIN = True

ALBERT = replace(
    encoder("albert", transformers.AlbertConfig, more=("AlbertForPreTraining",), embedding_size=11),
    options=lambda draw: {
        **bert_options(draw),
        "num_hidden_layers": 2,
        "num_hidden_groups": draw(st.sampled_from([1, 2])),
    },
)


def deberta_options(draw: st.DrawFn) -> Json:
    found = bert_options(draw)
    return {
        **{key: value for key, value in found.items() if key != "is_decoder"},
        "relative_attention": draw(BOOLS),
        "pos_att_type": draw(st.sampled_from([None, ["c2p"], ["p2c"], ["c2p", "p2c"], "c2p|p2c"])),
        "position_biased_input": draw(BOOLS),
        "type_vocab_size": draw(st.sampled_from([0, 2])),
        "max_relative_positions": draw(st.sampled_from([-1, 4])),
        "legacy": draw(BOOLS),
    }


def second_options(draw: st.DrawFn) -> Json:
    kernel = draw(st.sampled_from([0, 3]))
    return {
        **deberta_options(draw),
        "position_buckets": draw(st.sampled_from([-1, 4])),
        "norm_rel_ebd": draw(st.sampled_from(["none", "layer_norm"])),
        "share_att_key": draw(BOOLS),
        "conv_kernel_size": kernel,
        "conv_act": "gelu",
    }


UNSAID = frozenset({"embedding_size", "pos_att_type"})
# No two tokens are POSITIONS apart; token 33 stands under the mask alone, which zeroes what is embedded.
UNREAD = {
    "rel_embeddings.weight": [0],
    **dict.fromkeys(("word_embeddings.weight", "decoder.weight"), [33, PAD]),
}
SAID: Json = dict(relative_attention=True, pos_att_type=["c2p", "p2c"], type_vocab_size=2)
DEBERTA = replace(
    encoder("deberta", transformers.DebertaConfig, **SAID),
    options=deberta_options,
    absent=UNSAID,
    unread=UNREAD,
)
DEBERTA_V2 = replace(
    encoder(
        "deberta-v2",
        transformers.DebertaV2Config,
        position_biased_input=False,
        norm_rel_ebd="layer_norm",
        conv_kernel_size=3,
        conv_act="gelu",
        **SAID,
    ),
    options=second_options,
    absent=UNSAID
    | {"attention_head_size", "conv_groups", "conv_kernel_size", "norm_rel_ebd", "position_buckets"}
    | {"share_att_key"},
    unread=UNREAD,
)

ROWS: tuple[Family, ...] = (ALBERT, DEBERTA, DEBERTA_V2)
