"""Whisper's encoder by itself, as larger models hear with it."""

from __future__ import annotations

from isogrow.families.edits import like
from isogrow.families.towers import alone
from isogrow.families.whisper import BENT, CONVOLUTIONS, WHISPER
from isogrow.layouts.layout import Key, Stream

BARE = tuple(name.removeprefix("encoder.") for name in CONVOLUTIONS)


def _keys(hidden: str, layers: str, ffn: str, heads: str) -> tuple[Key, ...]:
    """The keys of a config, by their names in it."""
    return (
        Key(hidden, "hidden", 1280, alias="d_model" if hidden == "hidden_size" else ""),
        Key(layers, "layers", 32, alias="num_hidden_layers" if layers == "encoder_layers" else ""),
        Key(ffn, "ffn", 5120, alias="encoder_ffn_dim" if ffn == "intermediate_size" else ""),
        Key(heads, "heads", 20, alias="num_attention_heads" if heads == "encoder_attention_heads" else ""),
        Key("max_source_positions", default=1500),
    )


QWEN2_AUDIO = alone(
    WHISPER,
    "encoder",
    "qwen2_audio_encoder",
    named="encoder.",
    keys=_keys("d_model", "encoder_layers", "encoder_ffn_dim", "encoder_attention_heads"),
    prefixes=("",),
    streams=(Stream(tie="", longest=""),),
    carried=BARE,
    foreign={},
    refusals={"hidden": BENT},
)
VOXTRAL = like(
    QWEN2_AUDIO,
    "voxtral_encoder",
    keys=_keys("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads"),
    axes={
        **QWEN2_AUDIO.axes,
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
)

LAYOUTS = (
    QWEN2_AUDIO,
    VOXTRAL,
    like(VOXTRAL, "audioflamingo3_encoder"),
    like(
        VOXTRAL,
        "moss_transcribe_diarize_audio",
        defaults=dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16),
    ),
)
