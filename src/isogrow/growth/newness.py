"""What of a grown model is new, by the names of its parameters: whole tensors, and boxes within old ones.

Pure data from a plan and the grown model's tensors' names and shapes: no weight is read. An entry is old if
the plan kept or scaled it; zeros (switches), free entries, means and copies are new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from isogrow.optim.moments import marked
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import lying
from isogrow.plans.parts import is_tied, made_of
from isogrow.plans.pieces import Box, OldBox
from isogrow.plans.plan import Plan


@dataclass(frozen=True)
class New:
    """What is new in one parameter of this shape: boxes that do not overlap, a range for each dim."""

    shape: tuple[int, ...]
    boxes: tuple[Box, ...]

    @property
    def count(self) -> int:
        """How many entries are new."""
        return sum(prod(map(len, box)) for box in self.boxes)

    @property
    def whole(self) -> bool:
        """Whether every entry is."""
        return self.count == prod(self.shape)

    @property
    def slices(self) -> tuple[tuple[slice, ...], ...]:
        """The boxes as indices of the tensor: `parameter[new.slices[0]]`."""
        return tuple(tuple(slice(r.start, r[-1] + 1, r.step) for r in box) for box in self.boxes)


@dataclass(frozen=True)
class NewEntries:
    """What is new in a grown model, by parameter. A tied tensor is there once, under its first name."""

    parameters: Mapping[str, New]

    @property
    def added(self) -> tuple[str, ...]:
        """The parameters that are new as a whole: those of new layers, of new experts' tensors, …"""
        return tuple(name for name, new in self.parameters.items() if new.whole)

    @property
    def grown(self) -> Mapping[str, New]:
        """The old parameters with new entries in them."""
        return {name: new for name, new in self.parameters.items() if not new.whole}

    @property
    def count(self) -> int:
        """How many entries are new in all."""
        return sum(new.count for new in self.parameters.values())

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON has it: a box is a list of [start, stop, step], one for each dim."""
        grown = {
            name: {"shape": list(new.shape), "new": new.count, "boxes": [_plain(box) for box in new.boxes]}
            for name, new in self.grown.items()
        }
        return {"new": self.count, "added": list(self.added), "grown": grown}


def new_in(anatomy: Anatomy, plan: Plan) -> NewEntries:
    """What `plan` made new in the model that it led to, which `anatomy` is of."""
    marks, found = marked(plan), dict[str, New]()
    for stored in anatomy.stored:
        if not is_tied(anatomy, stored):
            boxes = _joined(_new_boxes(stored, marks))
            if boxes:
                found[stored.source or stored.name] = New(stored.header.shape, boxes)
    return NewEntries(found)


def _new_boxes(stored: Stored, marks: Plan) -> Iterator[Box]:
    """The boxes of a stored tensor that are no old entries."""
    counts = tuple(len(dim.factors) for dim in stored.line.parsed.dims)
    for view, piece in made_of(stored, marks):
        if not isinstance(piece.value, OldBox):
            yield from lying(view, piece.out, counts)


def _joined(boxes: Iterator[Box]) -> tuple[Box, ...]:
    """The same entries in fewer boxes: neighbours along a dim that are alike in all others are one."""
    found = list(boxes)
    for dim in reversed(range(len(found[0]) if found else 0)):
        beside: dict[tuple[range, ...], list[range]] = {}
        for box in found:
            beside.setdefault((*box[:dim], *box[dim + 1 :]), []).append(box[dim])
        found = [(*rest[:dim], r, *rest[dim:]) for rest, ranges in beside.items() for r in _chained(ranges)]
    return tuple(sorted(found, key=lambda box: [(r.start, r.stop, r.step) for r in box]))


def _chained(ranges: list[range]) -> list[range]:
    """Ranges that do not overlap, in order, those that follow each other as one."""
    found: list[range] = []
    plain = (range(r.start, r.start + 1) if len(r) == 1 else r for r in ranges)
    for r in sorted(plain, key=lambda r: (r.start, r.stop)):
        if found and found[-1].step == r.step == 1 and found[-1].stop == r.start:
            found[-1] = range(found[-1].start, r.stop)
        else:
            found.append(r)
    return found


def _plain(box: Box) -> list[list[int]]:
    return [[r.start, r.stop, r.step] for r in box]
