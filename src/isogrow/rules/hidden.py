"""Hidden dimension expansion (arXiv 2308.06103, section 3.5), under every kind of norm.

Zero (RMSNorm reads the residual, Theorem 3.5): new channels of everything that writes the residual are
zero, what reads them is free. mean x² shrinks by h/ĥ, so with s = √(h/ĥ)

    ĝ = s g,  ε̂ = s² ε:   s g x / √(s² mean x² + s² ε) = g x / √(mean x² + ε)

A norm that shares the config's ε but does not grow gets inputs s x instead, with the same law.

Mean (LayerNorm reads the residual): zeros would move the mean. Each writer's new channels are the mean
of its old ones, so the residual's mean stays and Σ(x - μ)² gains nothing: the same s and ε̂. The
normalised new channels are 0; with a new shift of 0 the consumers and gains are free. The mean is of what
reaches the residual: behind a gain λ without a norm (LayerScale) it is that of λ_j · row_j, and a new λ is 1.

Where ε is a constant in the model's code, what writes the residual is scaled by 1/s instead, so that mean
square and variance stay what they were, and ε with them; gains undo the scale:

    s g (x/s) / √(mean x² + ε) = g x / √(mean x² + ε)

So it is, too, where a norm shares the config's ε and what feeds it is clamped: no scale passes a clamp. And
where the config's ε is to stay (`Choices.kept`), for a reader that does not follow the config.

A tied head then reads an embedding that is 1/s too large, so the final gain and shift take s once more.

A norm without a tensor has no gain to undo the scale: what reads the residual behind it takes the s of the
gain on its old columns. A tied head can't, since the embedding writes as well as it reads.

Where the model multiplies an embedding by a function m(h) (Gemma's √h), its writers take m(h)/m(ĥ) as well. A
tied head reads the entries without m, so the final gain and shift are divided by what the entries took. Where
it multiplies a head's input by m(h) (T5's h^-½), the head takes m(h)/m(ĥ), or the final gain if it is tied.

Copy (LayerNorm writes the residual: post-norm, or on a branch's output): its output's mean depends on the
data, so writers, gains and shifts are copied whole (ĥ = m·h keeps mean and variance), and the consumers' new
columns are the switch: zero for one copy, ±r in pairs where there are more, since equal copies would stay
equal. A tied head is made of copies too, so before it the final norm is the switch: its new gains and shifts
are zero. Names without a prefix don't tell whether a head is tied, and this is exact with it and without.
"""

from __future__ import annotations

from dataclasses import replace
from math import isclose, log2, sqrt
from typing import Any

from isogrow.layouts.layout import Index
from isogrow.layouts.slots import closing
from isogrow.plans.plan import OLD, Constant, Entry, Free, Init, Mean, Old, Rewrite, Step
from isogrow.rules.inner import multiples
from isogrow.rules.places import MORE, NEW, append, constant, copies, free, only
from isogrow.rules.subject import Reading, Subject, Use


def grow(subject: Subject, axis: str, site: Index, new: int, init: Init) -> Step:
    """The step that grows the residual stream to `new`."""
    norms = subject.norms(axis)
    old = subject.sizes.of(axis)
    if any(norm.kind == "layer" and (norm.where == "post" or closing(norm)) for norm in norms):
        return _copied(subject, axis, old, new, init)
    layer = any(norm.kind == "layer" for norm in norms)
    if layer and any(norm.kind == "rms" for norm in norms):
        raise subject.cannot_grow(axis, "LayerNorm and RMSNorm share the residual, and no one fill fits")
    keys = {norm.eps for norm in norms if isinstance(norm.eps, str)}
    fixed = any(not isinstance(norm.eps, str) for norm in norms)
    kept = not keys.isdisjoint(subject.choices.kept)
    larger = fixed or kept or any(map(subject.clamped, _sharing(subject, axis, keys)))
    written = (slot.norm for slot in subject.slots.values() if axis in slot.normed)
    if kept and any(norm is not None and norm.where == "post" for norm in written):
        raise subject.cannot_grow(
            axis,
            "an RMSNorm writes the residual, and where its ε stays no rule scales what it writes; let the"
            " ε be edited, or grow ffn instead",
        )
    _check_readers(subject, axis, moved=layer or larger)
    if larger:
        step = _amplified(subject, axis, old, new, init, layer)
        return replace(step, notes=(_cost(keys, old, new),)) if kept else step
    return _normalised(subject, axis, old, new, init, Mean() if layer else Constant(0.0))


def _cost(keys: set[str], old: int, new: int) -> str:
    """What it costs to keep an ε that could have been edited."""
    named, r = " and ".join(sorted(keys)), sqrt(new / old)
    exact = "exact, a power of two" if log2(r).is_integer() else "rounded once to the dtype"
    return f"{named} stays, so what writes the residual takes × {r:.4g}, {exact}; else gains alone would be"


def _amplified(subject: Subject, axis: str, old: int, new: int, init: Init, layer: bool) -> Step:
    """A constant ε: the writers make up for the changed mean square."""
    ties = {slot.tied for slot in subject.far_heads} & subject.slots.keys()
    if any(axis in subject.slots[tied].axes for tied in ties):
        raise subject.cannot_grow(
            axis,
            "what writes the residual would be scaled, the embedding too, and the head that it is reads what"
            " no gain can undo; untie the head, or grow ffn instead",
        )
    places, r = append(old, new), sqrt(new / old)
    fill: Entry = Mean(a=r) if layer else Constant(0.0)
    reading = subject.reading(axis)
    rewrites: dict[str, Rewrite] = {}
    for use in subject.uses(axis):
        drawn = subject.drawn(init, use.name, axis)
        if use.role == "producer":
            filled = _filled(subject, use, fill)
            entries = _times({OLD: Old(r), NEW: filled, MORE: filled}, subject.times(use, axis, old, new))
        elif use.role == "consumer":
            read = _read(reading[use.name], 1 / r, 1 / r, drawn, fill)
            entries = _times(read, subject.times(use, axis, old, new))
        else:
            gain, shift = _undone(subject, use, 1 / r, r * _tied_times(subject, axis, old, new))
            entries = _entries(subject, use, gain, drawn, fill, shift)
        rewrites[use.name] = only(entries, places)
    return Step("HiddenExpansion", axis, old, new, places, rewrites)


def _read(how: Reading, plain: float, bare: float, init: Init, fill: Entry) -> Rewrite:
    """What a reader of the residual takes: without a gain before it, it undoes the change itself; of a mean
    that no norm centres it reads nothing."""
    if how == "bare" and isinstance(fill, Mean):
        return constant(0.0, Old(bare))
    return free(init, Old({"plain": plain, "bare": bare, "gain": 1.0}[how]))


def _check_readers(subject: Subject, axis: str, moved: bool) -> None:
    """Where no gain stands before a reader, it has to undo the change itself; a tied head, and whoever sees
    the model's output, can't. `moved`: the residual's own channels change, too."""
    for slot, how in subject.reading(axis).items():
        if slot in subject.slots or how == "gain" or (how == "bare" and not moved):
            continue
        changed = (
            "the last norm has no gain that could undo its changed output"
            if how == "plain"
            else "its channels change, and no norm stands before what reads them last"
        )
        head = (
            "the tied head can't either, since its entries are the embedding's; untie the head"
            if slot
            else "this model has no head that reads it; grow the model with its head"
        )
        raise subject.cannot_grow(axis, f"{changed}, and {head}, or grow ffn instead")


def _undone(subject: Subject, use: Use, s: float, tied: float) -> tuple[float, float]:
    """What the gain and shift of a norm take where its input is scaled by 1/s and ε is not, and a tied
    head's entries by `tied`."""
    if use.norm is not None and closing(use.norm):
        return 1.0, 1 / s  # it writes the residual, which is scaled itself
    if subject.before_tied_head(use.slot):
        return s / tied, 1 / tied
    return s, 1.0


def _tied_times(subject: Subject, axis: str, old: int, new: int) -> float:
    """What a tied head's logits take for what the model multiplies the embedding by (its entries make up for
    that) and what it multiplies the head's input by (they don't)."""
    uses = [use for use in subject.uses(axis) if use.role == "producer" and use.slot.times]
    factors = {subject.times(use, axis, old, new) for use in uses}
    if len(factors) > 1:
        raise subject.cannot_grow(axis, "the model multiplies several embeddings, each by another factor")
    heads = (slot for slot in subject.layout.table if slot.tied and axis in slot.consumed)
    head = next((subject.undone(head.times, axis, old, new) for head in heads), 1.0)
    return (factors.pop() if factors else 1.0) / head


def _times(rewrite: Rewrite, factor: float) -> Rewrite:
    """The same entries, times a factor."""
    return {label: _by(entry, factor) for label, entry in rewrite.items()} if factor != 1.0 else rewrite


def _by(entry: Entry, factor: float) -> Entry:
    if isinstance(entry, Mean):
        return replace(entry, a=entry.a * factor)
    return _scaled(entry, factor)


def _normalised(subject: Subject, axis: str, old: int, new: int, init: Init, fill: Entry) -> Step:
    """Writers filled with zero or with their mean; gains and ε make up for the changed mean square."""
    places = append(old, new)
    s = sqrt(old / new)
    rewrites: dict[str, Rewrite] = {}
    tied, reading = _tied_times(subject, axis, old, new), subject.reading(axis)
    for use in subject.uses(axis):
        drawn = subject.drawn(init, use.name, axis)
        last = subject.before_tied_head(use.slot)
        gain, shift = (s / tied, 1 / tied) if last else (s, 1.0)
        if use.role == "consumer":
            entries = _read(reading[use.name], s, 1.0, drawn, fill)
        else:
            entries = {OLD: Old(), **_entries(subject, use, gain, drawn, fill, shift)}
        rewrites[use.name] = only(_times(entries, subject.times(use, axis, old, new)), places)
    config = _epsilons(subject, axis, old / new)
    for slot in _sharing(subject, axis, set(config)):
        base = rewrites.get(slot, {})
        entries = {"old": Old(), **base}
        rewrites[slot] = {label: _exactly(_scaled(entry, s)) for label, entry in entries.items()}
    return Step("HiddenExpansion", axis, old, new, places, rewrites, config=config)


def _filled(subject: Subject, use: Use, fill: Entry) -> Entry:
    """What a writer's new channels are; a mean is of what reaches the residual."""
    return replace(fill, weights=subject.gate(use.name)) if isinstance(fill, Mean) else fill


def _entries(subject: Subject, use: Use, s: float, init: Init, fill: Entry, shift: float) -> Rewrite:
    """What writes the residual takes, and what gains and shifts over it do."""
    if use.role == "producer":
        filled = _filled(subject, use, fill)
        return {NEW: filled, MORE: filled}
    if use.role == "gain" and use.norm is None:
        return constant(1.0) if isinstance(fill, Mean) else free(init, center=True)
    if use.role == "shift":
        return constant(0.0, Old(shift))
    assert use.role == "gain" and use.norm is not None
    if use.norm.where == "branch" and init.kind == "copy":
        # A copy of the gain of zero that an added layer has would be dead: its writers are zero here.
        init = Init("normal", init.std)
    # (offset + g) s - offset: the law is about the factor that the code multiplies by.
    return free(init, Old(s, use.norm.offset * (s - 1.0)), center=True)


def _epsilons(subject: Subject, axis: str, ratio: float) -> dict[str, Any]:
    """The config's ε of every norm over `axis`, times `ratio`."""
    edits: dict[str, Any] = {}
    view = subject.layout.defaults(subject.config)
    for norm in subject.norms(axis):
        assert isinstance(norm.eps, str)
        names = subject.layout.called(norm.eps, subject.config)
        edits |= dict.fromkeys(names, float(view[norm.eps]) * ratio)
    return edits


def _sharing(subject: Subject, axis: str, keys: set[str]) -> tuple[str, ...]:
    """Slots that feed a norm over another axis which shares one of these ε."""
    inner = [n for n in subject.all_norms() if n.eps in keys and n not in subject.norms(axis)]
    for norm in inner:
        if not norm.of:
            raise subject.cannot_grow(axis, "a norm of another axis shares its ε, and its input is no weight")
    return tuple(slot for norm in inner for slot in subject.stem(norm.of))


def _scaled(entry: Entry, s: float) -> Entry:
    """The same entry, times s (free ones are drawn like the scaled old ones, so they need nothing)."""
    return Old(entry.a * s, entry.b * s) if isinstance(entry, Old) else entry


def _exactly(entry: Entry) -> Entry:
    """The same entry, which is kept to the bit where one factor undoes another."""
    return Old(1.0, entry.b) if isinstance(entry, Old) and isclose(entry.a, 1.0, rel_tol=1e-15) else entry


def _copied(subject: Subject, axis: str, old: int, new: int, init: Init) -> Step:
    last = {use.name for use in subject.uses(axis) if subject.may_tie and _last(subject, use)}
    if subject.tied_head and subject.tied_along(axis) and not last:
        raise subject.cannot_grow(
            axis,
            "a LayerNorm writes the residual, so only copies keep its mean, and the tied"
            " head would read them all; untie the head, or leave the width and grow ffn instead",
        )
    if new % old:
        raise multiples(
            subject, axis, old, new, "a LayerNorm writes the residual, so only whole copies keep its mean"
        )
    if any(subject.times(use, axis, old, new) != 1.0 for use in subject.uses(axis)):
        raise subject.cannot_grow(
            axis,
            "a LayerNorm writes the residual, so only copies keep its mean, and the model multiplies an"
            " embedding by a function of the width, which no gain of a copy undoes; grow ffn instead",
        )
    places = copies(old, new)
    labels = [place.label for place in places[1:]]
    rewrites: dict[str, Rewrite] = {}
    for use in subject.uses(axis):
        if use.role == "consumer":
            rewrites[use.name] = cancelling(labels, init)
        else:
            offset = use.norm.offset if use.norm is not None and use.role == "gain" else 0.0
            rewrites[use.name] = dict.fromkeys(labels, Constant(-offset) if use.name in last else Old())
    return Step("HiddenExpansion", axis, old, new, places, rewrites)


def _last(subject: Subject, use: Use) -> bool:
    """Whether this is the norm before the head: not an encoder's last, which attention of a decoder reads."""
    return use.norm is not None and use.norm.where == "pre" and subject.before_head(use.slot)


def cancelling(labels: list[str], init: Init) -> Rewrite:
    """What consumers do with copies of one channel: nothing in sum, and no two the same.

    One copy: 0. More: r, -r in pairs, and 0 for an odd one.
    """
    drawn = Init("normal", init.std) if init.kind == "copy" else init
    entries: dict[str, Entry] = {labels[0]: Constant(0.0)} if len(labels) % 2 else {}
    paired = labels[len(labels) % 2 :]
    for i, label in enumerate(paired):
        entries[label] = Free(drawn, sign=-1.0 if i % 2 else 1.0, stream=f"pair{i // 2}")
    return entries
