"""The lines of a grown model in the order in which it runs them, and the blocks that stand for all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from isogrow.anatomy import Anatomy, name_axes
from isogrow.laws.history import Classes
from isogrow.layout import Index, Weight
from isogrow.pieces import Block, origin
from isogrow.plan import Plan


@dataclass(frozen=True)
class Walk:
    """How a grown model is gone through."""

    anatomy: Anatomy
    plan: Plan

    @cached_property
    def lines(self) -> list[Weight]:
        """The lines that this model has, and the tied head that it does not store."""
        stored = {tensor.weight for tensor in self.anatomy.stored}
        heads = any(weight.head for weight in stored)
        return [
            weight
            for weight in self.anatomy.layout.weights
            if (weight in stored and not weight.shared)
            or weight in self.anatomy.plain_norms
            or (self.anatomy.tied and weight.tied in self.anatomy.slots and self._fed(weight, heads))
        ]

    def order(self) -> Iterator[tuple[Weight, Index]]:
        """Lines as they run: what shares an outermost index axis is gone through index by index."""
        groups: list[tuple[str, list[Weight]]] = []
        for weight in self.lines:
            outer = (name_axes(weight) or ("",))[0]
            if not groups or groups[-1][0] != outer:
                groups.append((outer, []))
            groups[-1][1].append(weight)
        for outer, weights in groups:
            outers = self.representatives((outer,), ()) if outer else iter([()])
            for index in outers:
                for weight in weights:
                    for full in self.representatives(name_axes(weight)[1:], index):
                        if self._there(weight, full):
                            yield weight, full

    def representatives(self, axes: tuple[str, ...], index: Index) -> Iterator[Index]:
        """Indices that stand for all: of a run of layers with one history and lines, the first and the last;
        of heads with one history, the first."""
        sizes, classes = self.plan.target, Classes(self.plan)
        if not axes:
            yield index
            return
        if axes[0] in self._dense:
            for i in classes.of(axes[0], index):
                yield from self.representatives(axes[1:], (*index, (axes[0], i)))
            return
        count = sizes.of(axes[0], index)
        past = [(classes.history(axes[0], index, i), self._kind(axes[0], index, i)) for i in range(count)]
        edge = [i in (0, count - 1) or past[i - 1] != past[i] or past[i + 1] != past[i] for i in range(count)]
        for i in range(count):
            if edge[i] or sizes.sites:
                yield from self.representatives(axes[1:], (*index, (axes[0], i)))

    def _fed(self, weight: Weight, heads: bool) -> bool:
        """Whether a tied head that is not stored has something to read: an axis that is produced, or the
        residual where no head is stored that reads it instead."""
        wanted = set(weight.parsed.consumed()) - {self.anatomy.layout.residual}
        made = {a for w, p in self.anatomy.slots.values() for a in w.parsed.produced(p)}
        return wanted <= made if wanted else not heads and self.anatomy.tied_head

    def _there(self, weight: Weight, index: Index) -> bool:
        """Whether a line acts at an index: it has a tensor where what the index extends is, shares one, or
        needs none."""
        before = origin(self.plan, Block(weight.slots()[0][1], index, ())).index
        return not weight.stored or bool(weight.tied) or (weight, before) in self._stored

    def _kind(self, axis: str, index: Index, i: int) -> frozenset[Weight]:
        """The lines that have a tensor in one block of an outermost index axis (a dense layer's, say)."""
        if index:
            return frozenset()
        past = list(Classes(self.plan).past(axis, index, i))
        return self._at.get((axis, past[-1][1] if past else i), frozenset())

    @cached_property
    def _dense(self) -> set[str]:
        """The axes along which some tensor has entries."""
        return {a for w in self.lines for part in w.parsed.parts for a in w.parsed.axes(part)}

    @cached_property
    def _stored(self) -> set[tuple[Weight, Index]]:
        return {(tensor.weight, tensor.index) for tensor in self.anatomy.stored}

    @cached_property
    def _at(self) -> dict[tuple[str, int], frozenset[Weight]]:
        """The lines that have a tensor at each position of each outermost index axis."""
        found: dict[tuple[str, int], set[Weight]] = {}
        for weight, index in (each for each in self._stored if each[1]):
            found.setdefault(index[0], set()).add(weight)
        return {at: frozenset(lines) for at, lines in found.items()}
