"""Whisper's encoder by itself."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from family import LAYERS, Family, Json, Requests
from hypothesis import strategies as st
from torch import Tensor

KIN = True

BINS, SOURCES = 5, 6
GROWTHS: Requests = {"ffn": {"ffn": 51}, "layers": {"layers": 5}}


def spectra(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    shape = (3, BINS, 2 * SOURCES)
    return {"input_features": torch.randn(shape, generator=generator, dtype=torch.float64)}


def packed(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """The same, and which of it is heard."""
    return {**spectra(kind, generator), "input_features_mask": torch.ones(3, 2 * SOURCES, dtype=torch.long)}


def row(name: str, config: Any, kind: str, old: bool = False, inputs: Any = spectra) -> Family:
    """A row of one class; `old`: its config calls the sizes as Whisper's does."""
    names = ("d_model", "encoder_ffn_dim", "encoder_layers", "encoder_attention_heads")
    named = names if old else ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    sizes = dict(zip(named, (30, 37, 3, 5), strict=True))

    def options(draw: st.DrawFn) -> Json:
        heads = draw(st.sampled_from([1, 3, 5]))
        return dict(zip(named, (heads * draw(st.sampled_from([4, 8])), 37, draw(LAYERS), heads), strict=True))

    return Family(
        name,
        config,
        (kind,),
        {**sizes, "num_mel_bins": BINS, "max_source_positions": SOURCES},
        GROWTHS,
        dict(ffn="x3", layers="+2"),
        options,
        lambda draw, anatomy: [],
        inputs=inputs,
    )


ROWS = (
    row("qwen2_audio_encoder", transformers.Qwen2AudioEncoderConfig, "Qwen2AudioEncoder", old=True),
    row("voxtral_encoder", transformers.VoxtralEncoderConfig, "VoxtralEncoder"),
    row(
        "audioflamingo3_encoder",
        transformers.AudioFlamingo3EncoderConfig,
        "AudioFlamingo3Encoder",
        inputs=packed,
    ),
    row(
        "moss_transcribe_diarize_audio",
        transformers.MossTranscribeDiarizeAudioConfig,
        "MossTranscribeDiarizeAudioModel",
    ),
)
