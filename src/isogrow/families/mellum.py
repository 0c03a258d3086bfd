"""Mellum 2: Qwen3-MoE with two rotary tables, whose config lists which layers are dense."""

from __future__ import annotations

from typing import Any

from isogrow.families.edits import like
from isogrow.families.heads import FURTHER
from isogrow.families.mlp_layer_types import kinds, listed
from isogrow.families.qwen_moe import DENSE as SOME
from isogrow.families.qwen_moe import QWEN3_MOE
from isogrow.families.qwen_moe import SPARSE as OTHERS
from isogrow.layouts.layout import Attention, Key, PerLayer, Rope

TABLE = "rope_parameters.{0}_attention"


def rope(kind: str, default: float, *others: Rope, **said: Any) -> Rope:
    """The rotary table of one kind of layers; this class reads none under an older name."""
    name = TABLE.format(kind)
    return Rope(theta=(f"{name}.rope_theta",), scaling=(name,), default=default, others=others, **said)


MELLUM = like(
    QWEN3_MOE,
    "mellum",
    listed(SOME, OTHERS),
    defaults=dict(
        vocab_size=98304,
        hidden_size=2304,
        intermediate_size=7168,
        moe_intermediate_size=896,
        num_hidden_layers=28,
        head_dim=128,
        num_experts=64,
        norm_topk_prob=True,
    ),
    lacks="decoder_sparse_step mlp_only_layers num_local_experts num_experts",
    more=(Key("num_experts", "experts", 64, alias="num_local_experts"),),
    attentions=(Attention(rope=rope("full", 500000.0, rope("sliding", 10000.0))),),
    kinds=(),
    per_layer=(PerLayer("layer_types", "'full_attention'"), kinds("False")),
    foreign={r"^mtp\.": FURTHER},
)

LAYOUTS = (MELLUM,)
