"""Layers that read the keys and values of another one: the last before them that has its own.

x' = x + MHA(q(x), k_j, v_j) where layer j is not this one. Layer j stays as it is, so old layers stay too, as
long as no new layer with keys comes between j and them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from isogrow.errors import SizeError
from isogrow.layouts.layout import Attention
from isogrow.plans.plan import OLD, Place
from isogrow.rules.subject import Subject

At = tuple[int, ...]


def check_lenders(
    subject: Subject, axis: str, before: At, inserted: Callable[[At], tuple[Place, ...]]
) -> None:
    """Refuse a new layer with keys between one that has none and the layer whose keys it reads.

    `inserted` makes the places of new layers that stand before these old ones.
    """
    if _lent(subject, axis, inserted(before)):
        return
    old = subject.sizes.of(axis)
    # At the end a new layer is of the last one's kind, which has no keys where any layer has none.
    at = next(n for n in (old, *range(old)) if _lent(subject, axis, inserted((n,) * len(before))))
    raise SizeError(
        f"{subject.word(axis)} can't be added at {','.join(map(str, before))}: the last layers read the keys"
        " and values of a layer before them, and a new one in between would give them its own;"
        f" give --layers-at {','.join(str(at) for _ in before)}"
    )


def _lent(subject: Subject, axis: str, places: Iterable[Place]) -> bool:
    """Whether each old layer without keys still reads an old one's."""
    sources = [(place.source + i, place.label == OLD) for place in places for i in range(place.count)]
    return all(_reads_old(subject, axis, each, sources) for each in subject.layout.attentions)


def _reads_old(subject: Subject, axis: str, attention: Attention, sources: list[tuple[int, bool]]) -> bool:
    lender = True
    for source, old in sources:
        if _has(subject, attention.key, axis, source):
            lender = old
        elif old and not lender and _has(subject, attention.query, axis, source):
            return False
    return True


def _has(subject: Subject, name: str, axis: str, at: int) -> bool:
    """Whether a layer of the model, before the step, has a slot."""
    index, config = ((axis, at),), subject.config
    variants = (slot for slot in subject.layout.table if slot.name == name and axis in slot.index)
    return any(subject.layout.applies(slot, config, index) for slot in variants)
