"""Mixtures of experts whose config lists by name which layers are dense (`mlp_layer_types`)."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.deepseek import DENSE as FIRST
from isogrow.families.deepseek import SPARSE as LATER
from isogrow.families.edits import Edit, Rows
from isogrow.families.llama import LLAMA
from isogrow.layouts.layout import Key, PerLayer

DENSE, SPARSE = "mlp_layer_types[layers] == 'dense'", "mlp_layer_types[layers] == 'sparse'"
ALONE = "num_experts_per_tok == 1"  # its weight is then the scale, whatever the router says
WIDE = "(shared expert_ffn)"


def listed(dense: str = FIRST, sparse: str = LATER) -> Edit:
    """The same rows, of layers that a list names."""
    said = {dense: DENSE, sparse: SPARSE}

    def edit(rows: Rows) -> Rows:
        return tuple(replace(row, when=said.get(row.when, row.when)) for row in rows)

    return edit


def kinds(formula: str) -> PerLayer:
    return PerLayer("mlp_layer_types", f"'dense' if {formula} else 'sparse'")


MIX = {**LLAMA.axes, "expert_ffn": "moe_intermediate_size", "experts": "num_experts"}
SIZES = (Key("moe_intermediate_size", "expert_ffn", 1536), Key("num_experts", "experts", 192))
PARTS = ("gate", "up", "down")
AS_ONE = {f"shared.{part}": f"shared_experts.{part}_proj.weight" for part in PARTS}
