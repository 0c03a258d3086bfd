"""BERT whose tokens have more than a number, or whose attention is estimated."""

from __future__ import annotations

from dataclasses import replace

import torch
import transformers
from family import BOOLS, PAD, POSITIONS, Family, Json, Steps
from hypothesis import strategies as st
from torch import Tensor

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadsExpansion, HiddenExpansion
from rows.bert import bert_options
from rows.bert_and_roberta import encoder, texts
from rows.bert_positions_and_widths import heads_alone, plain

KIN = True

KINDS = (3, 5, 4, 2, 6, 7, 8)


def cells(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts, each token in a cell of a table."""
    given = texts(False)(kind, generator)
    shape = given["input_ids"].shape
    types = [torch.randint(rows, shape, generator=generator) for rows in KINDS]
    return {**given, "token_type_ids": torch.stack(types, -1)}


TAPAS = encoder(
    "tapas", transformers.TapasConfig, type_vocab_sizes=list(KINDS), reset_position_index_per_cell=False
)
TAPAS = replace(
    TAPAS,
    classes=(*TAPAS.classes[:3], "TapasForQuestionAnswering"),
    options=plain,
    inputs=cells,
    absent=frozenset(),
)


def ffn_alone(row: Family) -> Family:
    """The same where the width stays, and with it heads and their dim."""
    return replace(
        row,
        growths={"ffn": {"ffn": 51}},
        together={"ffn": "x3"},
        draws=lambda draw, anatomy: [],
        copied=False,
    )


def sounds(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts, each token with a sound and a shape."""
    given = texts(True)(kind, generator)
    shape = given["input_ids"].shape
    return {
        **given,
        "input_pronunciation_ids": torch.randint(9, shape, generator=generator),
        "input_shape_ids": torch.randint(8, shape, generator=generator),
    }


def roc_options(draw: st.DrawFn) -> Json:
    return {**bert_options(draw), "enable_pronunciation": draw(BOOLS), "enable_shape": draw(BOOLS)}


ROC = replace(
    ffn_alone(
        encoder(
            "roc_bert",
            transformers.RoCBertConfig,
            more=("RoCBertForCausalLM",),
            pronunciation_embed_dim=7,
            pronunciation_vocab_size=47,
            shape_embed_dim=11,
            shape_vocab_size=44,
        )
    ),
    options=roc_options,
    inputs=sounds,
)


def entities(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts, and two entities in each."""
    given = texts(True)(kind, generator)
    lead = given["input_ids"].shape[:-1]
    places = torch.full((*lead, 2, 4), -1)
    places[..., 0, :2], places[..., 1, :1] = torch.tensor([1, 2]), 5
    return {
        **given,
        "entity_ids": torch.randint(1, 17, (*lead, 2), generator=generator),
        "entity_attention_mask": torch.ones(*lead, 2, dtype=torch.long),
        "entity_position_ids": places,
        "entity_token_type_ids": torch.zeros(*lead, 2, dtype=torch.long),
    }


def luke_options(draw: st.DrawFn) -> Json:
    found = plain(draw)
    narrow = draw(st.sampled_from([11, found["hidden_size"]]))
    return {**found, "entity_emb_size": narrow, "use_entity_aware_attention": draw(BOOLS)}


LUKE = encoder(
    "luke",
    transformers.LukeConfig,
    entity_vocab_size=17,
    entity_emb_size=11,
    max_position_embeddings=PAD + POSITIONS + 1,
)
LUKE = replace(ffn_alone(LUKE), options=luke_options, inputs=entities, absent=frozenset())


LONG = POSITIONS + 1
FIRST = {"position_embeddings.weight": [0, 1]}


def landmarks(draw: st.DrawFn) -> Json:
    """With landmarks, for some of a text's tokens or for all."""
    return {
        **plain(draw),
        "conv_kernel_size": draw(st.sampled_from([3, 5])),
        "num_landmarks": draw(st.sampled_from([2, 7, LONG])),
        "segment_means_seq_len": LONG,
    }


def whole(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts of as many tokens as the class says; none is padded, since the class can't add a mask to what its
    landmarks attend to (transformers 5.23)."""
    given = texts(True)(kind, generator)
    found = {name: value for name, value in given.items() if name != "attention_mask"}
    return {name: torch.cat([value, value[..., :1]], -1) for name, value in found.items()}


def dims_alone(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Hidden is multiplied, and the dim of heads with it."""
    sizes = draw(st.sampled_from([[], ["x2"], ["x3"], ["x2", "x2"]]))
    return [
        step
        for size in sizes
        for step in (HiddenExpansion(size), AttentionExpansion(size), HeadsExpansion(size))
    ]


NYSTROM = replace(
    encoder(
        "nystromformer",
        transformers.NystromformerConfig,
        conv_kernel_size=3,
        num_landmarks=7,
        segment_means_seq_len=LONG,
        max_position_embeddings=LONG,
    ),
    growths={"hidden and head_dim": {"hidden": 90, "head_dim": 18}, "ffn": {"ffn": 51}},
    together=dict(hidden=90, head_dim=18, ffn="x3"),
    options=landmarks,
    draws=dims_alone,
    inputs=whole,
    unread=FIRST,
    absent=frozenset(),
)


def hashes(draw: st.DrawFn) -> Json:
    return {**plain(draw), "conv_window": draw(st.sampled_from([None, 3]))}


YOSO = replace(
    encoder("yoso", transformers.YosoConfig, conv_window=3, type_vocab_size=2),
    growths={"hidden and heads": {"hidden": 60, "heads": 10}, "ffn": {"ffn": 51}},
    together=dict(hidden=90, heads=15, ffn="x3"),
    options=hashes,
    draws=heads_alone,
    absent=frozenset({"conv_window"}),
    unread=FIRST,
)

ROWS = (TAPAS, ROC, LUKE, NYSTROM, YOSO)
