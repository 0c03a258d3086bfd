"""The families as tests grow them, one row each; a file holds those that share options."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from family import Family

MODULES = tuple(import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__))
# Families that are another one's kin: all that is swept leaves them to `make sweep`, but for a part.
KIN = frozenset(family.name for module in MODULES if getattr(module, "KIN", False) for family in module.ROWS)
FAMILIES: Mapping[str, Family] = {family.name: family for module in MODULES for family in module.ROWS}
