"""OLMo: Llama's architecture with LayerNorms that have no tensor; queries, keys and values may be clamped."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, with_defaults
from isogrow.layout import Key, Norm, Weight

PLAIN = Norm("layer", "pre", eps=1e-5)


def _line(weight: Weight) -> Weight:
    """A line of Llama's as OLMo has it."""
    if weight.norm is not None:
        return replace(weight, name=weight.name.removesuffix(".weight"), norm=PLAIN, stored=False)
    return replace(weight, clamp="clip_qkv") if weight.slot in ("attn.q", "attn.k", "attn.v") else weight


OLMO = replace(
    LLAMA,
    family="olmo",
    model_types=("olmo",),
    weights=tuple(map(_line, WEIGHTS)),
    keys=(
        *(key for key in with_defaults(KEYS, vocab_size=50304) if key.name != "rms_norm_eps"),
        Key("clip_qkv", default=False),
    ),
    constraints=("key_dim == value_dim",),
)

LAYOUTS = (OLMO,)
