"""A draft against the layout that is built in: what a model's library makes otherwise than the table says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isogrow.drafting.drafts import Draft
from isogrow.drafting.fitting import OWN
from isogrow.drafting.kinds import on_meta
from isogrow.drafting.slots import UNTOLD, WRITES
from isogrow.errors import IsogrowError
from isogrow.interpreters.module import headers
from isogrow.layouts.config import Config
from isogrow.layouts.layout import Layout, Norm
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.matching import match

# Two ways to say one thing: all heads have keys of their own, and parts that rules do not tell apart.
ALIKE: Mapping[str, str] = {"kv_heads group": "heads", "rows ->": "positions ->", "expert_ffn": "ffn"}
NAMES: Mapping[str, str] = {"norm": "attn_norm", "attn_after": "attn_norm", "mlp_after": "mlp_norm"}


def differences(made: Draft, known: Layout) -> tuple[str, ...]:
    """Sentences on what the draft says otherwise than a layout, tensor by tensor, and of the attention.

    Both are bound to the tiny model that the draft was made on; what that model lacks (other heads), and what
    the draft keeps or carries as it is, is not compared.
    """
    try:
        old = _bound(known, made.config)
    except IsogrowError as error:
        return (f"the layout that is built in is not this model's any more: {error}",)
    attention = _attention(old, made) if made.whole else ()
    return tuple((*_tensors(old, _bound(made.layout, made.config), made.whole), *attention))


def _bound(layout: Layout, config: Config) -> Anatomy:
    model = on_meta(config)
    return match(layout, config, headers(model), type(model).__name__)


def _tensors(old: Anatomy, new: Anatomy, whole: bool) -> Iterator[str]:
    """What is otherwise, tensor by tensor: where not all was told, slots are no more than guesses."""
    before = {stored.source: _said(stored) for stored in old.stored}
    after = {stored.source: _said(stored) for stored in new.stored}
    kept = {stored.source for stored in (*old.stored, *new.stored) if _kept(stored)}
    for name in dict.fromkeys((*before, *after)):
        if name in kept:
            continue
        one, other = before.get(name), after.get(name)
        if one is not None and other is not None and not whole:
            one, other = ((pattern, (), norm) for pattern, _, norm in (one, other))
        if one != other:
            yield f"{name}: the layout has {_words(one)}, the model {_words(other)}"


def _kept(stored: Stored) -> bool:
    """Whether a tensor has an axis of its own, or numbers for axes, or is of no branch that was told."""
    slot = stored.line.slot
    untold = slot.name.startswith((WRITES, *UNTOLD))
    return untold or not slot.axes or any(axis.isdigit() or axis.startswith(OWN) for axis in slot.axes)


def _said(stored: Stored) -> tuple[Any, ...]:
    """What matters of a tensor's line: the axes, the slots, the norm."""
    slot = stored.line.slot
    norm = slot.norm
    told = () if norm is None else (norm.kind, norm.where, norm.offset, norm.eps)
    pattern = stored.line.pattern
    for one, other in ALIKE.items():
        pattern = pattern.replace(one, other)
    return pattern, tuple(_called(each.name, norm) for each in stored.line.slots), told


def _called(slot: str, norm: Norm | None) -> str:
    """A slot's name; a norm on the residual is called by its branch, whether before or after it."""
    stem, dot, rest = slot.partition(".")
    alike = norm is not None and (norm.where == "post" or stem == "norm")
    return NAMES.get(stem, stem) + dot + rest if alike else slot


def _words(said: tuple[Any, ...] | None) -> str:
    if said is None:
        return "no such tensor"
    pattern, slots, norm = said
    return f"'{pattern}' as {', '.join(slots)}" + (f", a norm {norm}" if norm else "")


def _attention(old: Anatomy, made: Draft) -> Iterator[str]:
    if not old.layout.attentions or not made.attended or _turning(made) == 2:
        return  # two channels are one pair, however pairs lie
    ropes = [each.attentions[0].rope for each in (old.layout, made.layout)]
    if ropes[0] is None and old.layout.refusals:
        return  # positions of two directions, say, which no table has: what they bear on is refused
    pairs = [rope.pairs if rope is not None else "" for rope in ropes]
    if pairs[0] != pairs[1]:
        one, other = (each or "not at all" for each in pairs)
        yield f"the layout pairs rotating channels {one}, the model {other}"


def _turning(made: Draft) -> int:
    """How many channels of a head turn in the tiny model."""
    rope = made.layout.attentions[0].rope
    size = made.layout.read(made.config)["key_dim"]
    return made.layout.rotated(rope, made.config, size) if rope is not None else 0
