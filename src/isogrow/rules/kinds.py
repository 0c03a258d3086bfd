"""Layers of several kinds in one model (dense ones and mixtures of experts), and the config that says which.

A layer has the slots whose `when` is true of its number. So adding layers must leave this true: layer p of
the grown model has the slots of the old layer that it is, or extends. Keys that count or list layers of a
kind follow (`Layout.kinds`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isogrow.layouts.config import Config, edited
from isogrow.layouts.formula import names
from isogrow.layouts.layout import Kinds, Slot
from isogrow.plans.plan import Place
from isogrow.rules.subject import Subject


def kinds(subject: Subject, axis: str, places: Iterable[Place]) -> dict[str, Any]:
    """The config's edits where the keys that say which layers are of a kind would say it of other ones."""
    edits: dict[str, Any] = {}
    sources = _sources(places)
    now = counted(subject, axis, len(sources))
    for said in subject.layout.kinds:
        there = [_true(subject, said.where, said.axis, source, subject.config) for source in sources]
        here = [_true(subject, said.where, said.axis, at, now) for at in range(len(sources))]
        if said.axis == axis and here != there:
            edits |= {said.key: _said(said, there), **dict(said.beside)}
    return edits


def changed(subject: Subject, axis: str, places: Iterable[Place], edits: Config) -> list[Slot]:
    """The slots that some layer would gain or lose."""
    sources = _sources(places)
    after = edited(counted(subject, axis, len(sources)), edits)
    return [
        slot
        for slot in subject.slots.values()
        if slot.when
        and axis in names(slot.when)
        and any(
            _true(subject, slot.when, axis, source, subject.config)
            != _true(subject, slot.when, axis, at, after)
            for at, source in enumerate(sources)
        )
    ]


def nearest(subject: Subject, axis: str, count: int) -> list[int] | None:
    """For each of so many new layers at the end the last old one of the kind that its number says; None where
    one has none, a list says kinds, or the count of layers makes an old one another kind."""
    old = subject.sizes.of(axis)
    asked = {slot.when for slot in subject.slots.values() if slot.when and axis in names(slot.when)}
    if any(each.key in names(formula) for each in subject.layout.per_layer for formula in asked):
        return None
    after = counted(subject, axis, old + count)

    def kind(layer: int, config: Config) -> list[bool]:
        return [_true(subject, formula, axis, layer, config) for formula in sorted(asked)]

    was = [kind(layer, subject.config) for layer in range(old)]
    now = [kind(layer, after) for layer in range(old + count)]
    if now[:old] != was or not all(each in was for each in now[old:]):
        return None
    return [old - 1 - was[::-1].index(each) for each in now[old:]]


def counted(subject: Subject, axis: str, count: int) -> Config:
    """The config as it says so many layers."""
    sizes = {**subject.sizes.values, axis: count}
    held = subject.layout.written(subject.config, sizes)
    before = subject.layout.written(subject.config, subject.sizes.values)
    return edited(subject.config, {key: n for key, n in held.items() if n != before.get(key)})


def _said(said: Kinds, there: list[bool]) -> Any:
    return sum(there) if said.counts else [at for at, one in enumerate(there) if one]


def _sources(places: Iterable[Place]) -> list[int]:
    """The old layer that each new one is, or extends."""
    found = {p: place.source + i for place in places for i, p in enumerate(place.positions)}
    return [found[p] for p in range(len(found))]


def _true(subject: Subject, formula: str, axis: str, at: int, config: Config) -> bool:
    return subject.layout.holds(formula, config, ((axis, at),))
