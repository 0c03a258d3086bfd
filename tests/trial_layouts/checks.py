"""A check from outside: each tensor is named once. And layouts with a line less, or one more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from isogrow.layouts.config import Config
from isogrow.layouts.layout import Binding, Layout, Line, Weight
from isogrow.layouts.lines import PLACEHOLDER, name_axes


def lines(layout: Layout, names: Mapping[str, Any]) -> list[Line]:
    """The lines that apply to a checkpoint.

    One that needs another slot applies where that is there, and then stands before a line of the
    same name that needs nothing.
    """
    held = {
        slot.name for line in layout.lines for slot in line.slots if any(n.endswith(line.name) for n in names)
    }
    there = {line.slot.needs for line in layout.lines} & held
    met = [line for line in layout.lines if line.slot.needs in there]
    before = {line.name for line in met}
    return [x for x in layout.lines if x in met or (not x.slot.needs and x.name not in before)]


@cache
def template(name: str) -> re.Pattern[str]:
    """A name template as a regular expression."""
    parts = PLACEHOLDER.split(name)
    return re.compile("".join(r"(\d+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def names_it(layout: Layout, line: Line, start: str, name: str, config: Config) -> bool:
    """Whether a line names a tensor, and applies to the layer that the first number in the name says."""
    hit = template(start + line.name).fullmatch(name)
    if hit is None:
        return False
    return layout.applies(
        line.slot, config, tuple(zip(name_axes(line.name), map(int, hit.groups()), strict=False))
    )


def namings(layout: Layout, prefix: str, names: Mapping[str, Any], config: Config) -> dict[str, list[str]]:
    """Tensor -> the slots of all lines (and the `derived` patterns) that name it."""
    known = [("" if line.slot.head else prefix, line) for line in lines(layout, names)]
    found: dict[str, list[str]] = {}
    for source in names:
        name = source
        for rename in layout.renames:
            name = rename.applied(name)
        hits = [line.slot.name for start, line in known if names_it(layout, line, start, name, config)]
        hits += [pattern for pattern in layout.derived if re.search(pattern, name)]
        found[source] = hits
    return found


def not_named_once(
    layout: Layout, prefix: str, names: Mapping[str, Any], config: Config
) -> dict[str, list[str]]:
    """The tensors that no line names, or more than one."""
    return {name: hits for name, hits in namings(layout, prefix, names, config).items() if len(hits) != 1}


def less(layout: Layout, line: Line) -> Layout:
    """The layout without a line. A weight goes with its bias, and with all other places of its slot."""
    weights = tuple(
        replace(row, bias=None) if line in list(row.lines())[1:] else row
        for row in layout.weights
        if line != next(row.lines())
    )
    known = {slot.name for row in weights for each in row.lines() for slot in each.slots}

    def stays(place: tuple[str, str | tuple[str, str]]) -> bool:
        own = tuple(Binding("", dict([place])).lines(layout.weights))
        return line not in own and all(slot.name in known for each in own for slot in each.slots)

    places = (dict(filter(stays, binding.places.items())) for binding in layout.bindings)
    bindings = tuple(Binding("", each) for each in places)
    return replace(layout, weights=weights, bindings=bindings, attentions=())


def twice(layout: Layout, line: Line) -> Layout:
    """The layout with a line once more, of another slot."""
    said = {"head": line.slot.head, "when": line.slot.when, "needs": line.slot.needs}
    return replace(layout, weights=(*layout.weights, Weight(line.name, line.pattern, "other.*", **said)))
