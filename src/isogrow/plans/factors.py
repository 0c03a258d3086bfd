"""What becomes of a low-rank adapter (LoRA, arXiv 2106.09685) when its base grows.

An adapter adds s B A to a weight W: A reads what W reads, B writes what W writes, and both have the rank r,
which no growth changes. A growth is an affine map G of each weight, entry by entry, whose linear part is L:
kept, scaled and copied entries and means are linear, constants and free entries are its offset. The base's
growth is exact whatever its weights are, so it is for W + s B A, and

    G(W + s B A) = G(W) + s L(B A)

G(W) is what the grown base holds. A step acts along one axis, and one of the two has it, so L goes through:

    L(B A) = L(B) A   where B has the axis,      L(B A) = B L(A)   where A has it

New blocks (of a new layer) add nothing: B is zero, and A is drawn as a new adapter's is, so that B learns.
The parts of a fused weight (queries, keys, values) share one of the two. A step along an axis of what they
share must say the same of each part, up to a number for each, which goes to the part's own rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt
from typing import Literal

from isogrow.errors import LawError
from isogrow.layouts.layout import Layout, Line, Slot
from isogrow.layouts.lines import name_axes
from isogrow.layouts.pattern import Dim, Pattern, Sum
from isogrow.plans.plan import OLD, Constant, Entry, Free, Init, Mean, Old, Plan, Rewrite, Step
from isogrow.plans.sizes import Sizes

Side = Literal["A", "B"]
ZERO = Constant(0.0)


@dataclass(frozen=True)
class Factors:
    """The two matrices of an adapter of rank `rank` beside the weights that `line` names.

    `names` are the templates of A's and B's own names, `dims` how many dims the stored ones have.
    """

    line: Line
    rank: int
    names: tuple[str, str]
    dims: int = 2

    @cached_property
    def parted(self) -> Side:
        """The side on which the parts of a fused weight lie; B, where it is not fused."""
        read = _dims(self.line.parsed, "A")
        return "A" if any(isinstance(factor, Sum) for dim in read for factor in dim.factors) else "B"

    @property
    def shared(self) -> Side:
        """The other side, which all parts have in common."""
        return "A" if self.parted == "B" else "B"

    def slots(self, side: Side) -> tuple[str, ...]:
        """The slots of a side: one for each part, or one for all."""
        names = [slot.name for slot in self.line.slots]
        found = names if side == self.parted else ["+".join(names)]
        return tuple(f"{name}.lora_{side}" for name in found)

    def lines(self) -> tuple[Line, Line]:
        """Where A and B lie.

        A mixture's experts that are stacked in one tensor have one pair of matrices: A's rows are counted by
        expert and rank, B's columns by rank and expert.
        """
        return self._line("A"), self._line("B")

    def _line(self, side: Side) -> Line:
        own = self.line.parsed
        blocks, dims = own.index, _dims(own, side)
        if side == "A":
            pattern = Pattern((Dim((*blocks, str(self.rank))),), "<-", dims)
        else:
            ones = (Dim(("1",)),) * (self.dims - len(dims) - 1)
            pattern = Pattern(dims, "<-", (Dim((str(self.rank), *blocks)), *ones))
        name = self.names[side == "B"]
        index = name_axes(name)
        slots = (
            Slot(slot, pattern.produced(part), pattern.consumed(part), index=index)
            for slot, part in zip(self.slots(side), pattern.parts, strict=True)
        )
        return Line(name, str(pattern), tuple(slots))


def _dims(pattern: Pattern, side: Side) -> tuple[Dim, ...]:
    """The dims that a weight reads (A) or writes (B), without those that number its blocks."""
    read, written = (pattern.right, pattern.left) if pattern.arrow == "<-" else (pattern.left, pattern.right)
    return tuple(dim for dim in (read if side == "A" else written) if not dim.index)


def factored(plan: Plan, layout: Layout, adapters: Iterable[Factors], whole: Iterable[Line]) -> Plan:
    """The base's plan for an adapter's matrices, and for what it holds `whole` in place of the base's own.

    Raises `LawError` for what no matrices of the same rank can follow.
    """
    adapters, whole = tuple(adapters), tuple(whole)
    steps: list[Step] = []
    for step, after in zip(plan.steps, plan.stages[1:], strict=True):
        rewrites: dict[str, Rewrite] = {}
        for line in whole:
            rewrites |= {slot.name: _whole(step, slot, layout) for slot in line.slots}
        for each in adapters:
            rewrites |= _rewrites(step, each, layout, after)
        said = {slot: rewrite for slot, rewrite in rewrites.items() if rewrite}
        steps.append(dataclasses.replace(step, rewrites=said, config={}))
    return dataclasses.replace(plan, steps=tuple(steps), config={})


def _whole(step: Step, slot: Slot, layout: Layout) -> Rewrite:
    """What a tensor takes that stands in place of the base's own: a tied head, that of what it is tied to,
    since PEFT may save the one tensor under the head's name."""
    found = _said(step, slot, layout)
    if slot.name not in step.rewrites and found:
        found = step.rewrites.get(slot.tied, found)
    for entry in found.values():
        _check_weights(entry, slot)
    return found


def _rewrites(step: Step, adapter: Factors, layout: Layout, after: Sizes) -> dict[str, Rewrite]:
    slots = adapter.line.slots
    said = [_linear(step, slot, layout) for slot in slots]
    axis, parted = step.axis, adapter.slots(adapter.parted)
    (shared,) = adapter.slots(adapter.shared)
    if axis in slots[0].index:
        return _numbered(adapter, said, after)
    on_shared = [axis in _axes(slot, adapter.shared) for slot in slots]
    if any(on_shared):
        common, ratios = _common(step, adapter, said)
        scaled = {name: {OLD: Old(r)} for name, r in zip(parted, ratios, strict=True) if r != 1.0}
        return {shared: common, **scaled}
    found: dict[str, Rewrite] = {}
    for name, slot, rewrite in zip(parted, slots, said, strict=True):
        dense = axis in _axes(slot, adapter.parted)
        found[name] = rewrite if dense else {OLD: rewrite[OLD]} if rewrite.get(OLD, Old()) != Old() else {}
    return found


def _numbered(adapter: Factors, said: list[Rewrite], after: Sizes) -> dict[str, Rewrite]:
    """A step along an axis that numbers blocks: a new one's B is zero, and its A is drawn."""
    parted: dict[str, dict[str, Entry]] = {name: {} for name in adapter.slots(adapter.parted)}
    (name,) = adapter.slots(adapter.shared)
    shared: dict[str, Entry] = {}
    fresh: Mapping[Side, Entry] = {"A": _fresh(adapter, after), "B": ZERO}
    for label in dict.fromkeys(label for rewrite in said for label in rewrite):
        entries = [rewrite.get(label, Old()) for rewrite in said]
        none = not any(isinstance(entry, Old) for entry in entries)
        shared[label] = fresh[adapter.shared] if none else Old()
        for part, entry in zip(parted, entries, strict=True):
            kept = isinstance(entry, Old)
            parted[part][label] = entry if kept else fresh[adapter.parted] if none else ZERO
    return {name: shared, **parted}


def _fresh(adapter: Factors, after: Sizes) -> Free:
    """A new adapter's A as PEFT draws it: uniform, up to one over the root of what it reads."""
    axes = adapter.line.slot.consumed
    read = prod(int(axis) if axis.isdigit() else after.of(axis, _any_site(after, axis)) for axis in axes)
    return Free(Init("uniform", 1 / sqrt(3 * read)))


def _any_site(sizes: Sizes, axis: str) -> tuple[tuple[str, int], ...]:
    return next(iter(sizes.all_sites(axis)))


def _common(step: Step, adapter: Factors, said: list[Rewrite]) -> tuple[Rewrite, list[float]]:
    """What all parts have in common along an axis that they share, and each part's own number."""
    first = said[0]
    scale = _scale(first)
    ratios = [_scale(rewrite) / scale for rewrite in said]
    for slot, rewrite, ratio in zip(adapter.line.slots, said, ratios, strict=True):
        labels = dict.fromkeys((*first, *rewrite))
        if any(not _alike(first.get(at, Old()), rewrite.get(at, Old()), ratio) for at in labels):
            raise LawError(
                f"{adapter.line.slot.name} and {slot.name} are one tensor, whose adapter has one matrix that"
                f" reads {step.axis}, and the base's plan says different things of the two there: merge the"
                " adapter into its base (merge_and_unload), and grow that"
            )
    return first, ratios


def _alike(first: Entry, entry: Entry, ratio: float) -> bool:
    """Whether an entry is the first one, times a number."""
    match first, entry:
        case (Old(a), Old(b)) | (Mean("", a), Mean("", b)):
            return abs(a * ratio - b) <= 4e-16 * abs(b)
        case _:
            return first == entry


def _scale(rewrite: Rewrite) -> float:
    old = rewrite.get(OLD, Old())
    assert isinstance(old, Old) and old.a, f"an old entry became {old}"
    return old.a


def _axes(slot: Slot, side: Side) -> tuple[str, ...]:
    return slot.consumed if side == "A" else slot.produced


def _linear(step: Step, slot: Slot, layout: Layout) -> Rewrite:
    """The linear part of what a step says of a slot."""
    return {label: _part(entry, slot) for label, entry in _said(step, slot, layout).items()}


def _part(entry: Entry, slot: Slot) -> Entry:
    _check_weights(entry, slot)
    if isinstance(entry, Old):
        return Old(entry.a)
    return entry if isinstance(entry, Mean) else ZERO


def _check_weights(entry: Entry, slot: Slot) -> None:
    """A mean that the base's own gain weighs is of numbers that no adapter holds."""
    if isinstance(entry, Mean) and entry.weights:
        raise LawError(
            f"new channels of {slot.name} are a mean that the base's {entry.weights} weighs, which an adapter"
            " does not hold: merge the adapter into its base (merge_and_unload), and grow that"
        )


def _said(step: Step, slot: Slot, layout: Layout) -> Rewrite:
    """What a step says of a slot, and of one that has no entries of its own in the base: a tied head, or one
    that the base's file lacks. Such a head reads what the base's head reads, and of new channels nothing."""
    known = slot.name in step.rewrites
    if known or step.axis not in (*slot.index, *slot.axes):
        return step.rewrites.get(slot.name, {})
    if step.axis not in slot.consumed:
        raise LawError(
            f"the base's plan grows {step.axis} and says nothing of {slot.name}, which the adapter holds: the"
            " grown base has no such part, so load the small base with it, save that, and grow it"
        )
    new = {place.label: ZERO for place in step.places if not place.old}
    return {OLD: Old(_read_at(step, slot, layout)), **new}


def _read_at(step: Step, slot: Slot, layout: Layout) -> float:
    """The number that a head of the base takes where this one is none of its slots."""
    tied = step.rewrites.get(slot.tied)
    if tied is not None:
        return _scale(tied)
    heads = [
        step.rewrites[name]
        for name, other in layout.slots.items()
        if name in step.rewrites
        and other.head
        and step.axis in other.consumed
        and layout.stream(other) == layout.stream(slot)
    ]
    if heads:
        return _scale(heads[0])
    embedded = [step.rewrites[head.tied] for head in layout.table if head.tied in step.rewrites]
    if any(_scale(rewrite) != 1.0 for rewrite in embedded):
        raise LawError(
            f"{slot.name} is no part of the base's file, and whether the growth of {step.axis} scales what it"
            " reads is not known without: load the small base with it, save that, and grow it"
        )
    return 1.0
