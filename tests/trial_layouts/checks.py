"""A check from outside: each tensor is named once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from isogrow.anatomy import PLACEHOLDER, name_axes
from isogrow.config import Config
from isogrow.layout import Layout, Weight


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
