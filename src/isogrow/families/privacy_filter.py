"""OpenAI's privacy filter: GPT-OSS that reads both ways and tags tokens; gate and up stand one behind the
other, and pairs of adjacent channels rotate."""

from __future__ import annotations

from isogrow.families.edits import alter, drop, like
from isogrow.families.gpt_oss import GPT_OSS, YARN
from isogrow.layouts.layout import Attention, Key, Rope

PRIVACY_FILTER = like(
    GPT_OSS,
    "openai_privacy_filter",
    alter("experts.*", pattern="{experts} hidden -> (gate: ffn + up: ffn)"),
    drop("head span"),
    lacks="num_local_experts",
    defaults=dict(
        vocab_size=200064,
        hidden_size=640,
        intermediate_size=640,
        num_hidden_layers=8,
        num_attention_heads=14,
        num_key_value_heads=2,
    ),
    more=(Key("num_local_experts", "experts", 128, alias="num_experts"),),
    attentions=(Attention(rope=Rope("adjacent", default=150000.0, filled=YARN), sink="attn.sinks"),),
    per_layer=(),
)

LAYOUTS = (PRIVACY_FILTER,)
