"""What a growth changes that a reader of the checkpoint may care for: derived from any plan, for any
family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from isogrow.layouts.config import Config, edited
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Layout, Rope
from isogrow.plans.plan import OLD, Plan
from isogrow.plans.sizes import Sizes
from isogrow.plans.words import with_words


@dataclass(frozen=True)
class Side:
    """A model before or after: its config and its sizes."""

    layout: Layout
    config: Config
    sizes: Sizes
    itemsize: int

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What a row's formula may name: sizes by axis and by word, and the bytes of a weight."""
        return {**with_words(self.sizes.values), "itemsize": self.itemsize}

    def holds(self, condition: str, n: int = 0) -> bool:
        """Whether a formula over sizes is true; one that names what this model lacks is."""
        facts = {**self.facts, "n": n}
        return not all(name in facts for name in names(condition)) or bool(evaluate(condition, facts))

    def value(self, key: str) -> float | None:
        """The number of a config key as the model's class reads it; a θ by any of its names."""
        rope = next((rope for rope in self.ropes if key in rope.theta), None)
        if rope is not None:
            return rope.base(self.config)
        said = self.layout.defaults(self.config)
        return float(said[key]) if key in said else None

    @cached_property
    def ropes(self) -> tuple[Rope, ...]:
        """The rotary tables that this config has the model read."""
        ropes = (rope for attention in self.layout.attentions for rope in attention.ropes)
        return tuple(rope for rope in ropes if self.layout.holds(rope.when, self.config))

    def scale(self) -> float:
        """The scale of the first attention."""
        attention = next(iter(self.layout.attentions))
        view = self.layout.facts(self.config, {**self.sizes.values, "layer": 0})
        return float(evaluate(attention.scale, view)) if attention.scale else 1.0

    def widths(self) -> Iterator[tuple[str, int]]:
        """(slot, outputs) of every projection that is no head, fused ones in one."""
        for line in (line for weight in self.layout.weights for line in weight.lines()):
            axes = [axis for slot in line.slots for axis in slot.axes]
            known = all(axis.isdigit() or self.sizes.has(axis) for axis in axes)
            reads = [slot.consumed for slot in line.slots]
            if known and all(reads) and not line.slot.head and "vocab" not in axes:
                yield line.slot.name, sum(self._produced(slot.produced) for slot in line.slots)

    def _produced(self, axes: tuple[str, ...]) -> int:
        found = 1
        for axis in axes:
            found *= self.sizes.of(axis)
        return found


@dataclass(frozen=True)
class Change:
    """A model before and after a plan."""

    before: Side
    after: Side
    plan: Plan

    @property
    def family(self) -> str:
        return self.before.layout.family

    def grows(self, word: str) -> bool:
        """Whether a size changes."""
        return self.before.facts.get(word) != self.after.facts.get(word)

    def moved(self, axis: str = "layers") -> Iterator[tuple[int, int]]:
        """(number before, number after) of every old layer."""
        if not self.before.sizes.has(axis):
            return
        numbers: list[int | None] = list(range(self.before.sizes.of(axis)))
        for step in (step for step in self.plan.steps if step.axis == axis):
            sources = [step.source(position) for position in range(step.new)]
            numbers = [numbers[source] if label.startswith(OLD) else None for source, label in sources]
        yield from ((number, at) for at, number in enumerate(numbers) if number is not None)


def change(layout: Layout, config: Config, plan: Plan, itemsize: int = 4) -> Change:
    """What a plan makes of a model of this config, whose weights have `itemsize` bytes each."""
    before = Side(layout, config, plan.source, itemsize)
    return Change(before, Side(layout, edited(config, plan.config), plan.target, itemsize), plan)
