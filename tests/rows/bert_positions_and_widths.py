"""BERT with other positions (BigBird, Longformer, LayoutLM, RoFormer, Nomic, GTE, Jina), or with other widths
around it (RemBERT, BertGeneration)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import transformers
from family import BOOLS, PAD, Family, Json, rope_options
from hypothesis import strategies as st
from torch import Tensor

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
)
from rows.bert import BERT, bert_options
from rows.bert_and_roberta import BEHIND, encoder, texts

KIN = True

PLACES = 9


def boxes(kind: str, generator: torch.Generator) -> Mapping[str, Tensor]:
    """Texts, each token in a box on a page."""
    given = texts(True)(kind, generator)
    numbers = torch.arange(given["input_ids"].numel()).reshape(given["input_ids"].shape)
    low, high = numbers % 5, numbers % 5 + numbers // 5 % 5
    return {**given, "bbox": torch.stack([low, low, high, high], -1)}


def far(kind: str, generator: torch.Generator) -> Mapping[str, Tensor]:
    """Texts of which two tokens are read by all others."""
    given = texts(True)(kind, generator)
    chosen = torch.zeros_like(given["input_ids"])
    chosen[..., [0, 2]] = 1
    return {**given, "global_attention_mask": chosen}


def heads_alone(draw: st.DrawFn, anatomy: Anatomy) -> list[Expansion]:
    """Hidden is multiplied, and heads with it."""
    sizes = draw(st.sampled_from([[], ["x2"], ["x3"], ["x2", "x2"]]))
    return [step for size in sizes for step in (HiddenExpansion(size), HeadAddition(size))]


def plain(draw: st.DrawFn) -> Json:
    return {key: said for key, said in bert_options(draw).items() if key != "is_decoder"}


def far_options(draw: st.DrawFn) -> Json:
    return {**plain(draw), "attention_window": draw(st.sampled_from([4, 8]))}


def untied(draw: st.DrawFn) -> Json:
    """A tied head would read all copies of the residual."""
    return {**bert_options(draw), "is_decoder": True, "tie_word_embeddings": False}


def narrow(draw: st.DrawFn) -> Json:
    return {**bert_options(draw), "tie_word_embeddings": False}


def sparse(draw: st.DrawFn) -> Json:
    return {
        **bert_options(draw),
        "use_bias": draw(BOOLS),
        "attention_type": "original_full",
    }


BIG_BIRD = replace(
    encoder(
        "big_bird",
        transformers.BigBirdConfig,
        more=("BigBirdForPreTraining", "BigBirdForCausalLM"),
        attention_type="original_full",
    ),
    options=sparse,
)
BIG_BIRD = replace(
    BIG_BIRD,
    # First what reads the pooler: the class for masked tokens has one, too, and does not.
    classes=(
        "BigBirdForPreTraining",
        *(k for k in BIG_BIRD.classes if not k.endswith(("Answering", "Training"))),
    ),
)
LONG_CLASSES = tuple(
    f"Longformer{kind}"
    for kind in ("ForMaskedLM", "Model", "ForSequenceClassification", "ForTokenClassification")
)
LAYOUTLM = encoder("layoutlm", transformers.LayoutLMConfig, max_2d_position_embeddings=PLACES)
ROFORMER = encoder("roformer", transformers.RoFormerConfig, hidden_size=40)
ROFORMER = replace(
    ROFORMER,
    classes=tuple(kind for kind in ROFORMER.classes if "MultipleChoice" not in kind),
    growths={"hidden and heads": {"hidden": 80, "heads": 10}, "ffn": {"ffn": 51}},
    together=dict(hidden=120, heads=15, ffn="x3"),
    draws=heads_alone,
    absent=frozenset(),
)


def even(draw: st.DrawFn) -> Json:
    """Heads whose channels pair."""
    heads = draw(st.sampled_from([1, 3, 5]))
    return {
        **bert_options(draw),
        "hidden_size": 8 * heads,
        "num_attention_heads": heads,
        "rotary_value": draw(BOOLS),
    }


def turning(draw: st.DrawFn) -> Json:
    """The options of those whose positions are rotary."""
    heads = draw(st.sampled_from([1, 3, 5]))
    found = {**plain(draw), "hidden_size": 8 * heads, "num_attention_heads": heads}
    return {**found, "rope_parameters": rope_options(draw, 4)}


def apart(draw: st.DrawFn) -> Json:
    return {**turning(draw), "hidden_size": 15, "head_dim": 8, "tie_word_embeddings": draw(BOOLS)}


def free(draw: st.DrawFn, anatomy: Anatomy) -> list[Expansion]:
    """Hidden by copies, heads and their dim by any numbers."""
    sizes = st.sampled_from([[], ["x2"], ["+2", "+2"]])
    found: list[Expansion] = [HiddenExpansion(size) for size in draw(st.sampled_from([[], ["x2"], ["x3"]]))]
    found += [HeadAddition(size) for size in draw(sizes)]
    dims = draw(sizes)
    return [*found, *map(AttentionExpansion, dims), *map(HeadsExpansion, dims)]


def turned(name: str, config: type[transformers.PreTrainedConfig], **sizes: int) -> Family:
    row = encoder(name, config, type_vocab_size=2, **{"hidden_size": 40, **sizes})
    return replace(
        row,
        classes=row.classes[:2],
        growths={
            "hidden and heads": {"hidden": 80, "heads": 10},
            "hidden and head_dim": {"hidden": 80, "head_dim": 16},
            "ffn": {"ffn": 51},
        },
        together=dict(hidden=120, heads=15, ffn="x3"),
        options=turning,
    )


ROWS = (
    BIG_BIRD,
    replace(ROFORMER, options=even),
    replace(
        encoder(
            "rembert",
            transformers.RemBertConfig,
            more=("RemBertForCausalLM",),
            input_embedding_size=11,
            output_embedding_size=13,
        ),
        options=narrow,
    ),
    replace(
        LAYOUTLM,
        classes=(LAYOUTLM.classes[1], LAYOUTLM.classes[0], *LAYOUTLM.classes[2:]),
        options=plain,
        inputs=boxes,
        unread={f"{side}_position_embeddings.weight": range(5, PLACES) for side in "hw"},
    ),
    replace(
        encoder(
            "longformer", transformers.LongformerConfig, max_position_embeddings=BEHIND, attention_window=4
        ),
        options=far_options,
        classes=LONG_CLASSES,
        inputs=far,
        unread={"position_embeddings.weight": range(PAD + 1)},
    ),
    replace(
        encoder("bert-generation", transformers.BertGenerationConfig, typed=False),
        classes=("BertGenerationDecoder", "BertGenerationEncoder"),
        sizes={**BERT.sizes, "is_decoder": True, "tie_word_embeddings": False},
        options=untied,
    ),
    replace(
        turned("nomic_bert", transformers.NomicBertConfig, hidden_size=30, head_dim=8),
        growths={
            "hidden": {"hidden": 60},
            "heads": {"heads": 7},
            "head_dim": {"head_dim": 10},
            "ffn": {"ffn": 51},
        },
        together=dict(hidden=90, heads=7, head_dim=12, ffn="x3"),
        options=apart,
        draws=free,
        absent=frozenset(),
    ),
    turned("gte", transformers.GteConfig),
    turned("jina_embeddings_v3", transformers.JinaEmbeddingsV3Config),
)
