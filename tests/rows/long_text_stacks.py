"""Encoders and decoders whose encoder reads parts of long texts, or whose decoder reads several tokens ahead:
BART's kin and T5's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import transformers
from family import BOOLS, LAYERS, PAD, POSITIONS, Json
from hypothesis import strategies as st
from torch import Tensor

from rows.bart_t5 import SIZES, bart, bart_options, narrow, pre, t5
from rows.stacks import END, T5, t5_options, texts

KIN = True


def far(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts of which two tokens are read by all others."""
    given = texts(kind, generator)
    chosen = torch.zeros_like(given["input_ids"])
    chosen[..., [0, 2]] = 1
    return {**given, "global_attention_mask": chosen}


def led_options(draw: st.DrawFn) -> Json:
    found = {key: said for key, said in bart_options(draw).items() if key != "scale_embedding"}
    return {**found, "attention_window": draw(st.sampled_from([4, 8]))}


LED = narrow(bart("led", transformers.LEDConfig, unread={}))
LED = replace(
    LED,
    sizes={
        **{key: said for key, said in SIZES.items() if key != "max_position_embeddings"},
        # The class pads texts to whole windows, with positions for them.
        "max_encoder_position_embeddings": 16,
        "max_decoder_position_embeddings": POSITIONS,
        "attention_window": 4,
    },
    options=led_options,
    inputs=far,
)

# A decoder's texts are shorter by two.
LAST = {"decoder.embed_positions.weight": [POSITIONS - 2, POSITIONS - 1]}


def pegasus_options(draw: st.DrawFn) -> Json:
    found = {**bart_options(draw), "use_bias": draw(BOOLS)}
    return {**found, "attention_type": "original_full"}


BIGBIRD = replace(
    pre(bart("bigbird_pegasus", transformers.BigBirdPegasusConfig, unread=LAST)),
    copied=False,
    options=pegasus_options,
)
BIGBIRD = replace(BIGBIRD, sizes={**BIGBIRD.sizes, "attention_type": "original_full"})


def long_options(draw: st.DrawFn) -> Json:
    return {**t5_options(draw), "local_radius": draw(st.sampled_from([3, 20]))}


LONGT5 = t5("longt5", transformers.LongT5Config)
LONGT5 = replace(
    LONGT5,
    classes=("LongT5ForConditionalGeneration", "LongT5Model", "LongT5EncoderModel"),
    sizes={**T5.sizes, "local_radius": 3},
    options=long_options,
    unread={"LocalSelfAttention.relative_attention_bias.weight": [4]},
)


def ahead_options(draw: st.DrawFn) -> Json:
    """The class's cache has as many layers as the encoder (transformers 5.23)."""
    found, layers = bart_options(draw), draw(LAYERS)
    return dict(
        hidden_size=found["d_model"],
        num_encoder_attention_heads=found["encoder_attention_heads"],
        num_decoder_attention_heads=found["decoder_attention_heads"],
        num_encoder_layers=layers,
        num_decoder_layers=draw(st.integers(1, layers)),
        ngram=draw(st.sampled_from([1, 2])),
    )


PROPHET = narrow(bart("prophetnet", transformers.ProphetNetConfig, unread={}))
PROPHET = replace(
    PROPHET,
    classes=("ProphetNetForConditionalGeneration", "ProphetNetModel"),
    sizes=dict(
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
        vocab_size=SIZES["vocab_size"],
        hidden_size=30,
        num_encoder_layers=4,
        num_decoder_layers=3,
        encoder_ffn_dim=37,
        decoder_ffn_dim=41,
        num_encoder_attention_heads=5,
        num_decoder_attention_heads=3,
        num_buckets=8,
        relative_max_distance=12,
        max_position_embeddings=PAD + POSITIONS + 2,
    ),
    options=ahead_options,
)


def worded(**sizes: Any) -> Json:
    found = {key: said for key, said in SIZES.items() if key != "vocab_size"}
    return {**found, **sizes}


FSMT = narrow(bart("fsmt", transformers.FSMTConfig, unread={}))
FSMT = replace(
    FSMT,
    classes=("FSMTForConditionalGeneration", "FSMTModel"),
    sizes=worded(src_vocab_size=47, tgt_vocab_size=43),
)

ROWS = (LED, BIGBIRD, LONGT5, PROPHET, FSMT)
