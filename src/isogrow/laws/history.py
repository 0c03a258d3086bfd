"""What became of each position on an axis in the steps of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isogrow.layouts.layout import Index
from isogrow.plans.plan import OLD, Place, Plan, Step

History = tuple[str, ...]


@dataclass(frozen=True)
class Stretch:
    """Positions of one history, evenly spaced, and the old model's positions that they are or extend."""

    history: History
    positions: range
    origins: range


@dataclass(frozen=True)
class Classes:
    """The classes of an axis' positions by their history, each with one position that stands for it."""

    plan: Plan

    def of(self, axis: str, index: Index) -> dict[int, bool]:
        """Representative position -> whether it is new.

        Found place by place, so that an axis costs what its places are, however many positions it has.
        """
        if not any(step.axis == axis for step in self.plan.steps):
            return {0: False}
        found: dict[History, int] = {}
        for run in self.runs(axis, index):
            found[run.history] = min(run.positions.start, found.get(run.history, run.positions.start))
        return {p: not is_old(history) for history, p in sorted(found.items(), key=lambda item: item[1])}

    def runs(self, axis: str, index: Index) -> list[Stretch]:
        """The positions of an axis in runs of one history each."""
        whole = range(self.plan.target.of(axis, index))
        return list(self._runs(self.plan.steps, axis, index, whole))

    def _runs(self, steps: tuple[Step, ...], axis: str, index: Index, span: range) -> Iterator[Stretch]:
        """The runs of a span of positions after these steps."""
        if not steps:
            yield Stretch((), span, span)
            return
        *before, step = steps
        if step.axis != axis or not step.at(index):
            yield from self._runs(tuple(before), axis, _moved(index, step), span)
            return
        for place in step.places:
            ends = (-((place.start - end) // place.stride) for end in (span.start, span.stop))
            part = range(*(min(max(end, 0), place.count) + place.source for end in ends))
            for run in self._runs(tuple(before), axis, index, part) if part else ():
                yield Stretch((_kind(place.label), *run.history), _placed(place, run.positions), run.origins)

    def history(self, axis: str, index: Index, position: int) -> tuple[str, ...]:
        """The labels that this position had in each step on its axis, last step first."""
        return tuple(label for label, _ in self.past(axis, index, position))

    def past(self, axis: str, index: Index, position: int) -> Iterator[tuple[str, int]]:
        """(label, position before) of each step on this axis, last step first; the index moves too."""
        for step in reversed(self.plan.steps):
            if step.axis == axis and step.at(index):
                position, label = step.source(position)
                yield _kind(label), position
            else:
                index = _moved(index, step)


def _placed(place: Place, before: range) -> range:
    """Where positions go that a place keeps or extends."""
    start = place.start + (before.start - place.source) * place.stride
    step = before.step * place.stride
    return range(start, start + len(before) * step, step)


def _kind(label: str) -> str:
    """Labels of old places that are told apart ("old3") are one kind."""
    return OLD if label.startswith(OLD) else label


def _moved(index: Index, step: Step) -> Index:
    """The index of the same block before a step on another axis."""
    if step.axis not in dict(index) or not step.at(index):
        return index
    source, _ = step.source(dict(index)[step.axis])
    return tuple((name, source if name == step.axis else i) for name, i in index)


def is_old(history: tuple[str, ...]) -> bool:
    """Whether an entry comes from old ones alone, step by step."""
    return all(label == OLD for label in history)
