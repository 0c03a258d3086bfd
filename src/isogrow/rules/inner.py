"""MLP expansion, head addition, heads expansion (arXiv 2308.06103, sections 3.1-3.3).

An inner axis lies between those that produce it and those that consume it (ffn between gate/up and
down; heads and value_dim between q, k, v and the output projection). With new producers P' free and the
new consumers zero,

    [f(x P) | f(x P')] [C; 0] = f(x P) C         (Theorems 3.1, 3.2, 3.3)

whatever P' is. The zeroed consumers get gradient at the first step, the producers by the second.

An inner axis that is normalised before it is consumed (BERT's MLM transform) takes copies, which leave
mean and variance as they are, and its new gains and shifts are the switch; it needs a whole multiple.
Under an RMSNorm (the latents of DeepSeek's attention) any size will do: with r = √(n̂/n) on old producers and
new ones zero, the mean square stays what it was, whatever ε is, and g/r undoes the r:

    (1/n̂) Σ (r x)² = (1/n) Σ x²,   (g/r) (r x) / √(mean x² + ε) = g x / √(mean x² + ε)

A norm without a gain (on Gemma 4's values) leaves it to what reads the axis to undo the r.

Where the norm is one of queries or keys over all heads (OLMo 2), what it normalises is copied for the same
reason, its gains are free, and the rest is as without it: values free, the output's new columns zero. A norm
per head does not run over heads: whatever gains a new head has of its own are as free as its queries.
So is a gate of which only what is far above its mean is kept (Gemma 3n) copied, and all else as usual.
The taps of a causal convolution are summed over, the newest token's last, so that new ones, which are zero,
come before the old: they read tokens that lie further back.
An axis that nothing consumes is an output: its new channels are copies where that is possible. Where heads
have slopes (ALiBi), old heads go where theirs are (alibi.py).
"""

from __future__ import annotations

from math import sqrt

from isogrow.errors import SizeError
from isogrow.layouts.layout import Index
from isogrow.plans.expansions import expansion_name
from isogrow.plans.plan import Constant, Init, Old, Rewrite, Step
from isogrow.rules.alibi import placed
from isogrow.rules.places import MORE, NEW, append, constant, copies, free, only, prepend
from isogrow.rules.subject import Subject, Use


def grow(subject: Subject, axis: str, site: Index, new: int, init: Init) -> Step:
    """The step that grows an inner axis at `site` to `new`."""
    old = subject.sizes.of(axis, site)
    uses = list(subject.uses(axis))
    contracted = {slot for a in subject.layout.attentions for slot in (a.query, a.key)}
    if subject.norms(axis):
        if all(norm.of in contracted for norm in subject.norms(axis)) or _ungained(subject, axis, uses):
            return _copied(subject, axis, site, old, new, init, uses)
        return _normed(subject, axis, site, old, new, init, uses)
    output = not any(use.role == "consumer" for use in uses)
    places = placed(subject, axis, new) or (prepend if axis in subject.layout.windows else append)(old, new)
    rewrites = {
        use.name: only(_entries(use, output, subject.drawn(init, use.name, axis)), places) for use in uses
    }
    for slot in subject.numbered(axis):
        center = subject.slots[slot].gain or subject.slots[slot].centred
        rewrites[slot] = only(free(subject.drawn(init, slot, axis), center=center), places)
    return Step(expansion_name(axis), axis, old, new, places, rewrites, site)


def _entries(use: Use, output: bool, init: Init) -> Rewrite:
    if use.role == "consumer":
        return constant(0.0)
    return free(Init("copy", init.std) if output else init, center=use.role == "gain" or use.slot.centred)


def _ungained(subject: Subject, axis: str, uses: list[Use]) -> bool:
    """Whether a mean is taken over the axis, and no gain could be a switch behind it."""
    kinds = {norm.kind for norm in subject.norms(axis)}
    return kinds == {"layer"} and not any(use.role == "gain" for use in uses)


def _copied(
    subject: Subject, axis: str, site: Index, old: int, new: int, init: Init, uses: list[Use]
) -> Step:
    """Queries and keys that a norm runs over are copied (or what a mean without a gain is taken of); nothing
    else changes."""
    if new % old:
        kept = "mean and std" if _ungained(subject, axis, uses) else "mean square"
        raise multiples(subject, axis, old, new, f"a norm runs over it, so only whole copies keep its {kept}")
    stems = {norm.of for norm in subject.norms(axis)}
    places = append(old, new)
    rewrites: dict[str, Rewrite] = {}
    for use in uses:
        whole: Rewrite = {NEW: Old(), MORE: Old()}
        fed = use.slot.stem in stems
        drawn = subject.drawn(init, use.name, axis)
        if use.role == "gain" and drawn.kind == "copy":
            drawn = Init("normal", drawn.std)  # queries are copied already: gains must part them
        rewrites[use.name] = only(whole if fed else _entries(use, False, drawn), places)
    return Step(expansion_name(axis), axis, old, new, places, rewrites, site)


def _normed(
    subject: Subject, axis: str, site: Index, old: int, new: int, init: Init, uses: list[Use]
) -> Step:
    if all(use.norm is None or use.norm.kind == "rms" for use in uses):
        return _amplified(subject, axis, site, old, new, init, uses)
    if new % old:
        raise multiples(subject, axis, old, new, "a norm runs over it, so only whole copies keep its mean")
    places = copies(old, new)
    labels = [place.label for place in places[1:]]
    rewrites = {use.name: _normed_entries(use, labels, subject.drawn(init, use.name, axis)) for use in uses}
    return Step(expansion_name(axis), axis, old, new, places, rewrites, site)


def _amplified(
    subject: Subject, axis: str, site: Index, old: int, new: int, init: Init, uses: list[Use]
) -> Step:
    """Under an RMSNorm old producers make up for the changed mean square, and new ones are the switch."""
    places, r = append(old, new), sqrt(new / old)
    gained = any(use.role == "gain" for use in uses)
    rewrites: dict[str, Rewrite] = {}
    for use in uses:
        drawn = subject.drawn(init, use.name, axis)
        offset = use.norm.offset if use.norm is not None else 0.0
        entries = free(drawn)
        if use.role == "consumer" and not gained:
            # What the gain would undo. A copy may hold the zeros of an added head, which would be dead behind
            # new producers of zero.
            own = Init("normal", drawn.std) if drawn.kind == "copy" else drawn
            entries = free(own, Old(1 / r))
        elif use.role == "producer":
            entries = constant(0.0, Old(r))
        elif use.role == "gain":
            entries = free(drawn, Old(1 / r, offset * (1 / r - 1.0)), center=True)
        rewrites[use.name] = only(entries, places)
    return Step(expansion_name(axis), axis, old, new, places, rewrites, site)


def _normed_entries(use: Use, labels: list[str], init: Init) -> Rewrite:
    if use.role == "producer":
        return {label: Old() for label in labels}
    if use.role == "consumer":
        return {label: free(init)[MORE if i else NEW] for i, label in enumerate(labels)}
    switch = -use.norm.offset if use.role == "gain" and use.norm is not None else 0.0
    return {label: Constant(switch) for label in labels}


def multiples(subject: Subject, axis: str, old: int, new: int, why: str) -> SizeError:
    """The refusal of a size that is no multiple, naming the nearest sizes that are, as requests name them:
    groups by the heads that they make, and key/value heads with the query heads of whole groups."""
    sizes = subject.sizes
    word, unit = subject.word(axis), sizes.of("kv_heads") if axis == "group" else 1
    beside = sizes.of("group") if axis == "kv_heads" and sizes.has("group") else 0
    below, above = new // old * old, (new // old + 1) * old
    near = [n * unit for n in (below, above) if n > old]
    said = " or ".join(f"{n}" + (f" with heads={n * beside}" if beside else "") for n in near)
    return SizeError(
        f"{word} can't grow from {old * unit} to {new * unit} exactly: {why}. It grows to multiples of"
        f" {old * unit}: give {said}"
    )
