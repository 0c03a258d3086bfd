"""The families as tests grow them, one row each; a file holds those that share options."""

from __future__ import annotations

from collections.abc import Mapping

from family import Family

from rows import bert, dense, fused, gated, gpt2

FAMILIES: Mapping[str, Family] = {
    family.name: family for module in (gpt2, bert, fused, gated, dense) for family in module.ROWS
}
