"""Roles, judged from outside: by the modules' kinds, by who writes and reads an axis, by a slot's lines."""

from __future__ import annotations

from torch import nn

from isogrow.anatomy import match, name_axes
from isogrow.layout import Layout
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
        found += [tensor.name] if tensor.weight.parsed.arrow != expected else []
    return found


def ends(layout: Layout) -> tuple[set[str], set[str]]:
    """Axes that nothing inside the model produces, and that nothing inside it consumes."""
    parts = [(w.parsed, part) for w in layout.weights for part, _ in w.slots() if not w.parsed.gate]
    produced = {a for pattern, part in parts for a in pattern.produced(part) if not a.isdigit()}
    consumed = {a for pattern, part in parts for a in pattern.consumed(part) if not a.isdigit()}
    inside = {a for w in layout.weights for a in (*name_axes(w), *w.parsed.index)}
    inside |= {attention.axis for attention in layout.attentions}
    open_in, open_out = consumed - produced - inside, produced - consumed - inside
    both = {"vocab"} & produced & consumed
    return open_in | both, open_out | both


def differing(layout: Layout) -> set[str]:
    """Slots whose lines do not have the same index and logical axes."""
    shapes: dict[str, set[tuple[frozenset[str], tuple[str, ...]]]] = {}
    for weight in layout.weights:
        for part, slot in weight.slots():
            axes = tuple(a for a in weight.parsed.axes(part) if not a.isdigit())
            index = frozenset((*name_axes(weight), *weight.parsed.index))
            shapes.setdefault(slot, set()).add((index, axes))
    return {slot for slot, found in shapes.items() if len(found) > 1}
