"""Attention expansion (arXiv 2308.06103, section 3.4): the dim k along which queries meet keys.

With new query channels Q' free, new key channels zero and s(k) the model's attention scale,

    s(k̂) [q | q'] · [c k | 0] = s(k) q · k      with c = s(k) / s(k̂)       (Theorem 3.4)

c = √k̂/√k where s(k) = 1/√k; c = 1 where the config holds the scale or the model has none.

Rotary positions pair the channels. For k̂ = m·k old pair i moves to pair m·i: its frequency
θ^(-2i/k) = θ^(-2mi/k̂) is bit-equal. For any other even k̂, θ̂ = θ^(k̂/k) lets pair i keep its place and
frequency, up to the rounding of the table.

Where only the first r channels rotate, the rest grows: the rotating ones and their frequencies, functions of
r, stay. A config that holds r / k gets r / k̂.

Under a norm per head on q and k (QK-norm, RMS over k), new q and k rows are copies, which keep the
RMS (and the mean, under a LayerNorm); the switch is the new key gain and shift, and c goes on the old ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, log, nextafter, pi
from typing import Any

from isogrow.config import get
from isogrow.errors import SizeError
from isogrow.formula import evaluate
from isogrow.layout import Attention, Index, Rope
from isogrow.plan import OLD, Init, Old, Place, Rewrite, Step
from isogrow.rules.inner import multiples
from isogrow.rules.places import MORE, NEW, append, constant, free, only
from isogrow.rules.subject import Role, Subject, check_unclamped

STRIDED = ("default", "linear", "llama3")
POWERED = (*STRIDED, "yarn")


def grow(subject: Subject, axis: str, site: Index, new: int, init: Init) -> Step:
    """The step that grows the key/query dim at `site` to `new`."""
    old = subject.sizes.of(axis, site)
    places, config = _places(subject, axis, old, new)
    rewrites: dict[str, Rewrite] = {}
    for attention in subject.attentions(axis):
        factor = compensation(subject, attention, axis, old, new)
        normed = _norm_slots(subject, attention)
        if factor != 1.0:
            _check_clamp(subject, attention, axis)
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
    return Step("AttentionExpansion", axis, old, new, places, rewrites, site, config)


def scale(subject: Subject, attention: Attention, values: Mapping[str, Any]) -> float:
    """The attention scale at these sizes; 1 where the model has none."""
    view = subject.layout.defaults(subject.config).over(values)
    return float(evaluate(attention.scale, view)) if attention.scale else 1.0


def compensation(subject: Subject, attention: Attention, axis: str, old: int, new: int) -> float:
    """c = s(k) / s(k̂): what undoes the change of the attention scale."""
    return scale(subject, attention, {axis: old, "layer": 0}) / scale(
        subject, attention, {axis: new, "layer": 0}
    )


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
    norms = (subject.slots[slot][0].norm for slot, side in normed.items() if side == "key")
    return next((norm.offset for norm in norms if norm is not None), 0.0)


def _norm_slots(subject: Subject, attention: Attention, role: Role = "gain") -> dict[str, str]:
    """The gains (or shifts) of a norm over this axis: slot -> "query" or "key"."""
    sides = {attention.query: "query", attention.key: "key"}
    found: dict[str, str] = {}
    for use in subject.uses(attention.axis):
        if use.role == role and use.norm is not None and use.norm.of in sides:
            found[use.slot] = sides[use.norm.of]
    return found


def _places(subject: Subject, axis: str, old: int, new: int) -> tuple[tuple[Place, ...], dict[str, Any]]:
    """Where old channels go, and what the config's position scheme needs."""
    attentions = subject.attentions(axis)
    normed = any(_norm_slots(subject, attention) for attention in attentions)
    rope = next((attention.rope for attention in attentions if attention.rope is not None), None)
    if normed and new % old:
        raise multiples(axis, old, new, "queries and keys are normalised over it, so only copies fit")
    if rope is None:
        return append(old, new), {}
    turning = subject.layout.rotated(rope, subject.config, old)
    if turning < old or rope.rotated:
        return append(old, new), _shared(subject, rope, turning, new)
    kind = _scaling(subject, rope)
    if new % 2:
        raise SizeError(f"{axis}={new} is odd, and rotary positions pair its channels: give {new + 1}")
    if new % old == 0 and kind in STRIDED:
        return strided(rope.pairs, old, new), {}
    if normed:
        raise SizeError(
            f"{axis} can't grow exactly under QK-norm with rope scaling {kind!r}: its frequencies"
            " can't be spread; leave the head dim and grow heads instead"
        )
    return _appended_pairs(rope.pairs, old, new), _powered(subject, rope, old, new)


def _shared(subject: Subject, rope: Rope, turning: int, new: int) -> dict[str, Any]:
    """The config's part of the channels that rotates, such that the model's int(k̂ · part) is what it was."""
    if rope.rotated:
        return {}
    share = turning / new
    while int(new * share) < turning:
        share = nextafter(share, 1.0)
    kept = [path for path in rope.share if get(subject.config, path) is not None]
    return dict.fromkeys(kept or rope.share[-1:], share)


def strided(pairs: str, old: int, new: int) -> tuple[Place, ...]:
    """Pair i moves to pair m·i; pairs m·i + r are new, like pair i."""
    m = new // old
    labels = (OLD, NEW, *(MORE for _ in range(2, m)))
    if pairs == "adjacent":
        return tuple(
            Place(2 * (m * i + r), 2, 2 * i, label) for i in range(old // 2) for r, label in enumerate(labels)
        )
    return tuple(
        Place(half * new // 2 + r, old // 2, half * old // 2, label, m)
        for half in (0, 1)
        for r, label in enumerate(labels)
    )


def _appended_pairs(pairs: str, old: int, new: int) -> tuple[Place, ...]:
    """Pair i keeps its place; new pairs follow."""
    if pairs == "adjacent":
        return append(old, new)
    half = append(old // 2, new // 2)
    shifted = (Place(p.start + new // 2, p.count, p.source + old // 2, p.label) for p in half)
    return (*half, *shifted)


def _scaling(subject: Subject, rope: Rope) -> str:
    """The rope scaling type, refused by name where no exact rule is known."""
    scaling: Mapping[str, Any] = get(subject.config, _active(subject, rope)) or {}
    said = str(scaling.get("rope_type", scaling.get("type", "default")))
    kind = dict(rope.aliases).get(said, said)
    if kind not in POWERED:
        raise SizeError(
            f"key_dim can't grow under rope scaling {kind!r}: its frequencies depend on the head dim in"
            " a way no config undoes; leave the head dim and grow heads instead"
        )
    return kind


def _active(subject: Subject, rope: Rope) -> str:
    """The config key whose scaling the model reads; "" if there is none."""
    return next((path for path in rope.scaling if get(subject.config, path)), "")


def _powered(subject: Subject, rope: Rope, old: int, new: int) -> dict[str, Any]:
    """θ̂ = θ^(k̂/k), wherever the config keeps a θ (old and new names may stand side by side)."""
    kept = {path: get(subject.config, path) for path in rope.theta}
    thetas = {path: float(theta) for path, theta in kept.items() if theta is not None}
    own, common = f"{_active(subject, rope)}.rope_theta", rope.theta[-1]
    if own not in thetas and common not in thetas:
        thetas[common] = rope.default
    if _scaling(subject, rope) == "yarn":
        _check_ramp(subject, rope, thetas.get(own) or thetas[common], old)
    return {path: theta ** (new / old) for path, theta in thetas.items()}


def _check_ramp(subject: Subject, rope: Rope, theta: float, old: int) -> None:
    """YaRN's ramp between pairs k log(L / 2πβ) / 2 log θ, which θ̂ keeps, ends no later than at k - 1."""
    scaling: Mapping[str, Any] = get(subject.config, _active(subject, rope))
    given = (
        get(subject.config, "original_max_position_embeddings"),
        scaling.get("original_max_position_embeddings"),
        get(subject.config, "max_position_embeddings"),
    )
    length = next((n for n in given if n is not None), 1)

    def pair(turns: float) -> float:
        return old * log(length / (2 * pi * turns)) / (2 * log(theta))

    begin, end = pair(scaling.get("beta_fast") or 32), pair(scaling.get("beta_slow") or 1)
    if ceil(end) > old - 1 and floor(begin) < old // 2 - 1:
        raise SizeError(
            f"key_dim can't grow under this rope scaling: with θ = {theta:g} the ramp of 'yarn' is cut off at"
            f" pair {old - 1}, and the cut would move; leave the head dim and grow heads instead"
        )
