"""RoBERTa and its like; ERNIE, Megatron-BERT, DistilBERT, ELECTRA, MPNet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
import transformers
from family import BOOLS, CHOICES, PAD, POSITIONS, VOCAB, Family, Json, Requests, Steps
from family import ROWS as TEXTS
from hypothesis import strategies as st
from torch import Tensor

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadsExpansion, HiddenExpansion, Size
from rows.bert import BERT, bert_options

KIN = True

TASKS = ("MaskedLM", "SequenceClassification", "MultipleChoice", "TokenClassification", "QuestionAnswering")


def texts(typed: bool, first: int = 0) -> Callable[[str, torch.Generator], dict[str, Tensor]]:
    """Texts, some of them padded, of tokens from `first` on; `typed` where tokens have types."""

    def inputs(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
        ids = torch.randperm(TEXTS * POSITIONS, generator=generator).reshape(TEXTS, POSITIONS)
        ids = first + ids % (PAD - first)
        mask = torch.ones_like(ids)
        mask[0, -3:] = 0
        given = {"input_ids": ids, "attention_mask": mask}
        if typed:
            given["token_type_ids"] = torch.randint(2, ids.shape, generator=generator)
        if kind.endswith("MultipleChoice"):
            given = {name: value.reshape(-1, CHOICES, POSITIONS) for name, value in given.items()}
        return given

    return inputs


def encoder(
    name: str,
    config: type[transformers.PreTrainedConfig],
    typed: bool = True,
    more: Iterable[str] = (),
    **sizes: Any,
) -> Family:
    """A row of an encoder with BERT's keys."""
    prefix = config.__name__.removesuffix("Config")
    kinds = [f"{prefix}ForMaskedLM", f"{prefix}Model", *(f"{prefix}For{task}" for task in TASKS[1:]), *more]
    return replace(
        BERT,
        name=name,
        config=config,
        classes=tuple(kind for kind in kinds if hasattr(transformers, kind)),
        sizes={**BERT.sizes, **sizes},
        inputs=texts(typed),
    )


BEHIND = POSITIONS + PAD + 1  # positions count from behind the padding's number


def behind(name: str, config: type[transformers.PreTrainedConfig], **said: Any) -> Family:
    """The same where positions count from behind the padding's number."""
    row = encoder(name, config, max_position_embeddings=BEHIND, **said)
    return replace(row, unread={"position_embeddings.weight": range(PAD + 1)})


LAYERED: Requests = {**BERT.growths, "layers": {"layers": 5}}


def layered(row: Family) -> Family:
    """The same where norms stand before each branch, so that layers can be added."""
    return replace(row, growths=LAYERED, together={**BERT.together, "layers": "+2"})


def untied_options(draw: st.DrawFn) -> Json:
    """Without a tied head, before which an activation stands: hidden could not grow beside it."""
    return {**bert_options(draw), "tie_word_embeddings": False}


def filled(row: Family) -> Family:
    """The same where no norm stands on the embeddings, so that hidden grows by means."""
    return replace(
        layered(row),
        sizes={**row.sizes, "tie_word_embeddings": False},
        options=untied_options,
        copied=False,
    )


def distil_options(draw: st.DrawFn) -> Json:
    found = bert_options(draw)
    heads, layers = found["num_attention_heads"], found["num_hidden_layers"]
    return dict(
        dim=found["hidden_size"],
        n_heads=heads,
        n_layers=layers,
        tie_word_embeddings=found["tie_word_embeddings"],
    )


DISTILBERT = replace(
    encoder("distilbert", transformers.DistilBertConfig, typed=False),
    sizes=dict(
        num_labels=BERT.sizes["num_labels"],
        pad_token_id=PAD,
        vocab_size=VOCAB,
        dim=30,
        hidden_dim=37,
        n_layers=3,
        n_heads=5,
        max_position_embeddings=POSITIONS,
    ),
    options=distil_options,
)


def electra_options(draw: st.DrawFn) -> Json:
    found = bert_options(draw)
    return {**found, "embedding_size": draw(st.sampled_from([11, found["hidden_size"]]))}


ELECTRA = replace(
    encoder("electra", transformers.ElectraConfig, more=("ElectraForPreTraining",), embedding_size=11),
    options=electra_options,
)
MPNET = replace(
    # The class has 32 buckets in its code, whatever relative_attention_num_buckets says.
    behind("mpnet", transformers.MPNetConfig, typed=False),
    inputs=texts(False, first=2),
)
MPNET = replace(
    MPNET,
    sizes={**MPNET.sizes, "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1},
    unread={
        **dict.fromkeys(("position_embeddings.weight", "word_embeddings.weight"), [0, 1]),
        "decoder.weight": [0, 1, PAD],
        "relative_attention_bias.weight": [*range(10, 17), *range(26, 32)],  # for tokens further apart
    },
)


def ernie_options(draw: st.DrawFn) -> Json:
    return {**bert_options(draw), "use_task_id": draw(BOOLS)}


def esm_options(draw: st.DrawFn) -> Json:
    """Rotary positions want an even head dim."""
    found, rotary = untied_options(draw), draw(BOOLS)
    return {
        **found,
        "hidden_size": found["hidden_size"] * (1 + rotary),
        "emb_layer_norm_before": draw(BOOLS),
        "token_dropout": draw(BOOLS),
        "position_embedding_type": "rotary" if rotary else "absolute",
    }


def unpadded(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts of one length: this class takes the embedding away where a text is padded."""
    given = texts(False)(kind, generator)
    return {**given, "attention_mask": torch.ones_like(given["attention_mask"])}


def esm_draws(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Its head dim where positions are learned; by copies, which a norm on the embeddings asks for."""
    if anatomy.config.get("position_embedding_type") == "rotary":
        return []
    size = draw(st.sampled_from(["x2", "x3"]))
    return [HiddenExpansion(size), AttentionExpansion(size), HeadsExpansion(size)]


DEEPER: dict[str, Size] = {"hidden": "x2", "head_dim": "x2"}
ESM = replace(
    filled(behind("esm", transformers.EsmConfig, mask_token_id=PAD, emb_layer_norm_before=True)),
    inputs=unpadded,
    options=esm_options,
    draws=esm_draws,
    said={"vocab_size": VOCAB},
    absent=frozenset({"emb_layer_norm_before", "vocab_size"}),
    growths={"ffn": {"ffn": 92}, "layers": {"layers": 5}, "hidden and head_dim": DEEPER},
    together={**DEEPER, "ffn": "x3", "layers": "+2"},
    copied=True,
)

ROWS = (
    ESM,
    behind("roberta", transformers.RobertaConfig),
    behind("xlm-roberta", transformers.XLMRobertaConfig),
    behind("camembert", transformers.CamembertConfig),
    behind("data2vec-text", transformers.Data2VecTextConfig),
    layered(behind("roberta-prelayernorm", transformers.RobertaPreLayerNormConfig)),
    filled(behind("xlm-roberta-xl", transformers.XLMRobertaXLConfig, type_vocab_size=2)),
    replace(
        encoder(
            "ernie",
            transformers.ErnieConfig,
            more=("ErnieForPreTraining", "ErnieForNextSentencePrediction"),
        ),
        options=ernie_options,
    ),
    filled(
        encoder(
            "megatron-bert",
            transformers.MegatronBertConfig,
            more=("MegatronBertForPreTraining", "MegatronBertForNextSentencePrediction"),
        )
    ),
    DISTILBERT,
    ELECTRA,
    MPNET,
)
