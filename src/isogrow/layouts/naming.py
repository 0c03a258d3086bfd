"""Which line of a layout names a stored tensor, and what the numbers in its name mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache, reduce
from typing import Any

from isogrow.layouts.config import Config
from isogrow.layouts.formula import names
from isogrow.layouts.layout import Index, Layout, Line, Rename, Slot
from isogrow.layouts.lines import PLACEHOLDER

Lines = dict[str, list[tuple[re.Pattern[str], Line]]]
Applies = Callable[[Slot, Index], bool]


def renames_in(layout: Layout, names: Iterable[str]) -> tuple[Rename, ...]:
    """Those of a layout's renames that hold in a model of these names."""
    if not any(rename.beside for rename in layout.renames):
        return layout.renames
    found = tuple(names)
    return tuple(each for each in layout.renames if any(name.startswith(each.beside) for name in found))


def renamed(renames: Iterable[Rename], name: str) -> str:
    """A stored tensor's name of today."""
    return reduce(lambda name, rename: rename.applied(name), renames, name)


def as_kept(layout: Layout, name: str, source: str) -> str:
    """A name of today in the way in which the tensor `source` is named, so that a file keeps its names.

    Law: `renamed(layout.renames, as_kept(layout, name, source)) == name`.
    """
    for rename in layout.renames:
        now = rename.applied(source)
        if now != source:
            name = rename.undone(name)
        source = now
    return name


def lines_of(layout: Layout, prefix: str, names: Mapping[str, Any]) -> Lines:
    """The lines that apply, by their names without numbers: those that need another slot only where it is
    there."""
    found: Lines = {}
    for line in layout.lines:
        if line.slot.stored and layout.beside(line.slot, names):
            name = ("" if line.slot.head else prefix) + line.name
            found.setdefault(numberless(PLACEHOLDER.sub("0", name)), []).append((_regex(name), line))
    return found


@lru_cache(1 << 17)
def numberless(name: str) -> str:
    """A name without its numbers: `layers.#.mlp`. It is asked for again and again of the same names."""
    return re.sub(r"\d+", "#", name)


@cache
def _regex(template: str) -> re.Pattern[str]:
    parts = PLACEHOLDER.split(template)
    return re.compile("".join(r"(\d+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def applying(layout: Layout, config: Config) -> Applies:
    """`layout.applies` for one config, each answer kept: a slot may be asked for thousands of experts."""

    @cache
    def asked(when: str, index: Index) -> bool:
        return layout.holds(when, config, index)

    def applies(slot: Slot, index: Index) -> bool:
        if not slot.when:
            return True
        told = names(slot.when)
        return asked(slot.when, tuple((axis, i) for axis, i in index if axis in told))

    return applies


def line_of(
    applies: Applies, lines: Lines, name: str, stated: Mapping[str, int]
) -> tuple[Line, Index] | None:
    """The first line that names a tensor and applies to it, and the index in the name."""
    for regex, line in lines.get(numberless(name), ()):
        hit = regex.fullmatch(name)
        if hit is not None:
            index = _index(line, hit.groups(), stated)
            if applies(line.slot, index):
                return line, index
    return None


def _index(line: Line, numbers: tuple[str, ...], stated: Mapping[str, int]) -> Index:
    """The index that the numbers in a name mean."""
    index: list[tuple[str, int]] = []
    for (first, *rest), number in zip(line.numbers, map(int, numbers), strict=True):
        if not rest:
            index.append((first, number))
            continue
        found: list[tuple[str, int]] = []
        for axis in reversed(rest):
            number, at = divmod(number, stated[axis])
            found.append((axis, at))
        index += [(first, number), *reversed(found)]
    return tuple(index)


def prefix_of(layout: Layout, applies: Applies, names: Mapping[str, Any], stated: Mapping[str, int]) -> str:
    """The prefix under which most tensors are named."""

    alike: dict[str, list[str]] = {}  # names that differ in numbers alone
    for name in names:
        alike.setdefault(numberless(name), []).append(name)

    def count(prefix: str) -> int:
        lines = lines_of(layout, prefix, names)
        hit = (own for own in alike.values() if line_of(applies, lines, own[0], stated) is not None)
        return sum(map(len, hit))

    return max(layout.prefixes, key=count)
