"""FlexOLMo: OLMo 2 with experts in place of its MLP."""

from __future__ import annotations

from isogrow.families.deepseek import ONE
from isogrow.families.edits import like, swap
from isogrow.families.experts import readers, router, stacked, writer
from isogrow.families.llama import LLAMA, MLP, M
from isogrow.families.olmo2 import OLMO2
from isogrow.layouts.layout import Attention, Key, Rope

FLEX_OLMO = like(
    OLMO2,
    "flex_olmo",
    swap(MLP, router(M, idle=ONE), *readers(M, "ffn"), writer(M, "ffn")),
    axes={**LLAMA.axes, "experts": "num_experts"},
    defaults=dict(vocab_size=100352, rms_norm_eps=1e-6, norm_topk_prob=False, num_experts_per_tok=5),
    more=(Key("num_experts", "experts", 7, alias="num_local_experts"),),
    attentions=(Attention(rope=Rope(default=500000.0)),),
    fixed=LLAMA.fixed | {"experts"},
    bindings=(stacked(M, "ffn"),),
)

LAYOUTS = (FLEX_OLMO,)
