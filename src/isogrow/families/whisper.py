"""Whisper: BART's stacks with norms before each branch, keys without a bias, and an encoder that reads speech
through two convolutions. Speech2Text has sines for positions, and convolutions that gate each other."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.bart import BART, TIMES, branches, norm
from isogrow.families.edits import like
from isogrow.families.heads import BIAS, head
from isogrow.families.speech import LAYERS
from isogrow.layouts.layout import Key, Stream, Weight

CONVOLUTIONS = ("encoder.conv1.", "encoder.conv2.")
BENT = (
    "what its convolutions give goes through a GELU before it joins the residual, so that no new channel of"
    " it is the mean of the old ones: grow ffn or layers instead"
)
DECODES = "decoder.final_norm"  # a model without it classifies what the encoder gives


def _unbiased(row: Weight) -> Weight:
    return replace(row, bias=None) if row.slot.endswith(".k") else row


def _decoding(row: Weight) -> Weight:
    return replace(row, needs=DECODES)


DECODER = (
    Weight("decoder.embed_tokens.weight", "vocab -> hidden", "embed", stream="decoder"),
    Weight("decoder.embed_positions.weight", "targets -> hidden", "decoder.positions", stream="decoder"),
    *map(_unbiased, branches("decoder", "pre")),
    norm("decoder.layer_norm", "decoder.final_norm", "pre", "decoder"),
    head("proj_out.weight", "vocab <- hidden", "head", tied="embed", stream="decoder"),
)

WHISPER = like(
    BART,
    "whisper",
    weights=(
        # Sines, which files hold and nobody trains.
        Weight(
            "encoder.embed_positions.weight",
            "sources -> hidden",
            "encoder.positions",
            idle="True",
            stream="encoder",
        ),
        *map(_unbiased, branches("encoder", "pre")),
        norm("encoder.layer_norm", "encoder.final_norm", "pre", "encoder"),
        *map(_decoding, DECODER),
        head("projector.weight", "projected <- hidden", "project", bias=BIAS, stream="encoder"),
        head("classifier.weight", "labels <- projected", "classifier", bias=BIAS, stream="encoder"),
    ),
    axes={
        **{axis: said for axis, said in BART.axes.items() if axis not in ("positions", "rows", "pooled")},
        "sources": "max_source_positions",
        "targets": "max_target_positions",
        "projected": "classifier_proj_size",
    },
    keys=(
        Key("vocab_size", default=51865),
        Key("max_source_positions", default=1500),
        Key("d_model", "hidden", 384, alias="hidden_size"),
        Key("max_target_positions", default=448),
        Key("classifier_proj_size", default=256),
        Key("encoder_layers", "encoder_layers", 4, alias="num_hidden_layers"),
        Key("encoder_ffn_dim", "encoder_ffn", 1536),
        Key("encoder_attention_heads", "encoder_heads", 6, alias="num_attention_heads"),
        Key("decoder_layers", "decoder_layers", 4),
        Key("decoder_ffn_dim", "decoder_ffn", 1536),
        Key("decoder_attention_heads", "decoder_heads", 6),
        Key("tie_word_embeddings", default=True),
    ),
    streams=(
        Stream("encoder", longest="max_source_positions"),
        Stream("decoder", longest="max_target_positions"),
    ),
    follows={},
    refusals={"hidden": BENT},
    foreign={r"^layer_weights$": LAYERS},
    carried=(*CONVOLUTIONS, *(f"model.{part}" for part in CONVOLUTIONS)),
    fixed=frozenset({"vocab", "sources", "targets", "projected"}),
)

GATED = (
    "its convolutions gate one half of what they give by the other before it joins the residual, so that no"
    " new channel of it is the mean of the old ones, and its positions are sines: grow ffn or layers instead"
)
SPEECH_TO_TEXT = like(
    WHISPER,
    "speech_to_text",
    weights=(
        *branches("encoder", "pre"),
        norm("encoder.layer_norm", "encoder.final_norm", "pre", "encoder"),
        Weight("decoder.embed_tokens.weight", "vocab -> hidden", "embed", stream="decoder", times=TIMES),
        *branches("decoder", "pre"),
        norm("decoder.layer_norm", "decoder.final_norm", "pre", "decoder"),
        head("lm_head.weight", "vocab <- hidden", "head", tied="embed", stream="decoder"),
    ),
    axes={
        axis: said for axis, said in WHISPER.axes.items() if axis not in ("sources", "targets", "projected")
    },
    lacks="classifier_proj_size",
    defaults=dict(
        vocab_size=10000,
        max_source_positions=6000,
        d_model=256,
        max_target_positions=1024,
        encoder_layers=12,
        encoder_ffn_dim=2048,
        encoder_attention_heads=4,
        decoder_layers=6,
        decoder_ffn_dim=2048,
        decoder_attention_heads=4,
        scale_embedding=True,
    ),
    streams=(
        Stream("encoder", longest="max_source_positions", given=True),
        Stream("decoder", longest="max_target_positions"),
    ),
    refusals={"hidden": GATED},
    foreign={},
    # Old files hold the sines, which no model reads.
    derived=(*BART.derived, r"embed_positions\.weights$"),
    carried=("encoder.conv.", "model.encoder.conv."),
    fixed=frozenset({"vocab"}),
)

LAYOUTS = (WHISPER, SPEECH_TO_TEXT)
