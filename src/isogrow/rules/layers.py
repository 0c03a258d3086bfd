"""Layer addition (arXiv 2308.06103, section 3.6), and any other axis that numbers blocks.

    x' = x + MHA(Norm(x)) with W^O = 0,   out = x' + MLP(Norm(x')) with W^l2 = 0, b^l2 = 0:   out = x

All that writes the residual in a new block is zero, the rest is free. Where a norm stands on a branch's
output its gain is the switch instead (an RMSNorm at 0 has slope 1/√ε, so zero weights would explode),
and the weights are free (drawn even where init is copy). So it is with a gain without a norm (LayerScale).
A number that multiplies the whole residual is 1. A post-norm layer computes LN(x) ≠ x whatever its weights
are: refused.

A layer without keys and values of its own reads those of the last one before it that has them. That must stay
the old one, so a new layer that has keys may not come between the two.

Where features of images are added behind the first layers, by number, or layers read what the one before them
chose, new layers come after those (`Layout.leading`).

A new layer is of the kind of the layer before it, so lists with one entry a layer grow with it. Where the
code computes kinds from a layer's number, new layers at the end extend the last old one of the kind that
theirs says (Jamba): the old ones keep their numbers. Where a reader computes such a list from the layer's
number (`Choices.kinds`), a new layer's entry is what that reader takes it for.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from isogrow.errors import SizeError
from isogrow.layouts.config import get
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Attention, Index, PerLayer
from isogrow.plans.expansions import expansion_name
from isogrow.plans.plan import OLD, Init, Old, Place, Rewrite, Step
from isogrow.rules.attention import scale
from isogrow.rules.kinds import changed, counted, kinds, nearest
from isogrow.rules.lenders import check_lenders
from isogrow.rules.places import MORE, NEW, append, constant, free, only
from isogrow.rules.readouts import readouts
from isogrow.rules.subject import Subject, check_unclamped


def add(subject: Subject, axis: str, before: tuple[int, ...], init: Init) -> Step:
    """The step that puts one new layer before each old layer of these numbers (the old count: the end)."""
    _check_post(subject, axis)
    _check_leading(subject, axis, before)
    _check_read(subject, axis, before)
    old = subject.sizes.of(axis)
    places = _placed(subject, axis, before)
    check_lenders(subject, axis, before, lambda at: _placed(subject, axis, at))
    step = _step(subject, axis, (), old, old + len(before), places, init)
    config = {**_said(subject, axis, places), **readouts(subject, axis, places)}
    _check_kinds(subject, axis, before, places, config)
    return _rescaled(subject, dataclasses.replace(step, config=config))


def _check_post(subject: Subject, axis: str) -> None:
    """A layer must not end in a norm of the residual, with a tensor or without."""
    written = (use.slot for use in subject.uses(subject.stream_axis(axis)))
    slots = (slot for slot in (*written, *subject.plain_norms) if axis in slot.index)
    if any(slot.norm is not None and slot.norm.where == "post" for slot in slots):
        raise subject.cannot_grow(
            axis,
            f"a layer of {subject.layout.family!r} normalises the residual itself"
            " (post-norm), so no new layer computes the identity exactly; grow ffn, heads or hidden instead",
        )


def _check_leading(subject: Subject, axis: str, before: tuple[int, ...]) -> None:
    """A new layer must come after those that stay the first."""
    first = subject.layout.leads(subject.config, subject.sizes.values) if axis == "layers" else 0
    if any(nth < first for nth in before):
        at = ",".join(str(max(nth, first)) for nth in before)
        raise SizeError(
            f"{subject.word(axis)} can't be added at {','.join(map(str, before))}: the first {first} layers"
            f" stay the first, since {subject.layout.led}; give --layers-at {at}"
        )


def _check_read(subject: Subject, axis: str, before: tuple[int, ...]) -> None:
    """A new layer must not come behind all that is read."""
    last = subject.layout.reads(subject.config, subject.sizes.values).get(axis, subject.sizes.of(axis))
    if any(nth > last for nth in before):
        at = ",".join(str(min(nth, last)) for nth in before)
        raise SizeError(
            f"{subject.word(axis)} can't be added at {','.join(map(str, before))}: nothing reads what"
            f" comes behind the first {last} layers, so that new ones there could never learn; give"
            f" --layers-at {at}"
        )


def repeat(subject: Subject, axis: str, site: Index, new: int, init: Init) -> Step:
    """The step that appends blocks (heads with sizes of their own, say) at a site."""
    old = subject.sizes.of(axis, site)
    return _step(subject, axis, site, old, new, append(old, new), init)


def _step(
    subject: Subject,
    axis: str,
    site: Index,
    old: int,
    new: int,
    places: tuple[Place, ...],
    init: Init,
) -> Step:
    rewrites: dict[str, Rewrite] = {}
    for slot, own in subject.slots.items():
        if axis in own.index:
            rewrites[slot] = only(_entries(subject, slot, subject.drawn(init, slot, axis)), places)
    return Step(expansion_name(axis), axis, old, new, places, rewrites, site)


def _entries(subject: Subject, slot: str, init: Init) -> Rewrite:
    """What a slot is in a new block."""
    own = subject.slots[slot]
    residual = subject.residual(own)
    writes = residual in own.produced
    gated = own.norm is None and writes and (subject.closed(own) or bool(subject.gate(slot)))
    if own.norm is not None:
        if own.norm.where == "branch":
            return constant(-own.norm.offset if own.gain else 0.0)
        return free(init, center=own.gain)
    if own.constant:
        return {NEW: Old(), MORE: Old()}
    if own.unit:
        return constant(1.0)
    if own.gates or own.aside:
        return constant(0.0)
    if gated:
        # A copy may hold the zeros of an earlier growth, and behind a gain of zero those would be dead.
        return free(Init("normal", init.std) if init.kind == "copy" else init)
    return constant(0.0) if writes else free(init, center=own.centred)


def _check_kinds(
    subject: Subject, axis: str, before: tuple[int, ...], places: tuple[Place, ...], config: dict[str, Any]
) -> None:
    """Refuse places where the config could not say that each layer is of its source's kind."""
    if not changed(subject, axis, places, config):
        return
    old = subject.sizes.of(axis)
    for place in (old, *range(old)):
        other = _placed(subject, axis, (place,) * len(before))
        if not changed(subject, axis, other, _said(subject, axis, other)):
            mend = f"give --layers-at {','.join(str(place) for _ in before)}"
            break
    else:
        mend = f"grow {subject.stream_axis(axis)} instead"
    word = subject.word(axis)
    raise SizeError(
        f"{word} can't be added at {','.join(map(str, before))}: a new layer is of its predecessor's kind,"
        f" and no config of {subject.layout.family!r} says which layers are then of which kind; {mend}"
    )


def _placed(subject: Subject, axis: str, before: tuple[int, ...]) -> tuple[Place, ...]:
    """Where layers are, and what new ones extend: the layer before them, or one of the kind that their number
    says where they come last and no config key could say another."""
    old = subject.sizes.of(axis)
    places = _inserted(old, before)
    if min(before) < old or not changed(subject, axis, places, _said(subject, axis, places)):
        return places
    sources = nearest(subject, axis, len(before))
    new = (Place(old + i, 1, source, NEW) for i, source in enumerate(sources or ()))
    return (Place(0, old, 0), *new) if sources else places


def _said(subject: Subject, axis: str, places: tuple[Place, ...]) -> dict[str, Any]:
    """The config's edits that say which layers are of which kind."""
    return {**_lists(subject, axis, places), **kinds(subject, axis, places)}


def _inserted(old: int, before: tuple[int, ...]) -> tuple[Place, ...]:
    """Runs of old layers, and between them new ones that extend the layer before them."""
    order = [(nth, 1, i) for i, nth in enumerate(before)] + [(nth, 2, nth) for nth in range(old)]
    found: list[Place] = []
    for position, (nth, kind, _) in enumerate(sorted(order)):
        source, label = (nth, OLD) if kind == 2 else (max(nth - 1, 0), NEW)
        last = found[-1] if found else None
        if last is not None and label == last.label == OLD and source == last.source + last.count:
            found[-1] = dataclasses.replace(last, count=last.count + 1)
        else:
            found.append(Place(position, 1, source, label))
    return tuple(found)


def _lists(subject: Subject, axis: str, places: tuple[Place, ...]) -> dict[str, Any]:
    """Config lists with one entry a layer, lengthened; a computed pattern is written out if it moved."""
    edits: dict[str, Any] = {}
    sources = [place.source + i for place in places for i in range(place.count)]
    new = [place.label != OLD for place in places for _ in range(place.count)]
    chosen = dict(subject.choices.kinds)
    for listed in subject.layout.per_layer:
        now = get(subject.config, listed.key)
        if listed.axis != axis or (now is None and not listed.default):
            continue
        count = subject.sizes.of(axis)
        before = _computed(subject, axis, listed, count) if now is None else _entered(listed, now, count)
        if len(before) != subject.sizes.of(axis):
            raise SizeError(
                f"config key {listed.key!r} lists {len(before)} layers, but the model has"
                f" {subject.sizes.of(axis)}: correct config.json"
            )
        after = [before[source] for source in sources]
        if listed.key in chosen:
            taken = [evaluate(chosen[listed.key], {"i": i}) for i in range(len(after))]
            after = [mine if fresh else own for own, mine, fresh in zip(after, taken, new, strict=True)]
        if now is not None or after != _computed(subject, axis, listed, len(after)):
            edits[listed.key] = _written(listed, after, now)
    return edits


def _written(listed: PerLayer, entries: list[Any], now: Any) -> Any:
    """The list as the config has it: one run, a mapping, a word with a letter for each layer, or entries."""
    if listed.mapped:
        return {str(i): entry for i, entry in enumerate(entries) if entry is not None}
    return [[entries, 1]] if listed.runs else "".join(entries) if isinstance(now, str) else entries


def _entered(listed: PerLayer, value: Any, count: int) -> list[Any]:
    """The entries of a list, one a layer; a list of runs is written out, and a mapping."""
    if listed.mapped:
        return [value.get(str(i)) for i in range(count)]
    if not listed.runs:
        return list(value)
    return [entry for entries, times in value for _ in range(times) for entry in entries]


def _computed(subject: Subject, axis: str, listed: PerLayer, count: int) -> list[Any]:
    """What the model's code computes for a list that the config leaves out, in a model of so many layers."""
    view = subject.layout.defaults(counted(subject, axis, count))
    return [evaluate(listed.default, view.over({"i": i})) for i in range(count)]


def _rescaled(subject: Subject, step: Step) -> Step:
    """Where the attention scale depends on the layer's number, moved layers' keys make up for it."""
    moved = {p: step.source(p)[0] for p in range(step.new) if step.source(p)[1] == OLD}
    rewrites = dict(step.rewrites)
    places = step.places
    for attention in subject.layout.attentions:
        if not (attention.scale and "layer" in names(attention.scale)):
            continue
        factors = {p: _ratio(subject, attention, source, p) for p, source in moved.items()}
        if set(factors.values()) != {1.0}:
            mend = "put the new layers at the end"
            check_unclamped(subject, step.axis, subject.stem(attention.key), mend)
        places = _one_by_one(step.places)
        for slot in subject.stem(attention.key):
            labels = {f"{OLD}{p}": Old(factor) for p, factor in factors.items()}
            rewrites[slot] = {**rewrites[slot], **labels}
    return dataclasses.replace(step, places=places, rewrites=rewrites)


def _ratio(subject: Subject, attention: Attention, source: int, position: int) -> float:
    sizes = subject.sizes.values
    before = scale(subject, attention, {**sizes, "layer": source})
    return before / scale(subject, attention, {**sizes, "layer": position})


def _one_by_one(places: tuple[Place, ...]) -> tuple[Place, ...]:
    """The same places, each old layer under a label of its own."""
    return tuple(
        Place(
            place.start + i,
            1,
            place.source + i,
            f"{OLD}{place.start + i}" if place.label == OLD else place.label,
        )
        for place in places
        for i in range(place.count)
    )
