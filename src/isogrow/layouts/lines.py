"""Lines: where slots lie. A binding is a table of lines, and one table of slots may have several.

A family's weights are written as one table, of which a row says both what a weight is and where the first
binding has it; the other bindings (how memory differs from disk) only say where the same slots lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from isogrow.errors import LayoutError
from isogrow.layouts.pattern import Pattern, parse
from isogrow.layouts.slots import Norm, Slot, bias_of

PLACEHOLDER = re.compile(r"\{([\w ]+)\}")


@dataclass(frozen=True)
class Bias:
    """The bias of a weight, or the shift beside a gain: what follows from its weight is not said again.

    `when` and `required` count beside the weight's. `name` is its own template, where that is not the
    weight's with `.bias` for `.weight` (or `_bias` behind it, where it has no such end).
    """

    when: str = ""
    required: bool = True
    name: str = ""
    tied: str = ""
    idle: str = ""


@dataclass(frozen=True)
class Weight:
    """A row of a family's table: a stored tensor (for all its indices), and the slots that it holds.

    `{layers}` in the `name` is a layer's number, `{kv_heads group}` one number that counts two axes,
    row-major; the base model's prefix is left out. `pattern` is its order in storage, and who produces and
    consumes its axes. `*` in the `slot` takes the name of each part of a fused weight: `attn.*` with the
    parts q, k, v gives attn.q, attn.k, attn.v. The rest is said of each of these slots (`Slot`).
    """

    name: str
    pattern: str
    slot: str
    norm: Norm | None = None
    bias: Bias | None = None
    required: bool = True
    head: bool = False
    tied: str = ""
    needs: str = ""
    when: str = ""
    times: str = ""
    clamp: str = ""
    stored: bool = True
    scales: str = ""
    gates: str = ""
    idle: str = ""
    centred: bool = False
    constant: bool = False
    unit: bool = False
    aside: bool = False
    stream: str = ""
    shared: bool = False

    def lines(self) -> Iterator[Line]:
        """The line of this row, and that of its bias."""
        own = parse(self.pattern)
        said: dict[str, Any] = {name: getattr(self, name) for name in SAID}
        yield _line(self.name, own, _parts(self.slot, own), said)
        if self.bias is not None:
            yield self._bias(self.bias, own)

    def _bias(self, bias: Bias, own: Pattern) -> Line:
        said: dict[str, Any] = {
            **{name: getattr(self, name) for name in INHERITED},
            "required": self.required and bias.required,
            "when": both(self.when, bias.when),
            "tied": bias.tied,
            "idle": bias.idle,
        }
        named = bias.name or bias_name(self.name)
        return _line(named, own.added, tuple(map(bias_of, _parts(self.slot, own))), said)


SAID = tuple({f.name for f in fields(Weight)} & {f.name for f in fields(Slot)} - {"name"})
INHERITED = ("norm", "head", "needs", "stream")


@dataclass(frozen=True)
class Line:
    """Where slots lie: the name template of their tensors, the order in storage, and the slot of each part.

    What decides whether a line is there (`when`, `needs`, `head`, `tied`) is said alike of all its slots.
    """

    name: str
    pattern: str
    slots: tuple[Slot, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.pattern, self.slots))

    @cached_property
    def parsed(self) -> Pattern:
        return parse(self.pattern)

    @property
    def slot(self) -> Slot:
        """The first of its slots."""
        return self.slots[0]

    def parts(self) -> tuple[tuple[str, Slot], ...]:
        """(part, slot) of every part of the pattern."""
        return self._parts

    @cached_property
    def _parts(self) -> tuple[tuple[str, Slot], ...]:
        return tuple(zip(self.parsed.parts, self.slots, strict=True))

    @cached_property
    def numbers(self) -> tuple[tuple[str, ...], ...]:
        """The axes that each number in the name counts, row-major."""
        return tuple(tuple(found.split()) for found in PLACEHOLDER.findall(self.name))

    @cached_property
    def template(self) -> str:
        """The name with {} for each of its numbers."""
        return PLACEHOLDER.sub("{}", self.name)


@dataclass(frozen=True)
class Binding:
    """Where some slots lie elsewhere: name template -> slot, or (slot, pattern) where the order is another.

    Slots are named as rows of the table name them (`attn.*`), in all their variants; biases follow.
    """

    name: str
    places: Mapping[str, str | tuple[str, str]] = field(default_factory=dict[str, str | tuple[str, str]])

    def lines(self, rows: Iterable[Weight]) -> Iterator[Line]:
        """The lines of this binding. Raises `LayoutError` for what does not lie along the slot's own axes."""
        rows = tuple(rows)
        known = [slot for row in rows for line in row.lines() for slot in line.slots]
        for name, said in self.places.items():
            if isinstance(said, str):
                found = [line for row in rows if row.slot == said for line in _renamed(row, name)]
            else:
                found = [*_reordered(name, *said, known)]
            if not found:
                raise LayoutError(f"{self.name} has {said!r} at {name}, which is no slot of the table")
            yield from found


def _renamed(row: Weight, name: str) -> Iterator[Line]:
    """The lines of a row under another name."""
    bias = row.bias and replace(row.bias, name="")
    return replace(row, name=name, bias=bias).lines()


def _reordered(name: str, slot: str, pattern: str, known: Iterable[Slot]) -> Iterator[Line]:
    """The lines of a slot's variants, and of their biases, in another order."""
    variants: dict[str, dict[str, Slot]] = {}
    for each in known:
        variants.setdefault(each.when, {})[each.name] = each
    own = parse(pattern)
    names = _parts(slot, own)
    biases = tuple(map(bias_of, names))
    for named, order, wanted in ((name, own, names), (bias_name(name), own.added, biases)):
        for slots in variants.values():
            if all(each in slots for each in wanted):
                line = Line(named, str(order), tuple(slots[each] for each in wanted))
                _check_along(line)
                yield line


def _check_along(line: Line) -> None:
    index = (*name_axes(line.name), *line.parsed.index)
    for part, slot in line.parts():
        if (slot.index, slot.produced, slot.consumed) != (
            index,
            line.parsed.produced(part),
            line.parsed.consumed(part),
        ):
            raise LayoutError(
                f"{line.name} has {slot.name} as {line.pattern!r}, and the table has its blocks numbered by"
                f" {slot.index}, with the axes {slot.axes}"
            )


def _line(name: str, pattern: Pattern, slots: tuple[str, ...], said: dict[str, Any]) -> Line:
    index = (*name_axes(name), *pattern.index)
    found = [
        Slot(slot, pattern.produced(part), pattern.consumed(part), pattern.gate, index, **said)
        for part, slot in zip(pattern.parts, slots, strict=True)
    ]
    return Line(name, str(pattern), tuple(found))


def _parts(slot: str, pattern: Pattern) -> tuple[str, ...]:
    return tuple(slot.replace("*", part) for part in pattern.parts)


def name_axes(template: str) -> tuple[str, ...]:
    """The index axes in a name template, outermost first.

    >>> name_axes("h.{layers}.norms.{kv_heads group}.weight")
    ('layers', 'kv_heads', 'group')
    """
    return tuple(axis for found in PLACEHOLDER.findall(template) for axis in found.split())


def bias_name(name: str) -> str:
    """The name template of a weight's bias.

    >>> bias_name("norm.weight"), bias_name("experts.down_proj")
    ('norm.bias', 'experts.down_proj_bias')
    """
    stem = name.removesuffix(".weight")
    return f"{stem}.bias" if stem != name else f"{name}_bias"


def both(one: str, other: str) -> str:
    """The formula that is true where both are; an empty one is always."""
    return f"({one}) and ({other})" if one and other else one or other
