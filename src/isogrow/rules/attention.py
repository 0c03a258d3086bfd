"""Attention expansion (arXiv 2308.06103, section 3.4): the dim k along which queries meet keys.

With new query channels Q' free, new key channels zero and s(k) the model's attention scale,

    s(k̂) [q | q'] · [c k | 0] = s(k) q · k      with c = s(k) / s(k̂)       (Theorem 3.4)

c = √k̂/√k where s(k) = 1/√k; c = 1 where the config holds the scale or the model has none. Where the config
holds it and says by convention what follows from k (Gemma), the config's number follows k, and c undoes that.

Where one softmax adds up two contractions (latent attention: r channels that rotate, and k that do not), s
is a function of both sizes, so c goes on the keys of both:

    s(k̂, r) ([q | q'] · [c k | 0] + p · c l) = s(k, r) (q · k + p · l)

Where the channels go follows from rotary positions (rotary.py).

Under a norm per head on q and k (QK-norm, RMS over k), new q and k rows are copies, which keep the
RMS (and the mean, under a LayerNorm); the switch is the new key gain and shift, and c goes on the old ones.

A state that writes by B and is read by C (Mamba) is such a contraction without a scale, each channel of which
fades at a pace of its own: with C' = 0 new ones may fade at any (`Attention.factors`). Where an
activation stands behind a convolution (Mamba-2), that is the switch, since f(0) = 0; what it reads is free.

Where the scale multiplies position biases too (Falcon's ALiBi), nothing undoes it for them: refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Attention, Index
from isogrow.plans.plan import OLD, Init, Old, Place, Rewrite, Step
from isogrow.rules import rotary
from isogrow.rules.inner import multiples
from isogrow.rules.places import MORE, NEW, append, constant, free, only
from isogrow.rules.subject import Role, Subject, check_unclamped


def grow(subject: Subject, axis: str, site: Index, new: int, init: Init) -> Step:
    """The step that grows the key/query dim at `site` to `new`."""
    old = subject.sizes.of(axis, site)
    held = _usual(subject, axis, new)
    for attention in subject.attentions(axis):
        if compensation(subject, attention, axis, old, new, held) != 1.0:
            _check_clamp(subject, attention, axis)
    places, config = _places(subject, axis, old, new)
    rewrites: dict[str, Rewrite] = {}
    for attention in subject.attentions(axis):
        factor = compensation(subject, attention, axis, old, new, held)
        _check_biases(subject, attention, axis, factor)
        normed = _norm_slots(subject, attention)
        switched = next((slot for slot, side in normed.items() if side == "query"), attention.query)
        drawn = subject.drawn(init, switched, axis)
        entries = _normed(_offset(subject, normed), factor, drawn) if normed else _plain(factor, drawn)
        for side, stem in (("query", attention.query), ("key", attention.key)):
            for slot in subject.stem(stem):
                rewrites[slot] = only(entries[side], places)
        for slot, side in normed.items():
            rewrites[slot] = only(entries[f"{side} gain"], places)
        for slot, side in _norm_slots(subject, attention, "shift").items():
            rewrites[slot] = only(entries[f"{side} shift"], places)
    for use in (use for use in subject.uses(axis) if use.name not in rewrites):
        rewrites[use.name] = only(free(subject.drawn(init, use.name, axis), center=use.slot.centred), places)
    for attention in subject.beside(axis):
        factor = compensation(subject, attention, axis, old, new, held)
        _check_clamp(subject, attention, axis)
        rewrites |= {slot: {OLD: Old(factor)} for slot in subject.stem(attention.key)}
    return Step("AttentionExpansion", axis, old, new, places, rewrites, site, {**config, **held})


def _usual(subject: Subject, axis: str, new: int) -> dict[str, Any]:
    """The config keys that a scale is made of and that follow this axis by convention, at its new size."""
    layout, sizes = subject.layout, subject.sizes.values
    scales = (a.scale for a in layout.attentions if a.scale and a.key in subject.slots)
    used = frozenset[str]().union(*map(names, scales))
    usual = {key: f for key, f in layout.usual(subject.config, sizes).items() if axis in names(f)}
    return {key: evaluate(f, {**sizes, axis: new}) for key, f in usual.items() if key in used}


def scale(subject: Subject, attention: Attention, values: Mapping[str, Any]) -> float:
    """The attention scale at these sizes; 1 where the model has none."""
    view = subject.layout.defaults(subject.config).over(values)
    return float(evaluate(attention.scale, view)) if attention.scale else 1.0


def compensation(
    subject: Subject, attention: Attention, axis: str, old: int, new: int, held: Mapping[str, Any]
) -> float:
    """c = s(k) / s(k̂): what undoes the change of the attention scale, of which `held` says the config's
    part."""
    before, after = ({**subject.sizes.values, axis: size, "layer": 0} for size in (old, new))
    after |= held
    return scale(subject, attention, before) / scale(subject, attention, after)


def _check_clamp(subject: Subject, attention: Attention, axis: str) -> None:
    """The scale goes on the keys, or on the gain and shift of their norm: none of them may be clamped."""
    slots = [
        slot
        for role in ("gain", "shift")
        for slot, side in _norm_slots(subject, attention, role).items()
        if side == "key"
    ]
    mend = "leave the head dim and grow heads instead"
    check_unclamped(subject, axis, slots or subject.stem(attention.key), mend)


def _check_biases(subject: Subject, attention: Attention, axis: str, factor: float) -> None:
    """Keys can undo the scale of q · k, but nothing that of a bias beside it."""
    alibi = subject.layout.biased(attention, subject.config)
    if alibi is not None and alibi.inside and factor != 1.0:
        word = subject.word(axis)
        raise subject.cannot_grow(
            axis,
            f"{subject.layout.family!r} adds ALiBi to the logits before it scales them, so"
            f" the biases would change with {word}, and no weight undoes it; grow heads instead",
        )


def _plain(factor: float, init: Init) -> dict[str, Rewrite]:
    return {"query": free(init), "key": constant(0.0, Old(factor))}


def _normed(offset: float, factor: float, init: Init) -> dict[str, Rewrite]:
    copied: Rewrite = {OLD: Old(), NEW: Old(), MORE: Old()}
    return {
        "query": copied,
        "key": copied,
        "query gain": free(init, center=True),
        "key gain": constant(-offset, Old(factor, offset * (factor - 1.0))),
        "query shift": free(init),
        "key shift": constant(0.0, Old(factor)),
    }


def _offset(subject: Subject, normed: Mapping[str, str]) -> float:
    """What the code adds to the key's gain before it multiplies by it."""
    norms = (subject.slots[slot].norm for slot, side in normed.items() if side == "key")
    return next((norm.offset for norm in norms if norm is not None), 0.0)


def _norm_slots(subject: Subject, attention: Attention, role: Role = "gain") -> dict[str, str]:
    """The gains (or shifts) of a norm over this axis: slot -> "query" or "key"."""
    sides = {attention.query: "query", attention.key: "key"}
    found: dict[str, str] = {}
    for use in subject.uses(attention.axis):
        if use.role == role and use.norm is not None and use.norm.of in sides:
            found[use.name] = sides[use.norm.of]
    return found


def _places(subject: Subject, axis: str, old: int, new: int) -> tuple[tuple[Place, ...], dict[str, Any]]:
    """Where old channels go, and what the config's position scheme needs."""
    attentions = subject.attentions(axis)
    normed = any(_norm_slots(subject, attention) for attention in attentions)
    ropes = next((attention.ropes for attention in attentions if attention.ropes), ())
    if normed and new % old:
        raise multiples(
            subject, axis, old, new, "queries and keys are normalised over it, so only copies fit"
        )
    return rotary.placed(subject, axis, ropes, old, new, normed) if ropes else (append(old, new), {})
