"""What a rule asks of the model that it grows: who has an axis, in which role, under which norm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from isogrow.errors import SizeError
from isogrow.layouts.config import Config
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Attention, Layout, Norm, Slot
from isogrow.layouts.slots import closing
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.choices import Choices
from isogrow.plans.plan import Constant, Init, Old, Step
from isogrow.plans.sizes import Sizes
from isogrow.plans.words import word_for

Role = Literal["producer", "consumer", "gain", "shift"]
Reading = Literal["gain", "plain", "bare"]


@dataclass(frozen=True)
class Use:
    """How one slot uses an axis. A norm's gain and shift (bias) are roles of their own."""

    slot: Slot
    role: Role

    @property
    def name(self) -> str:
        return self.slot.name

    @property
    def norm(self) -> Norm | None:
        return self.slot.norm


@dataclass(frozen=True)
class Subject:
    """The model at some step of a plan: its layout, config, sizes and slots; whether a head reads the
    residual through the embedding's own entries, or might when it is loaded (`may_tie`); the norms that it
    applies without a tensor; the steps before; what the asker calls axes, where that is another word; what is
    chosen where the laws leave a choice."""

    layout: Layout
    config: Config
    sizes: Sizes
    slots: dict[str, Slot]
    tied_head: bool
    plain_norms: tuple[Slot, ...] = ()
    may_tie: bool = False
    before: tuple[Step, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict[str, str])
    choices: Choices = Choices()

    def word(self, axis: str) -> str:
        """What a refusal calls an axis."""
        return self.words.get(axis) or word_for(axis, self.layout.stacks)

    def cannot_grow(self, axis: str, why: str) -> SizeError:
        """The refusal of an axis, whatever the size."""
        return SizeError(f"{self.word(axis)} can't grow: {why}", whatever=True)

    def uses(self, axis: str) -> Iterator[Use]:
        """Every slot that has `axis` as a dense axis."""
        for slot in self.slots.values():
            if axis in slot.consumed:
                yield Use(slot, "consumer")
            elif axis in slot.produced:
                role: Role = "producer" if slot.norm is None else "shift"
                yield Use(slot, "gain" if slot.gain else role)

    def norms(self, axis: str) -> tuple[Norm, ...]:
        """The norms over `axis`."""
        slots = (*(use.slot for use in self.uses(axis)), *self.plain_norms)
        return tuple({slot.norm: None for slot in slots if slot.norm is not None and axis in slot.normed})

    def all_norms(self) -> tuple[Norm, ...]:
        slots = (*self.slots.values(), *self.plain_norms)
        return tuple({slot.norm: None for slot in slots if slot.norm is not None})

    def clamped(self, slot: str) -> str:
        """By what the model clamps what this slot, or the weight that it is the bias of, gives; "": not."""
        own = self.slots[slot]
        both = (own, self.slots.get(own.stem, own))
        return next((each.clamp for each in both if self.layout.clamps(each, self.config)), "")

    def drawn(self, init: Init, slot: str, axis: str) -> Init:
        """How `slot` is filled where `axis` grows: `init`, but normal where copies would be twins, or dead.

        A copied unit differs from its original by what reads it: that is zero for the copy. So nothing
        is copied twice: neither on one axis, nor on two inner axes, nor into a new layer. Nor are zeros
        copied that another inner axis has for its switch (values under a norm), since zeros read the copy.
        """
        own = self.slots[slot]
        contracted = {attention.axis for attention in self.layout.attentions}
        inner = {*own.produced, *own.index} - contracted - self.layout.residuals
        twice = (inner if axis in inner else set[str]()) | {axis}
        switches = inner & {*own.produced} if axis in own.produced else set[str]()
        spent = any(
            isinstance(step.entry(slot, place.label), (Old, Constant) if step.axis in switches else Old)
            for step in self.before
            if step.axis in twice and not (step.axis == axis and self.is_index(axis))
            for place in step.places
            if not place.old
        )
        return Init("normal", init.std) if init.kind == "copy" and spent else init

    def reading(self, axis: str) -> dict[str, Reading]:
        """How each slot (a tied head's, too) reads `axis`: behind a norm with a gain, or behind one without a
        tensor ("plain"), or as it is ("bare"); "" is the model's output, where it shows the axis."""
        found: dict[str, Reading] = {}
        for table in self._kinds():
            found |= self._read(axis, table)
        return found

    def _kinds(self) -> list[tuple[Slot, ...]]:
        """The table as each kind of layer (a dense one, a mixture of experts) runs it."""
        layout = self.layout
        here = [
            s for s in layout.table if not s.when or self._numbering(s) or layout.holds(s.when, self.config)
        ]
        axes = dict.fromkeys(self._numbering(slot) for slot in here if self._numbering(slot))
        found: dict[tuple[Slot, ...], None] = {}
        for axis in axes:
            for at in range(self.sizes.of(axis)) if self.sizes.has(axis) else ():
                there = (s for s in here if self._numbering(s) != axis or self._there(s, axis, at))
                found[tuple(there)] = None
        return list(found) or [tuple(here)]

    def _numbering(self, slot: Slot) -> str:
        """The axis whose number a slot's condition asks; "" if it asks none."""
        asked = names(slot.when) if slot.when else frozenset[str]()
        return next((axis for axis in slot.index if axis in asked), "")

    def _there(self, slot: Slot, axis: str, at: int) -> bool:
        return self.layout.holds(slot.when, self.config, ((axis, at),))

    def _read(self, axis: str, table: Iterable[Slot]) -> dict[str, Reading]:
        found: dict[str, Reading] = {}
        streams: dict[str, Reading] = {}
        shown: dict[str, Reading] = {}
        for slot in table:
            pre = slot.norm is not None and slot.norm.where == "pre"
            along = [stream.name for stream in self.layout.along(slot, axis)]
            written = dict.fromkeys(along)
            writes = slot.name in self.slots and axis in slot.produced
            if writes or (pre and slot in self.plain_norms and axis in slot.produced):
                how: Reading = "bare" if not pre else "gain" if writes else "plain"
                streams |= dict.fromkeys(written, how)
                shown |= dict.fromkeys(written, how)
            own = slot.name in self.slots or (self.tied_head and slot.tied in self.slots)
            if own and axis in slot.consumed:
                found[slot.name] = streams.get(along[0], "bare")
                shown.pop(along[0], None)
        if shown:
            found[""] = next(iter(shown.values()))
        return found

    def numbered(self, axis: str) -> tuple[str, ...]:
        """The slots whose blocks `axis` numbers (a norm per head has a block for each)."""
        return tuple(name for name, slot in self.slots.items() if axis in slot.index)

    def is_index(self, axis: str) -> bool:
        """Whether `axis` numbers blocks (layers, experts)."""
        return bool(self.numbered(axis))

    def times(self, use: Use, axis: str, old: int, new: int) -> float:
        """What undoes that the model multiplies this slot's output by a function of `axis`: m(old)/m(new)."""
        return self.undone(use.slot.times, axis, old, new)

    def undone(self, times: str, axis: str, old: int, new: int) -> float:
        """m(old)/m(new) for a formula m over `axis`; 1 where there is none."""
        if not times:
            return 1.0
        view = self.layout.facts(self.config, self.sizes.values)
        before, after = (float(evaluate(times, view.over({axis: n}))) for n in (old, new))
        return before / after

    def residual(self, slot: Slot) -> str:
        """The axis of the (first) residual stream that a slot is of."""
        return self.layout.streams_of(slot)[0].axis

    def stream_axis(self, axis: str) -> str:
        """The axis of the residual stream that the blocks numbered by `axis` read and write."""
        numbered = (slot for slot in self.slots.values() if axis in slot.index)
        return next((self.residual(slot) for slot in numbered), self.layout.residual)

    def before_tied_head(self, slot: Slot) -> bool:
        """Whether a slot is of the last norm before a head that is the embedding."""
        return self.tied_head and self.before_head(slot)

    def before_head(self, slot: Slot) -> bool:
        """Whether a slot is of the last norm before a head that may be the embedding."""
        last = slot.norm is not None and slot.index == ()
        tied = (head for head in self.layout.table if head.tied)
        streams = {self.layout.stream(head) for head in tied if self.layout.on_residual(head.consumed)}
        return last and self.layout.stream(slot) in streams

    @property
    def far_heads(self) -> tuple[Slot, ...]:
        """The heads that are the embedding, but read a transform of the residual (BERT's masked tokens)."""
        return self.layout.far_heads(self.config, self.slots.values())

    def gate(self, slot: str) -> str:
        """The gain without a norm that multiplies what this slot writes; "" if there is none."""
        stem = self.slots[slot].stem
        return next((name for name, gate in self.slots.items() if gate.gates == stem), "")

    def closed(self, slot: Slot) -> bool:
        """Whether a norm of its branch stands on what this slot writes: the next norm of the residual in the
        layers that have it is one."""
        own = next(each for each in self.layout.table if each.name == slot.stem and each.when in slot.when)
        found = {self._closed(own, table) for table in self._kinds() if own in table}
        assert len(found) <= 1, f"{slot.name} is normalised in some of its layers only"
        return found == {True}

    def _closed(self, slot: Slot, table: tuple[Slot, ...]) -> bool:
        norms = (
            each.norm
            for each in table[table.index(slot) + 1 :]
            if each.norm is not None and each.norm.where != "inner" and self.layout.on_residual(each.normed)
            if self.layout.stream(each) == self.layout.stream(slot) and each.index[:1] == slot.index[:1]
        )
        return next((closing(norm) for norm in norms), False)

    def stem(self, stem: str) -> tuple[str, ...]:
        """The slots of one projection: itself, and its bias."""
        return tuple(name for name, slot in self.slots.items() if slot.stem == stem)

    def tied_along(self, axis: str) -> bool:
        """Whether a head that may be the embedding reads the residual along this axis."""
        return any(slot.tied and axis in slot.consumed for slot in self.layout.table)

    def beside(self, axis: str) -> tuple[Attention, ...]:
        """The contractions along other axes whose scale depends on this one: all in one softmax."""
        others = (a for a in self.layout.met(self.slots) if a.axis != axis)
        return tuple(a for a in others if a.scale and axis in names(a.scale))

    def attentions(self, axis: str) -> tuple[Attention, ...]:
        return tuple(a for a in self.layout.met(self.slots) if a.axis == axis)


def check_unclamped(subject: Subject, axis: str, slots: Iterable[str], mend: str) -> None:
    """Refuse to scale what the model clamps before its use: clamp(c x) is not c clamp(x)."""
    for slot in slots:
        if clamp := subject.clamped(slot):
            raise subject.cannot_grow(
                axis,
                f"{slot} would have to be scaled, and the model clamps what it gives"
                f" ({clamp}), which no scale passes; {mend}",
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
