"""mT5, UMT5: T5 with GELU gates; mT5's head takes the residual as it is, and each of UMT5's layers has
positions of its own."""

from __future__ import annotations

from isogrow.families.edits import alter, before, drop, like
from isogrow.families.t5 import DECODER, ENCODER, STACKS, T5, line
from isogrow.layouts.layout import Stream

DEFAULTS = dict(vocab_size=250112, d_ff=1024, num_layers=8, num_heads=6, feed_forward_proj="'gated-gelu'")
TIED = tuple(map(Stream, STACKS))

MT5 = like(T5, "mt5", alter("head", times=""), lacks="scale_decoder_outputs", defaults=DEFAULTS, streams=TIED)

BIAS = "0.SelfAttention.relative_attention_bias.weight"

# The class ties the head whatever its config says, and scales what it reads, unless the config says untied
# (transformers 5.24; 5.23 scales it in any case).
UMT5 = like(
    T5,
    "umt5",
    drop("encoder.position_bias decoder.position_bias"),
    before("encoder.attn.q", line(ENCODER + BIAS, "buckets -> heads", "encoder.position_bias", "encoder")),
    before("decoder.attn.q", line(DECODER + BIAS, "buckets -> heads", "decoder.position_bias", "decoder")),
    defaults=DEFAULTS,
    streams=TIED,
)

LAYOUTS = (MT5, UMT5)
