"""One model seen through its layout: every stored tensor named exactly once, every size known.

Made from config.json and the tensors' names and shapes alone: no weights, no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from isogrow.layouts.config import Config, edited
from isogrow.layouts.formula import evaluate
from isogrow.layouts.layout import Index, Layout, Line, Slot
from isogrow.layouts.lines import name_axes
from isogrow.plans.pieces import Block, origin
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes


@dataclass(frozen=True)
class Header:
    """What is known of a tensor without reading it; `dtype` is safetensors' word (`BF16`)."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Stored:
    """One stored tensor: the layout's line that names it, at which index.

    `source` is the name under which it is really stored, where an old name was modernised.
    """

    name: str
    line: Line
    index: Index
    header: Header
    source: str = ""

    def blocks(self, sizes: Sizes) -> Iterator[tuple[str, Block]]:
        """(part, block) of everything that is stored in this tensor."""
        return blocks(self.line, self.index, sizes)


@dataclass(frozen=True)
class Anatomy:
    """A layout bound to one model."""

    layout: Layout
    config: Config
    sizes: Sizes
    stored: tuple[Stored, ...]
    prefix: str = ""
    ignored: tuple[str, ...] = ()
    headed: bool | None = None
    last: list[tuple[Plan, list[Stored]]] = field(
        default_factory=list["tuple[Plan, list[Stored]]"], init=False, compare=False, repr=False
    )

    @cached_property
    def slots(self) -> dict[str, Slot]:
        """Every slot that has entries of its own, by name: tied ones have not."""
        return {name: slot for name, slot in self.all_slots.items() if not self.shares(slot)}

    @cached_property
    def tokens(self) -> int:
        """How many token ids every stack knows."""
        kept = ("vocab", *(f"{stack}_vocab" for stack in self.layout.stacks))
        return min(self.sizes.of(axis) for axis in kept if self.sizes.has(axis))

    def shares(self, slot: Slot) -> bool:
        """Whether a slot's entries are those of the one that it is tied to."""
        return slot.tied in self.all_slots and (slot.shared or self.ties(slot))

    @cached_property
    def all_slots(self) -> dict[str, Slot]:
        """Every slot that is stored, by name."""
        lines = dict.fromkeys(stored.line for stored in self.stored)
        return {slot.name: slot for line in lines for slot in line.slots}

    @cached_property
    def held(self) -> frozenset[tuple[Slot, Index]]:
        """Every slot at every index at which it is stored, under whichever line."""
        return frozenset(
            (slot, index)
            for tensor in self.stored
            for slot in tensor.line.slots
            for index in self.sizes.indices(tensor.line.parsed.index, tensor.index)
        )

    @cached_property
    def second_names(self) -> frozenset[str]:
        """The names of tensors that are stored elsewhere as well: a tied head's, say."""
        tied = (tensor for tensor in self.stored if self.shares(tensor.line.slot))
        return frozenset(tensor.name for tensor in tied)

    @cached_property
    def sources(self) -> dict[tuple[Line, Index], str]:
        """Where each line's tensor is really stored, at each index."""
        return {(tensor.line, tensor.index): tensor.source for tensor in self.stored}

    @cached_property
    def holders(self) -> dict[tuple[str, Index], tuple[Stored, str]]:
        """The stored tensor that holds a slot at an index, and which part of it."""
        return {
            (block.slot, block.index): (tensor, part)
            for tensor in self.stored
            for part, block in tensor.blocks(self.sizes)
        }

    @cached_property
    def plain_norms(self) -> tuple[Slot, ...]:
        """The norms that this model applies without a tensor."""
        plain = (slot for slot in self.layout.table if not slot.stored)
        return tuple(slot for slot in plain if self.layout.applies(slot, self.config, ()))

    def ties(self, slot: Slot) -> bool:
        """Whether the config shares the embedding with the heads that read this slot's stream."""
        return self.layout.stream(slot) in self._tied_streams

    @cached_property
    def _tied_streams(self) -> frozenset[str]:
        said, streams = self.layout.defaults(self.config), self.layout.streams
        asked = (stream for stream in streams if self.layout.say(stream.tie, said))
        return frozenset(stream.name for stream in asked if evaluate(stream.tie, said))

    @cached_property
    def tied_head(self) -> bool:
        """Whether a head reads the residual through the embedding's own entries.

        On disk such a head is not stored. It is there all the same, unless another head reads the residual in
        its place, or the tensors' names lack the prefix that they have in every model with a head, and the
        class that will read them is none (`headed`), or they are named as in memory, where every head is.
        """
        *heading, last = self.layout.prefixes
        bare = bool(heading) and self.prefix == last and not self.headed
        bare = bare or (self.prefix == "" and self.headed is False)
        bare = bare or any(tensor.line.slot.shared for tensor in self.stored)
        return self.may_tie and (self._stores_tied or not bare)

    @cached_property
    def may_tie(self) -> bool:
        """Whether a class with such a head can be made of these tensors, whatever they are named: it looks
        for no tensor of its own, and finds those without the prefix."""
        stored = set(self.all_slots.values())
        tied = {slot for slot in self._tied_heads if self.ties(slot)}
        streams = {self.layout.stream(slot) for slot in tied}
        heads = {slot for slot in stored if slot.head and self.layout.on_residual(slot.consumed)}
        alone = {slot for slot in heads if self.layout.stream(slot) in streams} <= tied
        return bool(tied) and (self._stores_tied or alone)

    @property
    def _stores_tied(self) -> bool:
        return any(slot in self._tied_heads for slot in self.all_slots.values())

    @cached_property
    def _tied_heads(self) -> set[Slot]:
        names = [tensor.name for tensor in self.stored]
        tied = (slot for slot in self.layout.table if slot.tied in self.all_slots)
        tied = (slot for slot in tied if self.layout.beside(slot, names))
        return {slot for slot in tied if self.layout.on_residual(slot.consumed)}


def blocks(line: Line, index: Index, sizes: Sizes) -> Iterator[tuple[str, Block]]:
    """(part, block) of every block that one stored tensor holds."""
    inside = line.parsed.index
    for part, slot in line.parts():
        for full in sizes.indices(inside, index) if inside else (index,):
            yield part, Block(slot.name, full, slot.axes)


def held_by(line: Line, index: Index, sizes: Sizes) -> Iterator[tuple[str, Index]]:
    """The slots at indices that one stored tensor holds: what names its blocks."""
    inside = line.parsed.index
    for full in sizes.indices(inside, index) if inside else (index,):
        for slot in line.slots:
            yield slot.name, full


def name_of(line: Line, prefix: str, index: Index, sizes: Sizes) -> str:
    """The name of a line's tensor at an index."""
    at = dict(index)
    found: list[int] = []
    for first, *rest in line.numbers:
        number = at[first]
        for axis in rest:
            number = number * sizes.of(axis, index) + at[axis]
        found.append(number)
    name = line.template.format(*found)
    return name if line.slot.head else prefix + name


def shapes(line: Line, sizes: Sizes) -> Callable[[Index], tuple[int, ...]]:
    """The shape of a line's tensor at an index: the same at each, where no axis has sizes of its own."""
    same = None if sizes.sites else line.parsed.shape(sizes.of)

    def shape(index: Index) -> tuple[int, ...]:
        return line.parsed.shape(lambda axis: sizes.of(axis, index)) if same is None else same

    return shape


def grown_tensors(anatomy: Anatomy, plan: Plan) -> list[Stored]:
    """Every tensor of the grown model: a tensor is there iff the one that it extends is.

    Those of the plan that was asked for last are kept: it is shown, checked and carried out.
    """
    if anatomy.last and anatomy.last[0][0] is plan:
        return list(anatomy.last[0][1])
    found = _grown(anatomy, plan)
    anatomy.last[:] = [(plan, found)]
    return list(found)


def grown_anatomy(anatomy: Anatomy, plan: Plan, stored: Iterable[Stored] | None = None) -> Anatomy:
    """The grown model, seen through the same layout before it is made; `stored` are its tensors, where they
    are to have another dtype or other names."""
    made = grown_tensors(anatomy, plan) if stored is None else stored
    config = edited(anatomy.config, plan.config)
    return replace(anatomy, config=config, sizes=plan.target, stored=tuple(made))


def _grown(anatomy: Anatomy, plan: Plan) -> list[Stored]:
    sizes = plan.target
    old = {(tensor.line, tensor.index): tensor for tensor in anatomy.stored}
    origins: dict[Index, Index] = {}  # the same for all that have this index
    found: list[Stored] = []
    for line in dict.fromkeys(tensor.line for tensor in anatomy.stored):
        shape, header = shapes(line, sizes), Header((), "")
        counted = all(len(axes) == 1 for axes in line.numbers)  # so no size is part of a name
        for index in sizes.indices(name_axes(line.name)):
            if index not in origins:
                origins[index] = origin(plan, Block(line.slot.name, index, ())).index
            tensor = old.get((line, origins[index]))
            if tensor is not None:
                if (header.shape, header.dtype) != (shape(index), tensor.header.dtype):  # most are alike
                    header = Header(shape(index), tensor.header.dtype)
                same = counted and tensor.index == index
                name = tensor.name if same else name_of(line, anatomy.prefix, index, sizes)
                found.append(Stored(name, line, index, header, tensor.source))
    return found
