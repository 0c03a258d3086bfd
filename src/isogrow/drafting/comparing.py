"""A draft against the layout that is built in: what a model's library makes otherwise than the table says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from isogrow.drafting.drafts import Draft
from isogrow.drafting.kinds import on_meta
from isogrow.errors import IsogrowError
from isogrow.interpreters.module import headers
from isogrow.layouts.config import Config
from isogrow.layouts.layout import Layout
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.matching import match

# Two ways to say one thing: all heads have keys of their own, and parts that rules do not tell apart.
ALIKE: Mapping[str, str] = {"kv_heads group": "heads", "norm": "attn_norm"}


def differences(made: Draft, known: Layout) -> tuple[str, ...]:
    """Sentences on what the draft says otherwise than a layout, tensor by tensor, and of the attention.

    Both are bound to the tiny model that the draft was made on; what that model lacks (other heads) is not
    compared.
    """
    try:
        old = _bound(known, made.config)
    except IsogrowError as error:
        return (f"the layout that is built in is not this model's any more: {error}",)
    return tuple((*_tensors(old, _bound(made.layout, made.config)), *_attention(old, made)))


def _bound(layout: Layout, config: Config) -> Anatomy:
    model = on_meta(config)
    return match(layout, config, headers(model), type(model).__name__)


def _tensors(old: Anatomy, new: Anatomy) -> Iterator[str]:
    before = {stored.name: _said(stored) for stored in old.stored}
    after = {stored.name: _said(stored) for stored in new.stored}
    for name in dict.fromkeys((*before, *after)):
        one, other = before.get(name), after.get(name)
        if one != other:
            yield f"{name}: the layout has {_words(one)}, the model {_words(other)}"


def _said(stored: Stored) -> tuple[Any, ...]:
    """What matters of a tensor's line: the axes, the slots, the norm."""
    slot = stored.line.slot
    norm = slot.norm
    told = () if norm is None else (norm.kind, norm.where, norm.offset, norm.eps)
    pattern = stored.line.pattern
    for one, other in ALIKE.items():
        pattern = pattern.replace(one, other)
    return pattern, tuple(ALIKE.get(each.name, each.name) for each in stored.line.slots), told


def _words(said: tuple[Any, ...] | None) -> str:
    if said is None:
        return "no such tensor"
    pattern, slots, norm = said
    return f"'{pattern}' as {', '.join(slots)}" + (f", a norm {norm}" if norm else "")


def _attention(old: Anatomy, made: Draft) -> Iterator[str]:
    if not old.layout.attentions:
        return
    ropes = [each.attentions[0].rope for each in (old.layout, made.layout)]
    pairs = [rope.pairs if rope is not None else "" for rope in ropes]
    if pairs[0] != pairs[1]:
        one, other = (each or "not at all" for each in pairs)
        yield f"the layout pairs rotating channels {one}, the model {other}"
