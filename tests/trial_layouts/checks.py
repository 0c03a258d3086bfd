"""Two checks proposed for the core: each tensor is named once, each block is stored once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from isogrow.anatomy import PLACEHOLDER, Anatomy, blocks, name_axes
from isogrow.config import Config
from isogrow.formula import evaluate
from isogrow.layout import Index, Layout, Weight


def lines(layout: Layout, names: Mapping[str, Any]) -> list[Weight]:
    """The lines that apply to a checkpoint.

    One that needs another tensor applies where that is there, and then stands before a line of the
    same name that needs nothing.
    """
    met = [w for w in layout.weights if w.needs and any(n.endswith(w.needs) for n in names)]
    before = {weight.name for weight in met}
    return [w for w in layout.weights if w in met or (not w.needs and w.name not in before)]


@cache
def template(name: str) -> re.Pattern[str]:
    """A name template as a regular expression."""
    parts = PLACEHOLDER.split(name)
    return re.compile("".join(r"(\d+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def names_it(layout: Layout, line: Weight, start: str, name: str, config: Config) -> bool:
    """Whether a line names a tensor, and applies to the layer that the first number in the name says."""
    hit = template(start + line.name).fullmatch(name)
    if hit is None:
        return False
    return layout.applies(line, config, tuple(zip(name_axes(line), map(int, hit.groups()), strict=False)))


def namings(layout: Layout, prefix: str, names: Mapping[str, Any], config: Config) -> dict[str, list[str]]:
    """Tensor -> the slots of all lines (and the `derived` patterns) that name it."""
    known = [("" if w.head else prefix, w) for w in lines(layout, names)]
    found: dict[str, list[str]] = {}
    for source in names:
        name = source
        for old, new in layout.renames.items():
            name = re.sub(old, new, name)
        hits = [w.slot for start, w in known if names_it(layout, w, start, name, config)]
        hits += [pattern for pattern in layout.derived if re.search(pattern, name)]
        found[source] = hits
    return found


def not_named_once(
    layout: Layout, prefix: str, names: Mapping[str, Any], config: Config
) -> dict[str, list[str]]:
    """The tensors that no line names, or more than one."""
    return {name: hits for name, hits in namings(layout, prefix, names, config).items() if len(hits) != 1}


def facts(layout: Layout, config: Config) -> dict[str, Any]:
    """What formulas may ask: null is the default only where that is a formula, else it means none."""
    view = layout.defaults(config)
    none = {k: None for k, v in config.items() if v is None}
    computed = {key.name for key in layout.keys if isinstance(key.default, str)}
    given = {key: value for key, value in config.items() if value is not None}
    known = {key.name: view[key.name] for key in layout.keys if key.name in view}
    return {**given, **known, **{key: None for key in none if key not in computed}}


def due(layout: Layout, when: Mapping[str, str], anatomy: Anatomy) -> set[tuple[str, Index]]:
    """(slot, index) of every block that a model of this config must have; heads and ties aside."""
    known = facts(layout, anatomy.config)
    found: set[tuple[str, Index]] = set()
    for weight in layout.weights:
        condition = when.get(weight.slot, "True" if weight.required else "False")
        if weight.head or weight.tied:
            continue
        for index in anatomy.sizes.indices(name_axes(weight)):
            if evaluate(condition, {**known, **dict(index)}):
                found |= {(b.slot, b.index) for _, b in blocks(weight, index, anatomy.sizes)}
    return found


def held(anatomy: Anatomy) -> Counter[tuple[str, Index]]:
    """(slot, index) of every stored block, counted; heads and ties aside."""
    own = (s for s in anatomy.stored if not s.weight.head and not s.weight.tied)
    return Counter((b.slot, b.index) for s in own for _, b in s.blocks(anatomy.sizes))


def not_stored_once(module: ModuleType, anatomy: Anatomy) -> set[tuple[str, Index]]:
    """Blocks that are missing, stored twice, or there although the config says that they are not."""
    expected, found = due(module.LAYOUT, module.WHEN, anatomy), held(anatomy)
    optional = {w.slot for w in module.LAYOUT.weights if not w.required} - set(module.WHEN)
    extra = {key for key in found.keys() - expected if key[0] not in optional}
    return (expected - found.keys()) | {key for key, n in found.items() if n > 1} | extra
