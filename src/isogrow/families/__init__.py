"""The families that isogrow knows: one data file each, whose `LAYOUTS` are found by themselves, and a
registry by `model_type`."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from isogrow.errors import FamilyError
from isogrow.families.not_yet import reasons, refusal
from isogrow.families.wrappers import WRAPPERS
from isogrow.families.wrapping import NESTED, wrapping
from isogrow.layouts.config import Config, get
from isogrow.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {}


def register(layout: Layout) -> Layout:
    """Make a layout known under its model types (its family's name, if it has none)."""
    for model_type in layout.model_types or (layout.family,):
        LAYOUTS[model_type] = layout
    _around.cache_clear()
    return layout


def layout_for(model_type: str) -> Layout:
    """The layout of a config's `model_type`, or a refusal that names those that are known."""
    if model_type not in LAYOUTS:
        if why := refusal(model_type):
            raise FamilyError(why)
        alike = get_close_matches(model_type, [*LAYOUTS, *WRAPPERS], 3)
        raise FamilyError(
            f"model_type {model_type!r:.60} is not known"
            + (f" (of the {len(LAYOUTS)} that are, like it: {', '.join(alike)})" if alike else "")
            + ": `isogrow families` lists those that grow; `isogrow draft` writes a layout of many others in"
            " transformers, and for a model of your own write one (docs/add-a-family.md) and register it"
        )
    return LAYOUTS[model_type]


@cache
def _around(model_type: str, text: str, nested: bool, kinds: tuple[str, ...]) -> Layout:
    wrapper = WRAPPERS[model_type]
    each = zip(wrapper.towers, kinds, strict=True)
    tables = ((tower, tower.own or LAYOUTS.get(kind)) for tower, kind in each)
    known = tuple((tower, table) for tower, table in tables if table is not None)
    return wrapping(wrapper, layout_for(text), nested, known)


def layout_of(config: Config) -> Layout:
    """The layout of a config's model: a family's own, or that of a wrapper around a language model. Another
    model of several parts, each with a config, is refused by them."""
    model_type = str(config.get("model_type", ""))
    if model_type in WRAPPERS and model_type not in LAYOUTS:
        wrapper = WRAPPERS[model_type]
        nested = not wrapper.flat or config.get(NESTED[:-1]) is not None
        kinds = tuple(
            str((tower.named and get(config, f"{tower.config}.model_type")) or tower.kind)
            for tower in wrapper.towers
        )
        text = str(get(config, f"{NESTED}model_type") or wrapper.text)
        return _around(model_type, text, nested, kinds)
    parts = {name: part.get("model_type") for name, part in config.items() if isinstance(part, Mapping)}
    known = next((name for name, kind in sorted(parts.items()) if kind in LAYOUTS), None)
    if model_type in LAYOUTS or known is None:
        return layout_for(model_type)
    why = f" ({found})" if (found := reasons().get(model_type)) else ""
    raise FamilyError(
        f"model_type {model_type!r} is a model of several parts, and isogrow doesn't grow it as one{why}: its"
        f" {known} is a {parts[known]!r}, which it grows; save that part by itself, and grow it"
    )


for _found in iter_modules(__path__):
    for _layout in getattr(import_module(f"{__name__}.{_found.name}"), "LAYOUTS", ()):
        register(_layout)
