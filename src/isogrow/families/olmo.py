"""OLMo: Llama's architecture with LayerNorms that have no tensor; queries, keys and values may be clamped."""

from __future__ import annotations

from isogrow.families.edits import alter, like, swap
from isogrow.families.llama import EQUAL, LLAMA, L
from isogrow.layouts.layout import Key, Norm, Weight


def _plain(name: str, slot: str) -> Weight:
    return Weight(name, "* hidden", slot, Norm("layer", "pre", eps=1e-5), stored=False)


OLMO = like(
    LLAMA,
    "olmo",
    swap("attn_norm", _plain(L + "input_layernorm", "attn_norm")),
    swap("mlp_norm", _plain(L + "post_attention_layernorm", "mlp_norm")),
    swap("final_norm", _plain("norm", "final_norm")),
    alter("attn.q attn.k attn.v", clamp="clip_qkv"),
    defaults={"vocab_size": 50304},
    lacks="rms_norm_eps",
    more=(Key("clip_qkv", default=False),),
    constraints=EQUAL,
)

LAYOUTS = (OLMO,)
