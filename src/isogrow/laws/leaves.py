"""The leaves of a grown model's network: one for each class of entries of one history."""

from __future__ import annotations

from itertools import product

from isogrow.laws.history import Classes, is_old
from isogrow.laws.network import Cancels, Combo, Entry, Network
from isogrow.laws.walking import twin_axes
from isogrow.layouts.layout import Index
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.pieces import Average, Block, Fill, Piece, pieces
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes


class Leaves:
    """What a plan says the entries of a grown model are, class by class."""

    def __init__(self, anatomy: Anatomy, plan: Plan, net: Network) -> None:
        self.anatomy, self.plan, self.layout, self.net = anatomy, plan, anatomy.layout, net
        self.sizes: Sizes = plan.target
        self.history = Classes(plan)
        self.cache: dict[tuple[str, Index], dict[int, bool]] = {}
        self.whole: dict[Index, bool] = {}

    def combos(self, axes: tuple[str, ...], index: Index) -> list[Combo]:
        lists = [[(axis, p) for p in self.classes(axis, index)] for axis in axes]
        return [tuple(combo) for combo in product(*lists)]

    def classes(self, axis: str, index: Index) -> dict[int, bool]:
        key = (axis, index if axis in self.sizes.sites else ())
        if key not in self.cache:
            self.cache[key] = self.history.of(axis, index)
        return self.cache[key]

    def entry(self, slot: str, index: Index, combo: Combo, offset: float) -> Entry:
        """The leaf of one class of entries, shared by tied weights."""
        slot, combo = self._tied(slot, combo)
        key = (slot, index, tuple(sorted(combo)))
        if key not in self.net.entries:
            axes = tuple(axis for axis, _ in combo)
            point = tuple(range(p, p + 1) for _, p in combo)
            (piece,) = pieces(self.plan, Block(slot, index, axes), point)
            node = self.net.node("leaf")
            node.value = not self._zero(piece, offset)
            new = not self.old(index, combo)
            self.net.entries[key] = Entry(slot, index, combo, new, self._cancels(piece), node)
        return self.net.entries[key]

    def _zero(self, piece: Piece, offset: float = 0.0) -> bool:
        value = piece.value
        if isinstance(value, Average):
            parts = pieces(self.plan, value.block, value.box, value.steps)
            return all(self._zero(part) for part in parts) or self._weightless(value)
        return isinstance(value, Fill) and value.value + offset == 0.0

    def _weightless(self, average: Average) -> bool:
        """Whether all weights of a mean are zero."""
        if not average.weights:
            return False
        block = Block(average.weights, average.block.index, (average.block.axes[average.dim],))
        parts = pieces(self.plan, block, (average.box[average.dim],), average.steps)
        return all(self._zero(part) for part in parts)

    def _cancels(self, piece: Piece) -> Cancels:
        value = piece.value
        if isinstance(value, Average):
            return "mean" if value.block.axes[value.dim] in self.layout.residuals else ""
        stream = getattr(value, "key", "").rpartition("/")[2]
        return "pair" if stream.startswith("pair") else ""

    def _tied(self, slot: str, combo: Combo) -> tuple[str, Combo]:
        """The slot that really holds a tied weight's entries, under its own axes' names."""
        tied = self.layout.slots[slot].tied
        if not (self.anatomy.ties(self.layout.slots[slot]) and tied in self.anatomy.slots):
            return slot, combo
        other = self.anatomy.slots[tied]
        names = twin_axes(self.layout.slots[slot], other)
        moved = {names[axis]: self.class_of(names[axis], p) for axis, p in combo}
        return tied, tuple((axis, moved[axis]) for axis in other.axes)

    def class_of(self, axis: str, position: int) -> int:
        """The representative of a position's class."""
        history = self.history.history(axis, (), position)
        return next(p for p in self.classes(axis, ()) if self.history.history(axis, (), p) == history)

    def old(self, index: Index, combo: Combo) -> bool:
        """Whether everything about a combination was there before the plan."""
        if index not in self.whole:
            self.whole[index] = all(
                is_old(self.history.history(axis, index[:place], i)) for place, (axis, i) in enumerate(index)
            )
        return self.whole[index] and all(not self.classes(axis, index)[p] for axis, p in combo)
