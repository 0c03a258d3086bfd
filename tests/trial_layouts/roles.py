"""Roles, judged from outside: by the modules' kinds, by who writes and reads an axis, by a slot's lines."""

from __future__ import annotations

from torch import nn

from isogrow.layouts.layout import Layout
from isogrow.layouts.lines import name_axes
from isogrow.plans.matching import match
from trial_layouts.models import bound, on_meta

ARROWS = {"sinks": "->", "inv_freq": "->", "e_score_correction_bias": "->"}


def arrow(module: nn.Module, attribute: str) -> str:
    """The role that a parameter has by the kind of its module."""
    if attribute in ARROWS:
        return ARROWS[attribute]
    if attribute.endswith("bias"):
        return "->"
    if "Norm" in type(module).__name__:
        return "*"
    transposed = isinstance(module, nn.Embedding) or getattr(module, "is_transposed", False)
    return "->" if transposed else "<-"


def wrong_roles(layout: Layout, name: str) -> list[str]:
    """The tensors whose pattern's arrow is not what the model's code does with them."""
    anatomy = match(layout, *bound(name)[1:])
    found: list[str] = []
    for tensor in anatomy.stored:
        path, _, attribute = tensor.name.rpartition(".")
        expected = arrow(on_meta(name).get_submodule(path), attribute)
        found += [tensor.name] if tensor.line.parsed.arrow != expected else []
    return found


def ends(layout: Layout) -> tuple[set[str], set[str]]:
    """Axes that nothing inside the model produces, and that nothing inside it consumes."""
    slots = [slot for slot in layout.table if not slot.gain]
    produced = {a for slot in slots for a in slot.produced if not a.isdigit()}
    consumed = {a for slot in slots for a in slot.consumed if not a.isdigit()}
    inside = {a for slot in layout.table for a in slot.index}
    inside |= {attention.axis for attention in layout.attentions}
    open_in, open_out = consumed - produced - inside, produced - consumed - inside
    both = {"vocab"} & produced & consumed
    return open_in | both, open_out | both


def differing(layout: Layout) -> set[str]:
    """Slots whose lines, or variants, do not have the same index and logical axes."""
    shapes: dict[str, set[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for line in layout.lines:
        for part, slot in line.parts():
            axes = tuple(a for a in line.parsed.axes(part) if not a.isdigit())
            index = (*name_axes(line.name), *line.parsed.index)
            shapes.setdefault(slot.name, set()).add((index, axes))
    return {slot for slot, found in shapes.items() if len(found) > 1}
