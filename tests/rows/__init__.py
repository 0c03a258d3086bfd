"""The families as tests grow them, one row each; a file holds those that share options."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from family import Family

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for found in iter_modules(__path__)
    for family in import_module(f"{__name__}.{found.name}").ROWS
}
