"""Moonshine: sound as it is, and what a decoder makes of it."""

from __future__ import annotations

import torch
import transformers
from family import BOOLS, LABELS, LAYERS, PAD, VOCAB, Family, Json
from hypothesis import strategies as st
from torch import Tensor

from rows.stacks import END, texts

KIN = True

SAMPLES = 2431  # five places behind the convolutions


def sounds(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    ids = texts("WhisperModel", generator)["decoder_input_ids"]
    values = torch.randn(len(ids), SAMPLES, generator=generator, dtype=torch.float64)
    return {"input_values": values, "decoder_input_ids": ids}


def options(draw: st.DrawFn) -> Json:
    """Heads are as many in both stacks: transformers 5.23 makes the decoder's as many as the encoder's."""
    heads = draw(st.sampled_from([1, 3, 5]))
    return dict(
        hidden_size=10 * heads,
        encoder_num_attention_heads=heads,
        decoder_num_attention_heads=heads,
        encoder_num_key_value_heads=None,
        decoder_num_key_value_heads=None,
        encoder_num_hidden_layers=draw(LAYERS),
        decoder_num_hidden_layers=draw(LAYERS),
        attention_bias=draw(BOOLS),
        tie_word_embeddings=draw(BOOLS),
    )


ROWS = (
    Family(
        "moonshine",
        transformers.MoonshineConfig,
        ("MoonshineForConditionalGeneration", "MoonshineModel"),
        dict(
            num_labels=LABELS,
            vocab_size=VOCAB,
            pad_token_id=PAD,
            bos_token_id=END,
            eos_token_id=END,
            decoder_start_token_id=END,
            hidden_size=30,
            intermediate_size=37,
            encoder_num_hidden_layers=4,
            decoder_num_hidden_layers=3,
            encoder_num_attention_heads=5,
            decoder_num_attention_heads=5,
            max_position_embeddings=20,
        ),
        {
            "ffn": {"ffn": 51},
            "layers": {"layers": "+2"},
            "encoder.layers": {"encoder.layers": 7},
        },
        dict(ffn="x3", layers="+2"),
        options,
        lambda draw, anatomy: [],
        inputs=sounds,
        dated=False,
    ),
)
