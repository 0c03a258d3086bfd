"""Binding a layout to one model: which line names each stored tensor, and whether all of them are there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal

from isogrow.errors import CheckpointError
from isogrow.layouts.config import Config, class_names
from isogrow.layouts.layout import Index, Layout, Line, Slot, Weight
from isogrow.layouts.lines import name_axes
from isogrow.layouts.naming import Applies, applying, line_of, lines_of, prefix_of, renamed, renames_in
from isogrow.layouts.soundness import check_config
from isogrow.plans.anatomy import Anatomy, Header, Stored, held_by, name_of, shapes
from isogrow.plans.sizes import Sizes, key

Where = Literal["checkpoint", "model"]
WHOLE: Mapping[Where, str] = {
    "checkpoint": "fetch the model again, whole",
    "model": "give a model as its class makes it, with every part",
}


def match(
    layout: Layout,
    config: Config,
    tensors: Mapping[str, Header],
    kind: str = "",
    where: Where = "checkpoint",
) -> Anatomy:
    """Name every tensor of a model by the layout's lines, and check its shape.

    `kind` is the name of the model's class; without it, the config's first architecture is. `where` is what
    refusals call that which holds the tensors.

    Raises `CheckpointError` for a tensor that no line names, one that is missing, and one whose shape
    is not what the config's sizes say.
    """
    check_config(layout, config)
    renames = renames_in(layout, tensors)
    sources: dict[str, str] = {}
    for name in tensors:
        first = sources.setdefault(renamed(renames, name), name)
        if first != name:
            raise CheckpointError(
                f"{first} and {name} are both in the {where}, and mean the same tensor: remove one of them"
            )
    names = {name: tensors[source] for name, source in sources.items()}
    layout = _with_carried(layout, names)
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
                f"{sources[name]} is in the {where}, and no pattern of {layout.family!r} names it:"
                " this model is not (only) of that family, so nothing was grown; remove the tensor if nothing"
                " reads it, or write a layout that names it (docs/add-a-family.md)"
            )
    sizes = _infer(Sizes(_stated(layout, config, found), layout.sites), found)
    _check_shapes(layout, sizes, found)
    _check_numbers(sizes, found)
    present = {line for named in lines.values() for _, line in named}
    _check_blocks(layout, config, prefix, sizes, found, present, where)
    return Anatomy(layout, config, sizes, tuple(found), prefix, tuple(ignored), _headed(config, kind))


def _with_carried(layout: Layout, names: Mapping[str, Header]) -> Layout:
    """The layout with a row for each tensor that it carries along, whose every dim is a number."""
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
    known: dict[Line, Callable[[Index], tuple[int, ...]]] = {}
    for tensor in stored:
        pattern = tensor.line.parsed
        if len(pattern.dims) != len(tensor.header.shape):
            raise CheckpointError(
                f"{tensor.source} has shape {list(tensor.header.shape)}, but '{pattern}' of"
                f" {layout.family!r} has {len(pattern.dims)} dims: this model is not (only) of that family,"
                " so nothing was grown; write a layout that has it so (docs/add-a-family.md)"
            )
        if tensor.line not in known:
            known[tensor.line] = shapes(tensor.line, sizes)
        expected = known[tensor.line](tensor.index)
        if expected != tensor.header.shape:
            raise CheckpointError(
                f"{tensor.source} has shape {list(tensor.header.shape)}, but the config says"
                f" {list(expected)} for '{pattern}' of {layout.family!r}: the config and the weights"
                " do not belong together; fetch both from one place"
            )


def _check_numbers(sizes: Sizes, stored: list[Stored]) -> None:
    for tensor in stored:
        for axis, i in tensor.index:
            if sizes.has(axis) and i >= sizes.of(axis, tensor.index):
                raise CheckpointError(
                    f"{tensor.source} is in the checkpoint, but the config has only"
                    f" {sizes.of(axis, tensor.index)} {axis}: the two do not belong together; fetch both"
                    " from one place"
                )


def _check_blocks(
    layout: Layout,
    config: Config,
    prefix: str,
    sizes: Sizes,
    stored: list[Stored],
    lines: set[Line],
    where: Where,
) -> None:
    """Every block that the config asks for is stored once, under whichever of these lines has its slot."""
    applies, held = applying(layout, config), dict[tuple[str, Index], Stored]()
    for tensor in stored:
        for slot, index in held_by(tensor.line, tensor.index, sizes):
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
            if applies(line.slot, index) and any(at not in held for at in held_by(line, index, stated)):
                raise CheckpointError(
                    f"{name_of(line, prefix, index, stated)} is missing from the {where}, and"
                    f" {layout.family!r} needs it: {WHOLE[where]}"
                )
