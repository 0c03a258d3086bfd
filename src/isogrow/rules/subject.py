"""What a rule asks of the model that it grows: who has an axis, in which role, under which norm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from isogrow.anatomy import Anatomy, index_axes
from isogrow.config import Config
from isogrow.errors import SizeError
from isogrow.formula import evaluate, names
from isogrow.layout import Attention, Layout, Norm, Weight
from isogrow.plan import Init, Old, Step
from isogrow.sizes import Sizes

Role = Literal["producer", "consumer", "gain", "shift"]
Reading = Literal["gain", "plain", "bare"]


@dataclass(frozen=True)
class Use:
    """How one slot uses an axis. A norm's gain and shift (bias) are roles of their own."""

    slot: str
    role: Role
    weight: Weight
    norm: Norm | None


@dataclass(frozen=True)
class Subject:
    """The model at some step of a plan: its layout, config, sizes and slots; whether a head reads the
    residual through the embedding's own entries, or might when it is loaded (`may_tie`); the norms that it
    applies without a tensor; the steps before."""

    layout: Layout
    config: Config
    sizes: Sizes
    slots: dict[str, tuple[Weight, str]]
    tied_head: bool
    plain_norms: tuple[Weight, ...] = ()
    may_tie: bool = False
    before: tuple[Step, ...] = ()

    def uses(self, axis: str) -> Iterator[Use]:
        """Every slot that has `axis` as a dense axis."""
        for slot, (weight, part) in self.slots.items():
            pattern = weight.parsed
            if axis in pattern.consumed(part):
                yield Use(slot, "consumer", weight, weight.norm)
            elif axis in pattern.produced(part):
                role: Role = "producer" if weight.norm is None else "shift"
                yield Use(slot, "gain" if pattern.gate else role, weight, weight.norm)

    def norms(self, axis: str) -> tuple[Norm, ...]:
        """The norms over `axis`."""
        lines = (*(use.weight for use in self.uses(axis)), *self.plain_norms)
        return tuple({line.norm: None for line in lines if line.norm is not None and axis in line.normed})

    def all_norms(self) -> tuple[Norm, ...]:
        return tuple({w.norm: None for w, _ in self.slots.values() if w.norm is not None})

    def clamped(self, slot: str) -> str:
        """By what the model clamps what this slot, or the weight that it is the bias of, gives; "": not."""
        lines = (self.slots[s][0] for s in (slot, slot.removesuffix(".bias")) if s in self.slots)
        return next((line.clamp for line in lines if self.layout.clamps(line, self.config)), "")

    def drawn(self, init: Init, slot: str, axis: str) -> Init:
        """How `slot` is filled where `axis` grows: `init`, but normal where copies would be twins.

        A copied unit differs from its original by what reads it: that is zero for the copy. So nothing
        is copied twice: neither on one axis, nor on two inner axes, nor into a new layer.
        """
        weight, part = self.slots[slot]
        contracted = {attention.axis for attention in self.layout.attentions}
        inner = {*weight.parsed.produced(part), *index_axes(weight)} - contracted - {self.layout.residual}
        twice = (inner if axis in inner else set[str]()) | {axis}
        copied = any(
            not place.old and isinstance(step.entry(slot, place.label), Old)
            for step in self.before
            if step.axis in twice and not (step.axis == axis and self.is_index(axis))
            for place in step.places
        )
        return Init("normal", init.std) if init.kind == "copy" and copied else init

    def reading(self, axis: str) -> dict[str, Reading]:
        """How each slot (a tied head's, too) reads `axis`: behind a norm with a gain, or behind one without a
        tensor ("plain"), or as it is ("bare"); "" is the model's output, where it shows the axis."""
        found: dict[str, Reading] = {}
        streams: dict[str, Reading] = {}
        shown: dict[str, Reading] = {}
        for line in self.layout.weights:
            pre = line.norm is not None and line.norm.where == "pre"
            written = dict.fromkeys(line.stream.split() or ("",))
            for part, slot in line.slots():
                writes = slot in self.slots and axis in line.parsed.produced(part)
                if writes or (pre and line in self.plain_norms):
                    how: Reading = "bare" if not pre else "gain" if writes else "plain"
                    streams |= dict.fromkeys(written, how)
                    shown |= dict.fromkeys(written, how)
                own = slot in self.slots or (self.tied_head and line.tied in self.slots)
                if own and axis in line.parsed.consumed(part):
                    found[slot] = streams.get(line.stream, "bare")
                    shown.pop(line.stream, None)
        if shown:
            found[""] = next(iter(shown.values()))
        return found

    def numbered(self, axis: str) -> tuple[str, ...]:
        """The slots whose blocks `axis` numbers (a norm per head has a block for each)."""
        return tuple(slot for slot, (weight, _) in self.slots.items() if axis in index_axes(weight))

    def is_index(self, axis: str) -> bool:
        """Whether `axis` numbers blocks (layers, experts)."""
        return bool(self.numbered(axis))

    def times(self, use: Use, axis: str, old: int, new: int) -> float:
        """What undoes that the model multiplies this slot's output by a function of `axis`: m(old)/m(new)."""
        return self.undone(use.weight.times, axis, old, new)

    def undone(self, times: str, axis: str, old: int, new: int) -> float:
        """m(old)/m(new) for a formula m over `axis`; 1 where there is none."""
        if not times:
            return 1.0
        view = self.layout.facts(self.config, self.sizes.values)
        before, after = (float(evaluate(times, view.over({axis: n}))) for n in (old, new))
        return before / after

    def before_tied_head(self, line: Weight) -> bool:
        """Whether a line is of the last norm before a head that is the embedding."""
        residual = self.layout.residual
        heads = [w for w in self.layout.weights if w.tied and residual in w.parsed.consumed()]
        last = line.norm is not None and index_axes(line) == ()
        return self.tied_head and last and any(head.stream == line.stream for head in heads)

    def gate(self, slot: str) -> str:
        """The gain without a norm that multiplies what this slot writes; "" if there is none."""
        stem = slot.removesuffix(".bias")
        return next((gate for gate, (weight, _) in self.slots.items() if weight.gates == stem), "")

    def stem(self, stem: str) -> tuple[str, ...]:
        """The slots of one projection: itself, and its bias."""
        return tuple(s for s in self.slots if s in (stem, f"{stem}.bias"))

    def beside(self, axis: str) -> tuple[Attention, ...]:
        """The contractions along other axes whose scale depends on this one: all in one softmax."""
        others = (a for a in self.layout.attentions if a.axis != axis and a.key in self.slots)
        return tuple(a for a in others if axis in names(a.scale))

    def attentions(self, axis: str) -> tuple[Attention, ...]:
        return tuple(a for a in self.layout.attentions if a.axis == axis and a.key in self.slots)


def check_unclamped(subject: Subject, axis: str, slots: Iterable[str], mend: str) -> None:
    """Refuse to scale what the model clamps before its use: clamp(c x) is not c clamp(x)."""
    for slot in slots:
        if clamp := subject.clamped(slot):
            raise SizeError(
                f"{axis} can't grow: {slot} would have to be scaled, and the model clamps what it gives"
                f" ({clamp}), which no scale passes; {mend}"
            )


def subject(anatomy: Anatomy) -> Subject:
    """The model before the first step."""
    return Subject(
        anatomy.layout,
        anatomy.config,
        anatomy.sizes,
        anatomy.slots,
        anatomy.tied_head,
        anatomy.plain_norms,
        anatomy.may_tie,
    )
