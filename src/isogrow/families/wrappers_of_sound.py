"""Wrappers that hear, or see and hear: a language model, and a tower for sound whose features a projector
puts among the embeddings."""

from __future__ import annotations

from typing import Any

from isogrow.families.wrapped_towers import Tower
from isogrow.families.wrapping import INNER, LINEAR, NORMED, OUT, TWO, WRITTEN, P, Wrapper, last, unnested
from isogrow.layouts.layout import Bias, Key, Weight

EARS = ("audio_tower", "multi_modal_projector")
FRAMES = (
    "several of its frames at once are as wide as ffn where the projector reads them: grow layers instead"
)


def ear(kind: str, **more: Any) -> tuple[Tower, ...]:
    """A tower for sound."""
    return (Tower("audio_tower", kind, "audio_config", stack="audio", **more),)


HEARING = (
    *(
        Wrapper(kind, "qwen2", EARS, TWO, INNER, towers=ear("audioflamingo3_encoder", named=True))
        for kind in ("audioflamingo3", "musicflamingo")
    ),
    Wrapper(
        "voxtral",
        "llama",
        EARS,
        TWO,
        INNER,
        towers=ear("voxtral_encoder", named=True, refusals={"ffn": FRAMES}),
    ),
    Wrapper(
        "qwen2_audio",
        "qwen2",
        EARS,
        LINEAR,
        towers=ear("qwen2_audio_encoder", named=True),
    ),
    Wrapper("glmasr", "llama", EARS, TWO, {"projector": "2 * hidden"}, tie=True),
    Wrapper(
        "omniasr",
        "llama",
        EARS,
        last("multi_modal_projector.weight", Bias()),
        towers=ear("omniasr_audio", named=True),
    ),
    Wrapper(
        "qwen3_asr",
        "qwen3",
        EARS,
        last(P + "linear_2.weight", Bias()),
        tie=True,
        keys=(Key("audio_config.output_dim", "hidden", 3584),),
    ),
    *(
        Wrapper(kind, "granite", ("encoder", "projector"), last("projector.linear.weight", Bias()), tie=True)
        for kind in ("granite_speech", "granite_speech_plus")
    ),
    *(
        Wrapper(kind, "qwen3", EARS, tie=True, refusals={"hidden": NORMED}, towers=towers)
        for kind, towers in (
            ("fun_asr_nano", ()),
            ("moss_transcribe_diarize", ear("moss_transcribe_diarize_audio")),
        )
    ),
)


SOUNDS = "hidden <- details"
OUTPUT = Key("audio_config.output_dim", "hidden", 3584)
OMNI = (
    Wrapper(
        "qwen2_5_omni_thinker",
        "qwen2_5_omni_text",
        ("audio_tower", "visual"),
        (
            *last("visual.merger.mlp.2.weight", Bias()),
            Weight("audio_tower.proj.weight", SOUNDS, "projector.sound", bias=Bias()),
            Weight("audio_tower.audio_bos_eos_token.weight", "ends -> hidden", "projector.ends", idle="True"),
        ),
        keys=(*OUT, OUTPUT),
        renames=unnested("language_model"),
    ),
    Wrapper(
        "qwen3_omni_moe_thinker",
        "qwen3_omni_moe_text",
        ("audio_tower", "visual"),
        (
            *last("visual.merger.mlp.2.weight", Bias()),
            Weight("visual.merger_list.{depths}.mlp.2.weight", WRITTEN, "projector.deep", bias=Bias()),
            Weight("audio_tower.proj2.weight", SOUNDS, "projector.sound", bias=Bias()),
        ),
        keys=(*OUT, OUTPUT),
        renames=unnested("language_model"),
        leading="depths",
    ),
)
