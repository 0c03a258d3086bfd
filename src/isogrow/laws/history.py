"""What became of each position on an axis in the steps of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isogrow.layout import Index
from isogrow.plan import OLD, Plan


@dataclass(frozen=True)
class Classes:
    """The classes of an axis' positions by their history, each with one position that stands for it."""

    plan: Plan

    def of(self, axis: str, index: Index) -> dict[int, bool]:
        """Representative position -> whether it is new."""
        if not any(step.axis == axis for step in self.plan.steps):
            return {0: False}
        found: dict[tuple[str, ...], int] = {}
        for position in range(self.plan.target.of(axis, index)):
            found.setdefault(self.history(axis, index, position), position)
        return {position: not is_old(history) for history, position in found.items()}

    def history(self, axis: str, index: Index, position: int) -> tuple[str, ...]:
        """The labels that this position had in each step on its axis, last step first."""
        return tuple(label for label, _ in self.past(axis, index, position))

    def past(self, axis: str, index: Index, position: int) -> Iterator[tuple[str, int]]:
        """(label, position before) of each step on this axis, last step first; the index moves too."""
        for step in reversed(self.plan.steps):
            if step.axis == axis and step.at(index):
                position, label = step.source(position)
                yield (OLD if label.startswith(OLD) else label), position
            elif step.axis in dict(index) and step.at(index):
                source, _ = step.source(dict(index)[step.axis])
                index = tuple((name, source if name == step.axis else i) for name, i in index)


def is_old(history: tuple[str, ...]) -> bool:
    return all(label == OLD for label in history)
