"""ModernBERT, and ImageGPT, which is GPT-2's kin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import transformers
from family import BOOLS, COMMON, EPS, PAD, POSITIONS, VOCAB, Family, Json, Requests, rope_options
from hypothesis import strategies as st
from torch import Tensor

from isogrow.plans.expansions import Size
from rows.bert import bert_growths
from rows.bert_and_roberta import texts
from rows.gpt2 import GPT2, gpt2_options

KIN = True

KINDS = ("full_attention", "sliding_attention")


def modern_options(draw: st.DrawFn) -> Json:
    heads, layers = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([2, 3]))
    keys = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias", "tie_word_embeddings")
    return dict(
        hidden_size=8 * heads,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        norm_eps=draw(EPS),
        rope_parameters={kind: rope_options(draw, 4, ("default", "linear")) for kind in KINDS},
        local_attention=draw(st.sampled_from([4, 50])),
        layer_types=draw(st.lists(st.sampled_from(KINDS), min_size=layers, max_size=layers)),
        **{key: draw(BOOLS) for key in keys},
    )


GROWTHS: Requests = {
    "hidden and heads": {"hidden": 80, "heads": 10},
    "hidden and head_dim": {"hidden": 80, "head_dim": 16},
    "ffn": {"ffn": 51},
    "layers": {"layers": 5},
}
TOGETHER: Mapping[str, Size] = dict(hidden=120, heads=15, ffn="x3", layers="+2")


def modern(name: str, config: type[transformers.PreTrainedConfig], *kinds: str) -> Family:
    return Family(
        name,
        config,
        kinds,
        dict(
            {**COMMON, "bos_token_id": 0, "eos_token_id": 1, "cls_token_id": 0, "sep_token_id": 1},
            vocab_size=VOCAB,
            hidden_size=40,
            intermediate_size=37,
            num_hidden_layers=3,
            num_attention_heads=5,
            max_position_embeddings=POSITIONS,
            norm_eps=1e-2,
            norm_bias=True,
            attention_bias=True,
            mlp_bias=True,
            classifier_bias=True,
            local_attention=4,
        ),
        GROWTHS,
        TOGETHER,
        modern_options,
        bert_growths,
        absent=frozenset({"global_attn_every_n_layers"}),
        inputs=texts(False),
        copied=True,
        dated=False,
        places=("end",),  # the first layer has one norm less
    )


COLOURS = VOCAB - 1


def pixels(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    ids = torch.randperm(4 * POSITIONS, generator=generator).reshape(4, POSITIONS) % COLOURS
    return {"input_ids": ids}


def image_options(draw: st.DrawFn) -> Json:
    """A head of its own, which is narrower than the embeddings."""
    return {**gpt2_options(draw), "tie_word_embeddings": False}


ROWS = (
    modern(
        "modernbert",
        transformers.ModernBertConfig,
        "ModernBertForMaskedLM",
        "ModernBertModel",
        "ModernBertForSequenceClassification",
        "ModernBertForTokenClassification",
    ),
    replace(
        modern(
            "modernbert-decoder",
            transformers.ModernBertDecoderConfig,
            "ModernBertDecoderForCausalLM",
            "ModernBertDecoderModel",
        ),
        unread={"tok_embeddings.weight": [PAD]},  # a padding id's row has gradient from the head alone
    ),
    replace(
        GPT2,
        name="imagegpt",
        config=transformers.ImageGPTConfig,
        classes=("ImageGPTForCausalImageModeling", "ImageGPTModel", "ImageGPTForImageClassification"),
        sizes={key: said for key, said in GPT2.sizes.items() if not key.endswith("_token_id")},
        options=image_options,
        inputs=pixels,
        unread={"wte.weight": [COLOURS]},
    ),
)
