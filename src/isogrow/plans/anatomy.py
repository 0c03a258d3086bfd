"""One model seen through its layout: every stored tensor named exactly once, every size known.

Made from config.json and the tensors' names and shapes alone: no weights, no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from isogrow.errors import CheckpointError
from isogrow.layouts.config import Config, class_names
from isogrow.layouts.formula import evaluate
from isogrow.layouts.layout import Index, Layout, Line, Slot, Weight
from isogrow.layouts.lines import name_axes
from isogrow.layouts.naming import Applies, applying, line_of, lines_of, prefix_of, renamed
from isogrow.layouts.soundness import check_config
from isogrow.plans.pieces import Block
from isogrow.plans.sizes import Sizes, key


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

    @cached_property
    def slots(self) -> dict[str, Slot]:
        """Every slot that has entries of its own, by name: tied ones have not."""
        return {name: slot for name, slot in self.all_slots.items() if not self.shares(slot)}

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


def match(layout: Layout, config: Config, tensors: Mapping[str, Header], kind: str = "") -> Anatomy:
    """Name every tensor of a model by the layout's lines, and check its shape.

    `kind` is the name of the model's class; without it, the config's first architecture is.

    Raises `CheckpointError` for a tensor that no line names, one that is missing, and one whose shape
    is not what the config's sizes say.
    """
    check_config(layout, config)
    layout = _with_carried(layout, tensors)
    sources: dict[str, str] = {}
    for name in tensors:
        first = sources.setdefault(renamed(layout, name), name)
        if first != name:
            raise CheckpointError(
                f"{first} and {name} are both in the checkpoint, and mean the same tensor: remove one of them"
            )
    names = {name: tensors[source] for name, source in sources.items()}
    stated, applies = layout.read(config), applying(layout, config)
    prefix = prefix_of(layout, applies, names, stated)
    found: list[Stored] = []
    ignored: list[str] = []
    lines = lines_of(layout, prefix, names)
    for name, header in names.items():
        hit = line_of(applies, lines, name, stated)
        if hit is not None:
            found.append(Stored(name, hit[0], hit[1], header, sources[name]))
        elif _is_derived(layout, name):
            ignored.append(name)
        else:
            for _, why in (each for each in layout.foreign.items() if re.search(each[0], name)):
                raise CheckpointError(f"{sources[name]} {why}")
            _check_prefix(layout, applies, names, stated)
            raise CheckpointError(
                f"{sources[name]} is in the checkpoint, and no pattern of {layout.family!r} names it:"
                " this model is not (only) of that family, so nothing was grown; remove the tensor if nothing"
                " reads it, or write a layout that names it (docs/add-a-family.md)"
            )
    sizes = _infer(Sizes(_stated(layout, config, found), layout.sites), found)
    _check_shapes(layout, sizes, found)
    _check_numbers(layout, sizes, found)
    present = {line for named in lines.values() for _, line in named}
    _check_blocks(layout, config, prefix, sizes, found, present)
    return Anatomy(layout, config, sizes, tuple(found), prefix, tuple(ignored), _headed(config, kind))


def _with_carried(layout: Layout, tensors: Mapping[str, Header]) -> Layout:
    """The layout with a row for each tensor that it carries along, whose every dim is a number."""
    names = {renamed(layout, name): header for name, header in tensors.items()}
    rows = tuple(
        Weight(name, f"-> {' '.join(map(str, header.shape))}", name, required=False, head=True, idle="True")
        for name, header in names.items()
        if name.startswith(layout.carried)
    )
    return replace(layout, weights=(*layout.weights, *rows)) if layout.carried else layout


def _check_prefix(
    layout: Layout, applies: Applies, names: Mapping[str, Header], stated: Mapping[str, int]
) -> None:
    """Refuse names that are the family's own behind something which all of them begin with."""
    parts = os.path.commonprefix([name.split(".")[:-1] for name in names])
    for count in range(1, len(parts) + 1):
        before = ".".join(parts[:count]) + "."
        bare = {name.removeprefix(before): header for name, header in names.items()}
        lines = lines_of(layout, prefix_of(layout, applies, bare, stated), bare)
        if all(line_of(applies, lines, name, stated) or _is_derived(layout, name) for name in bare):
            raise CheckpointError(
                f"every tensor's name begins with the prefix {before!r}, which is none of {layout.family!r}:"
                " a wrapper around the model was saved, or a part of a larger one; save the model itself"
                f" (its names without {before!r})"
            )


def _is_derived(layout: Layout, name: str) -> bool:
    return any(re.search(pattern, name) for pattern in layout.derived)


def _headed(config: Config, kind: str) -> bool | None:
    """Whether a class has a head: the ones without are called a Model, and no HeadModel. None: not named."""
    named = kind or next(iter(class_names(config)), "")
    return not re.search("(?<!Head)(?<!Heads)Model$", named) if named else None


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


def _stated(layout: Layout, config: Config, stored: list[Stored]) -> dict[str, int]:
    """The sizes that the config states, but for axes of parts that this model lacks: a pooler, say, or
    those of lines that no layer of it has."""
    used = {axis for line in {tensor.line for tensor in stored} for axis in _axes(line.slots)}
    whole = _axes(slot for slot in layout.table if not (slot.when or slot.needs))
    known = used | whole | (layout.axes.keys() - _axes(layout.table))
    return {a: n for a, n in layout.read(config).items() if a in used or (a in known - layout.follows.keys())}


def _axes(slots: Iterable[Slot]) -> frozenset[str]:
    """Every axis of some slots, those that number blocks too."""
    return frozenset(axis for slot in slots for axis in (*slot.index, *slot.axes))


def _infer(sizes: Sizes, stored: list[Stored]) -> Sizes:
    """Sizes that no config key states (labels, say) are read off the tensors' names and shapes."""
    values = dict(sizes.values)
    lines = dict.fromkeys(tensor.line for tensor in stored)
    unsaid = {line for line in lines if not all(map(sizes.has, _axes(line.slots)))}
    for tensor in (tensor for tensor in stored if tensor.line in unsaid):
        for place, (axis, i) in enumerate(tensor.index):
            if not sizes.has(axis):
                name = key(axis, sizes.site(axis, tensor.index[:place]))
                values[name] = max(values.get(name, 0), i + 1)
        dims = tensor.line.parsed.dims
        if len(dims) != len(tensor.header.shape):
            continue
        for dim, length in zip(dims, tensor.header.shape, strict=True):
            axis = dim.factors[0]
            plain = len(dim.factors) == 1 and isinstance(axis, str) and not axis.isdigit()
            if plain and not sizes.has(str(axis)):
                values.setdefault(key(str(axis), sizes.site(str(axis), tensor.index)), length)
    return Sizes(values, sizes.sites)


def _check_shapes(layout: Layout, sizes: Sizes, stored: list[Stored]) -> None:
    shapes: dict[Line, Callable[[Index], tuple[int, ...]]] = {}
    for tensor in stored:
        pattern = tensor.line.parsed
        if len(pattern.dims) != len(tensor.header.shape):
            raise CheckpointError(
                f"{tensor.source} has shape {list(tensor.header.shape)}, but '{pattern}' of"
                f" {layout.family!r} has {len(pattern.dims)} dims: this model is not (only) of that family,"
                " so nothing was grown; write a layout that has it so (docs/add-a-family.md)"
            )
        if tensor.line not in shapes:
            shapes[tensor.line] = _shapes(tensor.line, sizes)
        expected = shapes[tensor.line](tensor.index)
        if expected != tensor.header.shape:
            raise CheckpointError(
                f"{tensor.source} has shape {list(tensor.header.shape)}, but the config says"
                f" {list(expected)} for '{pattern}' of {layout.family!r}: the config and the weights"
                " do not belong together; fetch both from one place"
            )


def _check_numbers(layout: Layout, sizes: Sizes, stored: list[Stored]) -> None:
    for tensor in stored:
        for axis, i in tensor.index:
            if sizes.has(axis) and i >= sizes.of(axis, tensor.index):
                raise CheckpointError(
                    f"{tensor.source} is in the checkpoint, but the config has only"
                    f" {sizes.of(axis, tensor.index)} {axis}: the two do not belong together; fetch both"
                    " from one place"
                )


def _held(line: Line, index: Index, sizes: Sizes) -> Iterator[tuple[str, Index]]:
    """The slots at indices that one tensor of a line holds."""
    inside = line.parsed.index
    for full in sizes.indices(inside, index) if inside else (index,):
        for slot in line.slots:
            yield slot.name, full


def _shapes(line: Line, sizes: Sizes) -> Callable[[Index], tuple[int, ...]]:
    """The shape of a line's tensor at an index: the same at each, where no axis has sizes of its own."""
    same = None if sizes.sites else line.parsed.shape(sizes.of)

    def shape(index: Index) -> tuple[int, ...]:
        return line.parsed.shape(lambda axis: sizes.of(axis, index)) if same is None else same

    return shape


def _check_blocks(
    layout: Layout,
    config: Config,
    prefix: str,
    sizes: Sizes,
    stored: list[Stored],
    lines: set[Line],
) -> None:
    """Every block that the config asks for is stored once, under whichever of these lines has its slot."""
    applies, held = applying(layout, config), dict[tuple[str, Index], Stored]()
    for tensor in stored:
        for slot, index in _held(tensor.line, tensor.index, sizes):
            first = held.setdefault((slot, index), tensor)
            if first is not tensor:
                raise CheckpointError(
                    f"{first.source} and {tensor.source} both hold {slot}"
                    f" {', '.join(f'{axis} {i}' for axis, i in index)}: remove one of them"
                )
    used = {tensor.line for tensor in stored}
    stated = Sizes({**layout.read(config), **sizes.values}, sizes.sites)
    # The lines of the binding that is there are asked first, so that what is missing has a name of it.
    due = (line for line in layout.lines if line.slot.required and line in lines)
    for line in sorted(due, key=lambda line: line not in used):
        for index in stated.indices(name_axes(line.name)):
            if applies(line.slot, index) and any(at not in held for at in _held(line, index, stated)):
                raise CheckpointError(
                    f"{name_of(line, prefix, index, stated)} is missing from the checkpoint, and"
                    f" {layout.family!r} needs it: fetch the model again, whole"
                )


def grown_tensors(anatomy: Anatomy, sizes: Sizes, origin: Callable[[Block], Block]) -> list[Stored]:
    """Every tensor of the grown model: a tensor is there iff the one that it extends is.

    `origin(block)` gives the old model's block that a grown block is or extends.
    """
    old = {(tensor.line, tensor.index): tensor for tensor in anatomy.stored}
    origins: dict[Index, Index] = {}  # the same for all that have this index
    found: list[Stored] = []
    for line in dict.fromkeys(tensor.line for tensor in anatomy.stored):
        shape = _shapes(line, sizes)
        for index in sizes.indices(name_axes(line.name)):
            if index not in origins:
                origins[index] = origin(Block(line.slot.name, index, ())).index
            tensor = old.get((line, origins[index]))
            if tensor is not None:
                header = Header(shape(index), tensor.header.dtype)
                name = name_of(line, anatomy.prefix, index, sizes)
                found.append(Stored(name, line, index, header, tensor.source))
    return found
