"""Plans as JSON: what a growth was, in a file that another process, or another year, can run again.

    >>> from isogrow.plans.sizes import Sizes
    >>> plan = Plan("llama", Sizes({"hidden": 48}), seed=7)
    >>> from_json(to_json(plan)) == plan
    True

Numbers are written so that every bit of a float comes back. `VERSION` grows with the format and with what the
same words mean. A plan of version 1 is read as what it meant then, and grows the bytes that it grew; one of
another version is refused, never guessed at.

What nobody was given is not kept: 0.1.0 is not published yet, and what "normal" draws by versions 2 and 3,
which its builds wrote in between, can't be drawn any more (CHANGELOG.md).

Version 4: "normal" draws other numbers. What version 1 calls so is "box-muller". The std that is matched is
that of a sample of a large tensor, in version 1 of all of it (`Plan.std_of`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast, get_args

from isogrow.errors import IsogrowError
from isogrow.layouts.layout import Index
from isogrow.plans.choices import Choices
from isogrow.plans.expansions import largest
from isogrow.plans.plan import (
    Constant,
    Entry,
    Free,
    Init,
    Mean,
    Old,
    Place,
    Plan,
    Rewrite,
    StdOf,
    Step,
    rewritten,
)
from isogrow.plans.sizes import Sizes

VERSION = 4
# What kinds of init mean, by version.
MEANT: Mapping[int, Mapping[str, str]] = {1: {"normal": "box-muller"}, VERSION: {}}
RECORD = "isogrow.json"  # where a grown checkpoint keeps its plan

Json = dict[str, Any]
T = TypeVar("T")


class PlanError(IsogrowError):
    """A plan's JSON can't be read."""


def to_json(plan: Plan) -> Json:
    """The plan as plain JSON data (dicts, lists, strings, numbers, booleans, null)."""
    return {
        "version": VERSION,
        "family": plan.family,
        "seed": plan.seed,
        "std_of": plan.std_of,
        "source": {
            "values": dict(plan.source.values),
            "sites": {axis: list(site) for axis, site in plan.source.sites.items()},
        },
        "config": dict(plan.config),
        "steps": [_step(step) for step in plan.steps],
    }


def from_json(data: Any) -> Plan:
    """The plan that `to_json` wrote; also from an isogrow.json, which holds one beside other things.

    Raises `PlanError` for another version and for data that is no plan, naming the place in it.
    """
    top = _Node(data, "plan")
    top = top.fields().get("plan", top)
    version = top.get("version", int)
    if version not in MEANT:
        said = " and ".join(map(str, MEANT))
        raise PlanError(
            f"plan.version is {version}, and this isogrow reads {said}: make the plan"
            " again with `isogrow plan`, or use the isogrow that wrote it"
        )
    plan = _plan(top, _std_of(top) if version == VERSION else "all")
    return rewritten(plan, _meant(MEANT[version])) if MEANT[version] else plan


def _meant(kinds: Mapping[str, str]) -> Callable[[Step, str, str, Entry], Entry]:
    """The entry that a plan of an older version means."""

    def entry(_step: Step, _slot: str, _label: str, entry: Entry) -> Entry:
        if not isinstance(entry, Free):
            return entry
        return replace(entry, init=replace(entry.init, kind=kinds.get(entry.init.kind, entry.init.kind)))

    return entry


def _std_of(top: _Node) -> StdOf:
    said = top.get("std_of", str)
    if said not in get_args(StdOf):
        raise top.at("std_of").error(f"is {said!r}, and {' or '.join(get_args(StdOf))} was expected")
    return cast(StdOf, said)


def _plan(top: _Node, std_of: StdOf) -> Plan:
    source = top.at("source")
    sites = source.items("sites", lambda node: tuple(node.list_of(str)))
    return Plan(
        family=top.get("family", str),
        source=Sizes(source.items("values", lambda node: node.of(int)), sites),
        steps=tuple(_read_step(node) for node in top.nodes("steps")),
        config=top.items("config", lambda node: node.value),
        seed=top.get("seed", int),
        std_of=std_of,
    )


def digest(plan: Plan) -> str:
    """A hash that two plans share iff they are the same."""
    text = json.dumps(to_json(plan), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _step(step: Step) -> Json:
    return {
        "expansion": step.expansion,
        "axis": step.axis,
        "site": [list(pair) for pair in step.site],
        "old": step.old,
        "new": step.new,
        "places": [_place(place) for place in step.places],
        "rewrites": {
            slot: {label: _entry(entry) for label, entry in rewrite.items()}
            for slot, rewrite in step.rewrites.items()
        },
        "config": dict(step.config),
        "notes": list(step.notes),
        **({"choices": _choices(step.choices)} if step.choices != Choices() else {}),
    }


def _choices(choices: Choices) -> Json:
    return {"kept": list(choices.kept), "kinds": dict(choices.kinds), "legacy": choices.legacy}


def _place(place: Place) -> Json:
    written: Json = {"start": place.start, "count": place.count, "source": place.source}
    return {**written, "label": place.label, "stride": place.stride}


def _entry(entry: Entry) -> Json:
    match entry:
        case Old(a, b):
            return {"kind": "old", "a": a, "b": b}
        case Constant(value):
            return {"kind": "constant", "value": value}
        case Mean(weights, a):
            return {"kind": "mean", "weights": weights, "a": a}
        case Free(init, center, sign, stream):
            drawn: Json = {"kind": "free", "init": {"kind": init.kind, "std": init.std}}
            return {**drawn, "center": center, "sign": sign, "stream": stream}


def _read_step(node: _Node) -> Step:
    places = tuple(_read_place(place) for place in node.nodes("places"))
    old, new = node.get("old", int), node.get("new", int)
    _check_tiling(node, places, old, new, largest(node.get("axis", str)))
    return Step(
        expansion=node.get("expansion", str),
        axis=node.get("axis", str),
        old=old,
        new=new,
        places=places,
        rewrites=node.items("rewrites", _read_rewrite),
        site=_read_site(node),
        config=node.items("config", lambda value: value.value),
        notes=tuple(node.at("notes").list_of(str)),
        choices=_read_choices(node.fields().get("choices")),
    )


def _read_choices(node: _Node | None) -> Choices:
    """The choices of a step; one without any has made none."""
    if node is None:
        return Choices()
    kinds = node.items("kinds", lambda value: value.of(str))
    return Choices(tuple(node.at("kept").list_of(str)), tuple(kinds.items()), node.get("legacy", bool))


def _check_tiling(node: _Node, places: tuple[Place, ...], old: int, new: int, most: int) -> None:
    if not 0 < old <= new <= most or sum(place.count for place in places) != new:
        raise node.error(f"has places that do not fill 0..{new} once, or do not keep 0..{old}")
    covered = sorted(p for place in places for p in place.positions)
    kept = sorted(place.source + i for place in places if place.old for i in range(place.count))
    if covered != list(range(new)) or kept != list(range(old)):
        raise node.error(f"has places that do not fill 0..{new} once, or do not keep 0..{old}")


def _read_place(node: _Node) -> Place:
    place = Place(
        start=node.get("start", int),
        count=node.get("count", int),
        source=node.get("source", int),
        label=node.get("label", str),
        stride=node.get("stride", int),
    )
    if min(place.start, place.count, place.source) < 0 or place.stride < 1:
        raise node.error("has a number below what a place can have")
    return place


def _read_site(node: _Node) -> Index:
    pairs = [pair.children() for pair in node.nodes("site")]
    if any(len(pair) != 2 for pair in pairs):
        raise node.error("has a site that is no list of [axis, number]")
    return tuple((axis.of(str), number.of(int)) for axis, number in pairs)


def _read_rewrite(node: _Node) -> Rewrite:
    return {label: _read_entry(entry) for label, entry in node.fields().items()}


def _read_entry(node: _Node) -> Entry:
    match node.get("kind", str):
        case "old":
            return Old(node.get("a", float), node.get("b", float))
        case "constant":
            return Constant(node.get("value", float))
        case "mean":
            return Mean(node.get("weights", str), node.get("a", float))
        case "free":
            sign, stream = node.get("sign", float), node.get("stream", str)
            return Free(_read_init(node.at("init")), node.get("center", bool), sign, stream)
        case kind:
            raise node.error(f"is of kind {kind!r}; known are old, constant, mean and free")


def _read_init(node: _Node) -> Init:
    kind, std = node.get("kind", str), node.at("std")
    return Init(kind, "match" if std.value == "match" else std.of(float))


# What a value of each type is called where a reader of JSON looks for it.
KINDS: Mapping[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


def _shown(value: Any) -> str:
    """A value as the file has it, so much of it as a sentence can hold."""
    return json.dumps(value, default=repr)[:60]


class _Node:
    """A place in JSON data, which knows its own path for the message if it is not what it should be."""

    def __init__(self, value: Any, path: str) -> None:
        self.value, self.path = value, path

    def error(self, why: str) -> PlanError:
        return PlanError(f"{self.path} {why}: give a plan that `isogrow plan --out` wrote")

    def of(self, kind: type[T]) -> T:
        """This value, which must be of this type (an int is a float, and a bool is no int)."""
        value: Any = self.value
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.error(f"is {_shown(self.value)}, where {KINDS[kind]} was expected")
        return value

    def fields(self) -> dict[str, _Node]:
        if not isinstance(self.value, Mapping):
            raise self.error("is no object")
        found = cast("Mapping[str, Any]", self.value)
        return {name: _Node(value, f"{self.path}.{name}") for name, value in found.items()}

    def children(self) -> list[_Node]:
        if not isinstance(self.value, list):
            raise self.error("is no list")
        found = cast("list[Any]", self.value)
        return [_Node(value, f"{self.path}[{i}]") for i, value in enumerate(found)]

    def at(self, name: str) -> _Node:
        found = self.fields()
        if name not in found:
            raise self.error(f"lacks {name!r}")
        return found[name]

    def get(self, name: str, kind: type[T]) -> T:
        return self.at(name).of(kind)

    def nodes(self, name: str) -> list[_Node]:
        return self.at(name).children()

    def list_of(self, kind: type[T]) -> list[T]:
        return [node.of(kind) for node in self.children()]

    def items(self, name: str, read: Callable[[_Node], T]) -> dict[str, T]:
        return {key: read(node) for key, node in self.at(name).fields().items()}
