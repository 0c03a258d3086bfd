"""Models of speech: wav2vec 2.0 and its kin, Whisper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import transformers
from family import EPS, LABELS, LAYERS, PAD, VOCAB, Family, Json
from hypothesis import strategies as st
from torch import Tensor

from rows.bart_t5 import bart, bart_options, narrow, pre
from rows.stacks import END, texts

KIN = True

SAMPLES = 60


def sounds(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    return {"input_values": torch.randn(3, SAMPLES, generator=generator, dtype=torch.float64)}


def framed(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Sound with a dimension for its one channel."""
    return {"input_values": sounds(kind, generator)["input_values"][:, None]}


def speech_options(draw: st.DrawFn) -> Json:
    heads = draw(st.sampled_from([2, 4]))
    return dict(
        hidden_size=6 * heads,
        num_attention_heads=heads,
        num_hidden_layers=draw(LAYERS),
        layer_norm_eps=draw(EPS),
        feat_extract_norm=draw(st.sampled_from(["group", "layer"])),
    )


def behind_options(draw: st.DrawFn) -> Json:
    """Norms behind the branches, where no layer can be added."""
    return {**speech_options(draw), "do_stable_layer_norm": False}


def stable_options(draw: st.DrawFn) -> Json:
    return {**speech_options(draw), "do_stable_layer_norm": True}


def speech(name: str, config: type[transformers.PreTrainedConfig], stable: bool, **more: Any) -> Family:
    """A row of one of wav2vec 2.0's kin."""
    prefix = config.__name__.removesuffix("Config")
    kinds = ("ForCTC", "Model", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")
    layers = {"layers": {"layers": 5}} if stable else {}
    return Family(
        name,
        config,
        tuple(prefix + kind for kind in kinds if hasattr(transformers, prefix + kind)),
        dict(
            num_labels=LABELS,
            vocab_size=VOCAB,
            pad_token_id=PAD,
            hidden_size=30,
            intermediate_size=37,
            num_hidden_layers=3,
            num_attention_heads=5,
            layer_norm_eps=1e-2,
            conv_dim=[8, 7],
            conv_kernel=[4, 3],
            conv_stride=[2, 2],
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            classifier_proj_size=11,
            tdnn_dim=[9, 8],
            tdnn_kernel=[2, 2],
            tdnn_dilation=[1, 1],
            xvector_output_dim=6,
            do_stable_layer_norm=stable,
            **more,
        ),
        {"ffn": {"ffn": 51}, **layers},
        {"ffn": "x3", **({"layers": "+2"} if stable else {})},
        stable_options if stable else behind_options,
        lambda draw, anatomy: [],
        inputs=sounds,
    )


def without_choice(row: Family) -> Family:
    """The same where norms have one place."""

    def options(draw: st.DrawFn) -> Json:
        return {key: said for key, said in speech_options(draw).items() if key != "feat_extract_norm"}

    sizes = {key: said for key, said in row.sizes.items() if key != "do_stable_layer_norm"}
    return replace(row, sizes=sizes, options=options)


OMNIASR = speech("omniasr_audio", transformers.OmniASRAudioConfig, stable=True)
SAID = (
    "hidden_size intermediate_size num_hidden_layers num_attention_heads layer_norm_eps conv_dim conv_kernel"
    " conv_stride num_conv_pos_embeddings num_conv_pos_embedding_groups"
)


def before_options(draw: st.DrawFn) -> Json:
    """Of an encoder by itself, without heads, whose norms always stand before the branches."""
    return {key: said for key, said in speech_options(draw).items() if key in SAID.split()}


FRAMES = 11


def spoken(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Spectra of twice as many frames as the encoder has positions, and what a decoder makes of them."""
    given = texts("WhisperModel", generator)
    ids = given["decoder_input_ids"]
    features = torch.randn(len(ids), 7, 2 * FRAMES, generator=generator, dtype=torch.float64)
    if kind.endswith("ForAudioClassification"):
        return {"input_features": features}
    return {"input_features": features, "decoder_input_ids": ids}


def whisper_options(draw: st.DrawFn) -> Json:
    return {key: said for key, said in bart_options(draw).items() if key != "scale_embedding"}


WHISPER = pre(narrow(bart("whisper", transformers.WhisperConfig, unread={})))
WHISPER = replace(
    WHISPER,
    classes=("WhisperForConditionalGeneration", "WhisperModel", "WhisperForAudioClassification"),
    sizes={
        **{key: said for key, said in WHISPER.sizes.items() if key != "max_position_embeddings"},
        "bos_token_id": END,
        "begin_suppress_tokens": None,
        "max_source_positions": FRAMES,
        "max_target_positions": 11,
        "num_mel_bins": 7,
        "classifier_proj_size": 6,
    },
    options=whisper_options,
    inputs=spoken,
)


def heard(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Spectra with a mask, and what a decoder makes of them."""
    ids = texts("WhisperModel", generator)["decoder_input_ids"]
    features = torch.randn(len(ids), 4 * FRAMES, 7, generator=generator, dtype=torch.float64)
    mask = torch.ones(features.shape[:2], dtype=torch.long)
    mask[0, -9:] = 0
    return {"input_features": features, "attention_mask": mask, "decoder_input_ids": ids}


SPEECH_TO_TEXT = replace(
    narrow(pre(bart("speech_to_text", transformers.Speech2TextConfig, unread={}))),
    classes=("Speech2TextForConditionalGeneration", "Speech2TextModel"),
    sizes={
        **{key: said for key, said in WHISPER.sizes.items() if key not in ("num_mel_bins", "bos_token_id")},
        "max_source_positions": 4 * FRAMES,
        "max_target_positions": 4 * FRAMES,  # the padding token's number is a row of its table of sines
        "num_conv_layers": 2,
        "conv_kernel_sizes": [3, 5],
        "conv_channels": 6,
        "input_feat_per_channel": 7,
    },
    inputs=heard,
)

ROWS = (
    speech("wav2vec2", transformers.Wav2Vec2Config, stable=True),
    speech("hubert", transformers.HubertConfig, stable=False),
    speech("unispeech", transformers.UniSpeechConfig, stable=True),
    speech("unispeech-sat", transformers.UniSpeechSatConfig, stable=True),
    speech("wavlm", transformers.WavLMConfig, stable=True, num_buckets=8),
    without_choice(speech("data2vec-audio", transformers.Data2VecAudioConfig, stable=False)),
    without_choice(speech("sew", transformers.SEWConfig, stable=False)),
    replace(
        OMNIASR,
        classes=("OmniASRAudioModel",),
        sizes={key: OMNIASR.sizes[key] for key in SAID.split()},
        options=before_options,
        inputs=framed,
    ),
    WHISPER,
    SPEECH_TO_TEXT,
)
