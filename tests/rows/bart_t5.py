"""Encoders and decoders: BART's like, MT5, UMT5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import transformers
from family import BOOLS, LABELS, LAYERS, PAD, POSITIONS, VOCAB, Family, Json, Requests, Steps
from hypothesis import strategies as st
from torch import Tensor

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import (
    AttentionExpansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    LayerAddition,
    MlpExpansion,
    Size,
)
from rows.stacks import END, T5, texts

KIN = True

SIZES: Json = dict(
    num_labels=LABELS,
    pad_token_id=PAD,
    eos_token_id=END,
    decoder_start_token_id=PAD,
    forced_eos_token_id=None,
    vocab_size=VOCAB,
    d_model=30,
    encoder_layers=4,
    decoder_layers=3,
    encoder_ffn_dim=37,
    decoder_ffn_dim=41,
    encoder_attention_heads=5,
    decoder_attention_heads=3,
    max_position_embeddings=POSITIONS,
    activation_function="gelu",
)


def bart_options(draw: st.DrawFn) -> Json:
    """Heads of the stacks apart."""
    dim = draw(st.sampled_from([1, 2]))
    encoder, decoder = draw(st.sampled_from([(2, 3), (3, 1), (6, 6)]))
    return dict(
        d_model=24 * dim if encoder * decoder % 9 else 18 * dim,
        encoder_attention_heads=encoder,
        decoder_attention_heads=decoder,
        encoder_layers=draw(LAYERS),
        decoder_layers=draw(LAYERS),
        scale_embedding=draw(BOOLS),  # untied, the class has three embeddings: such a model is refused
    )


def layered(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Layers, in one stack or in both."""
    return [LayerAddition(n) for n in draw(st.sampled_from([[], ["+1"], ["+2"]]))]


def wide_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Hidden is multiplied, and heads with it."""
    found: Steps = [MlpExpansion(n) for n in draw(st.sampled_from([[], ["+3"], ["x2"]]))]
    for size in draw(st.sampled_from([[], ["x2"], ["x3"], ["x2", "x2"]])):
        found.append(HiddenExpansion(size))
        wider = draw(BOOLS)
        found += [HeadAddition(size)] if wider else [AttentionExpansion(size), HeadsExpansion(size)]
    return found


GROWTHS: Requests = {
    "hidden and heads": {"hidden": 60, "heads": "x2"},
    "hidden and head_dim": {"hidden": 90, "head_dim": "x3"},
    "ffn of both": {"ffn": "+5"},
    "encoder_ffn": {"encoder_ffn": 51},
}
LAYER: Requests = {"layers": {"layers": "+2"}, "decoder.layers": {"decoder.layers": 5}}
TOGETHER: Mapping[str, Size] = dict(hidden=90, heads="x3", ffn="x3")


def unread(first: int) -> Mapping[str, list[int]]:
    """The rows of positions that no text reaches: a decoder's texts are shorter by two."""
    last = [first + POSITIONS - 2, first + POSITIONS - 1]
    rows = list(range(first))
    return {"encoder.embed_positions.weight": rows, "decoder.embed_positions.weight": [*rows, *last]}


def bart(name: str, config: type[transformers.PreTrainedConfig], *more: str, **said: Any) -> Family:
    """A row of one of BART's kin."""
    prefix = config.__name__.removesuffix("Config")
    heads = ("ForConditionalGeneration", "Model", "ForSequenceClassification", "ForQuestionAnswering")
    kinds = (*more, *(f"{prefix}{head}" for head in heads))
    return Family(
        name,
        config,
        tuple(kind for kind in kinds if hasattr(transformers, kind)),
        SIZES,
        GROWTHS,
        TOGETHER,
        bart_options,
        wide_growths,
        inputs=texts,
        widths=((),),
        alone="encoder_ffn",
        **{"copied": True, "unread": unread(2), **said},
    )


def pre(row: Family) -> Family:
    """The same with its norms before each branch, so that layers can be added."""
    return replace(
        row,
        growths={**row.growths, **LAYER},
        together={**row.together, "layers": "+2"},
        draws=lambda draw, anatomy: [*row.draws(draw, anatomy), *layered(draw, anatomy)],
    )


def narrow_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    return [MlpExpansion(n) for n in draw(st.sampled_from([[], ["+3"], ["+1", "x2"]]))]


def narrow(row: Family) -> Family:
    """The same where the width stays, and with it heads and their dim."""
    return replace(
        row,
        growths={axis: sizes for axis, sizes in row.growths.items() if "hidden" not in axis},
        together={"ffn": "x3"},
        draws=narrow_growths,
        copied=False,
    )


def plain(row: Family) -> Family:
    """The same without what multiplies the embeddings: copies could not undo it."""
    return replace(row, options=lambda draw: {**row.options(draw), "scale_embedding": False})


def longer(row: Family) -> Family:
    """The same with positions that count from behind the padding's number."""
    return replace(row, sizes={**row.sizes, "max_position_embeddings": PAD + POSITIONS + 1})


def t5(name: str, config: type[transformers.PreTrainedConfig], **said: Any) -> Family:
    """A row of one of T5's kin."""
    kinds = tuple(name.upper() + kind.removeprefix("T5") for kind in T5.classes)
    return replace(T5, name=name, config=config, classes=kinds, inputs=t5_texts, **said)


def t5_texts(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """T5's texts, for classes whose names end alike."""
    return texts("T5" + kind.removeprefix("U").removeprefix("MT5"), generator)


def umt5_options(draw: st.DrawFn) -> Json:
    """A head that is scaled, or not: its class ties it in any case."""
    return {**T5.options(draw), "tie_word_embeddings": draw(BOOLS)}


EVERY = "layer.0.SelfAttention.relative_attention_bias.weight"

ROWS = (
    t5("mt5", transformers.MT5Config),
    t5("umt5", transformers.UMT5Config, unread={EVERY: [4]}, options=umt5_options),
    narrow(bart("bart", transformers.BartConfig)),  # a LayerNorm before a tied head
    narrow(bart("mvp", transformers.MvpConfig)),
    narrow(bart("plbart", transformers.PLBartConfig)),
    plain(pre(bart("mbart", transformers.MBartConfig))),
    replace(pre(bart("blenderbot", transformers.BlenderbotConfig, unread=unread(0))), copied=False),
    narrow(bart("blenderbot-small", transformers.BlenderbotSmallConfig, unread={})),
    pre(narrow(bart("pegasus", transformers.PegasusConfig, unread={}))),
    narrow(bart("marian", transformers.MarianConfig, "MarianMTModel", unread={})),
    longer(pre(narrow(bart("m2m_100", transformers.M2M100Config, unread={})))),
)
