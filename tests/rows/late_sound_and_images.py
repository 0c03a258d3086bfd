"""Newer encoders of sound by themselves, and towers of images with tensors for queries, keys and values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import transformers
from family import Family, Json
from hypothesis import strategies as st
from torch import Tensor

from rows.image_towers import narrow
from rows.whisper_encoders import BINS, row, spectra

KIN = True

CHANNELS, PATCH, FRAMES = 3, 2, 2


def frames(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    return {"input_features": torch.randn((3, 9, BINS), generator=generator, dtype=torch.float64)}


def heard(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Two windows of sound, and which of it is heard."""
    mask = torch.ones(2, 100, dtype=torch.long)
    mask[1, 60:] = 0
    sound = torch.randn((2, BINS, 100), generator=generator, dtype=torch.float64)
    return {"input_features": sound, "input_features_mask": mask}


def stacked(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Two images as patches of two frames each, one behind the other."""
    pixels = torch.randn(32, FRAMES * CHANNELS * PATCH**2, generator=generator, dtype=torch.float64)
    return {"pixel_values": pixels, "grid_thw": torch.tensor([[1, 4, 4], [1, 2, 8]])}


def single(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """The same as images of one patch."""
    pixels = torch.randn(32, CHANNELS, PATCH, PATCH, generator=generator, dtype=torch.float64)
    return {**stacked(kind, generator), "pixel_values": pixels}


def without(family: Family, *keys: str, **more: Any) -> Family:
    """A row whose class lacks these keys, and has others."""
    return replace(family, sizes={k: v for k, v in {**family.sizes, **more}.items() if k not in keys})


def sound(name: str, config: Any, kind: str, inputs: Any = frames, **more: Any) -> Family:
    """A row of an encoder with rotary positions."""
    made = without(row(name, config, kind, inputs=inputs), "max_source_positions", hidden_size=40, **more)

    def options(draw: st.DrawFn) -> Json:
        found = made.options(draw)
        return {**found, "num_key_value_heads": None}

    return replace(made, options=options)


ROWS = (
    sound("glmasr_encoder", transformers.GlmAsrEncoderConfig, "GlmAsrEncoder", inputs=spectra),
    sound(
        "nemotron3_diarization_audio",
        transformers.Nemotron3DiarizationAudioConfig,
        "Nemotron3DiarizationAudioModel",
        subsampling_factor=2,
    ),
    sound(
        "nemotron3_5_transcribe_asr_audio",
        transformers.Nemotron3_5TranscribeAsrAudioConfig,
        "Nemotron3_5TranscribeAsrAudioModel",
        subsampling_factor=2,
    ),
    without(
        row(
            "qwen3_asr_encoder",
            transformers.Qwen3ASREncoderConfig,
            "Qwen3ASREncoder",
            old=True,
            inputs=heard,
        ),
        "max_source_positions",
        downsample_hidden_size=7,
    ),
    narrow(
        "data2vec-vision",
        transformers.Data2VecVisionConfig,
        "Data2VecVisionModel",
        "Data2VecVisionForImageClassification",
        use_relative_position_bias=True,
        use_absolute_position_embeddings=True,
        use_mask_token=True,
    ),
    *(
        narrow(
            name,
            config,
            kind,
            inputs=stacked,
            pos_emb_height=4,
            pos_emb_width=4,
            lacks=("image_size", "num_channels", "qkv_bias"),
        )
        for name, config, kind in (
            ("muse_glimmer_vision", transformers.MuseGlimmerVisionConfig, "MuseGlimmerVisionModel"),
            ("muse_spark_vision", transformers.MuseSparkVisionConfig, "MuseSparkVisionModel"),
        )
    ),
    narrow(
        "kimi_k25_vision",
        transformers.Kimi_K25VisionConfig,
        "Kimi_K25VisionModel",
        inputs=single,
        pos_emb_height=4,
        pos_emb_width=4,
        lacks=("image_size", "num_channels", "layer_norm_eps", "qkv_bias"),
    ),
)
