"""A layer that has queries and no keys reads those of the last layer before it that has: an old layer's must
stay the ones that it read."""

from __future__ import annotations

from isogrow.errors import LawError
from isogrow.laws.history import Classes, is_old
from isogrow.layouts.layout import Attention
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.pieces import Block, origin
from isogrow.plans.plan import Plan


def check_lending(anatomy: Anatomy, plan: Plan) -> None:
    """Raise `LawError` where a new layer comes to stand between an old one and the keys that it reads."""
    for attention in anatomy.layout.attentions:
        slots = (anatomy.slots.get(attention.query), anatomy.slots.get(attention.key))
        if all(slot is not None and slot.index for slot in slots):
            _check(anatomy, plan, attention)


def _check(anatomy: Anatomy, plan: Plan, attention: Attention) -> None:
    (axis, *_) = anatomy.slots[attention.query].index
    there = {(slot.name, index[0][1]) for slot, index in anatomy.held if index and index[0][0] == axis}
    classes, lender = Classes(plan), -1
    for p in range(plan.target.of(axis)):
        ((_, source),) = origin(plan, Block(attention.query, ((axis, p),), ())).index
        if (attention.key, source) in there:
            lender = p
        elif lender >= 0 and (attention.query, source) in there:
            mine, theirs = (is_old(classes.history(axis, (), at)) for at in (p, lender))
            if mine and not theirs:
                raise LawError(
                    f"layer {p} has no {attention.key}, and would read that of the new layer {lender}: no new"
                    " layer with keys may stand between it and the old one whose keys it reads"
                )
