"""What each norm needs when the axis that it runs over grows (docs/laws.md, the table of norms).

| norm  | what feeds its new channels | old gain's factor | ε's factor |
|---|---|---|---|
| RMS   | zero                        | √(n/n̂)           | n/n̂       |
| Layer | the mean of the old         | √(n/n̂)           | n/n̂       |
| both  | whole copies                | 1                 | 1          |

What feeds a norm through a gain without a norm (LayerScale) is asked what it is behind that gain: a mean of
new entries is weighted by the old gains, times the new gain.

Where what feeds the norm is scaled by f, ε's factor is multiplied by f², and the gain's stays as it is: f
scales what the gain multiplies as well as what it is divided by. A norm on a branch's output writes the
residual, so its gain's factor takes f; a tied head reads the embedding, so the final gain's is divided by f.
A shift's factor is the gain's without the √(n/n̂).

A norm without a tensor has no gain: what reads it takes that factor instead, a tied head too, though the
factor of its entries is the embedding's. Nothing can where the model's output is what was normalised.

What reads the residual without a norm is divided by f, and is zero for new channels that are a mean.

A norm that shares a scaled ε but whose axis does not grow needs its input scaled by √(ε̂/ε).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isclose, sqrt
from typing import Any

from isogrow.errors import LawError
from isogrow.laws.multipliers import multiplied
from isogrow.laws.network import output
from isogrow.layouts.config import Config, edited
from isogrow.layouts.layout import Norm, Slot
from isogrow.layouts.slots import closing
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import OLD, Constant, Entry, Mean, Old, Plan, Step

# Scales are square roots and quotients of integers: a few roundings of float64.
TOLERANCE = 1e-14
FILLS = {("rms", "zero"), ("layer", "mean"), ("rms", "copy"), ("layer", "copy")}


def check_norms(anatomy: Anatomy, plan: Plan, plain: Mapping[str, Norm], bare: Iterable[str] = ()) -> None:
    """Raise `LawError` where a step breaks the statistics of a norm. `plain`: slots that read one without a
    tensor, `bare`: those that read the residual as it is (or `network.output`)."""
    slots = (*anatomy.slots.values(), *anatomy.plain_norms)
    norms = tuple({slot.norm: None for slot in slots if slot.norm is not None})
    config = anatomy.config
    for step in plan.steps:
        after = edited(config, step.config)
        _check_identity(anatomy, step)
        if step.axis in anatomy.layout.residuals:
            _check_bare(anatomy, step, bare)
            _check_far(anatomy, step)
        for norm in norms:
            before = _epsilon(anatomy, norm, config)
            # ε = 0 (the paper's) stays 0 under any factor, so any factor is the right one.
            ratio = _epsilon(anatomy, norm, after) / before if before else None
            if step.axis in _axes(anatomy, norm):
                share = _check_grown(anatomy, step, norm, ratio)
                readers = [s for s, read in plain.items() if read == norm and _reads(anatomy, s, step)]
                _check_readers(anatomy, step, readers, sqrt(share))
            else:
                _check_input(anatomy, step, norm, sqrt(1.0 if ratio is None else ratio), bare)
        config = after


def _check_identity(anatomy: Anatomy, step: Step) -> None:
    """A new layer that normalises the residual itself gives LN(x), which is never x; one that multiplies it
    gives x only by 1."""
    for slot in (*anatomy.slots.values(), *anatomy.plain_norms):
        if slot.norm is not None and slot.norm.where == "post" and step.axis in slot.index:
            raise LawError(
                f"{step.expansion} adds {step.axis} that normalise the residual itself ({slot.name}): such a"
                " layer computes LN(x), never x"
            )
        if slot.unit and step.axis in slot.index and _new(step, slot.name) != {Constant(1.0)}:
            raise LawError(
                f"{step.expansion} makes {slot.name} of a new block"
                f" {' and '.join(map(str, _new(step, slot.name)))}, and it multiplies all of the residual: it"
                " must be 1"
            )


def _new(step: Step, slot: str) -> set[Entry]:
    """What a step makes of a slot's new entries."""
    return {step.entry(slot, place.label) for place in step.places if not place.old}


def _axes(anatomy: Anatomy, norm: Norm) -> tuple[str, ...]:
    slots = (*anatomy.slots.values(), *anatomy.plain_norms)
    return next((slot.normed for slot in slots if slot.norm == norm), ())


def _epsilon(anatomy: Anatomy, norm: Norm, config: Config) -> float:
    value: Any = anatomy.layout.defaults(config)[norm.eps] if isinstance(norm.eps, str) else norm.eps
    return float(value)


def _check_grown(anatomy: Anatomy, step: Step, norm: Norm, ratio: float | None) -> float:
    """What the step leaves of the norm's mean square (and variance) if what feeds it is not scaled."""
    fills = {_fill(anatomy, step, slot) for slot in _feeders(anatomy, step, norm)}
    if len(fills) != 1 or (norm.kind, min(fills)) not in FILLS:
        raise LawError(
            f"{step.expansion} fills what feeds a {norm.kind} norm over {step.axis} with"
            f" {' and '.join(sorted(fills))}, which changes its statistics"
        )
    own = {name: slot for name, slot in anatomy.slots.items() if slot.norm == norm}
    gates = [name for name, slot in own.items() if slot.gain]
    # A gain times the zero that feeds an RMSNorm is zero, whatever it is.
    follows = norm.where == "post" and fills != {"zero"}
    if follows and any(_fill(anatomy, step, slot) not in fills for slot in gates):
        raise LawError(
            f"{step.expansion} must fill the gains of a norm that writes {step.axis} as what feeds the next:"
            f" {min(fills)}"
        )
    factors = {_written(anatomy, step, slot) for slot in _feeders(anatomy, step, norm)}
    if max(factors) - min(factors) > TOLERANCE * max(factors):
        raise LawError(
            f"{step.expansion} scales what feeds a norm over {step.axis} unevenly: {sorted(factors)}"
        )
    fed = factors.pop()
    share = 1.0 if fills == {"copy"} else step.old / step.new
    kept = share * fed * fed
    shown = {
        name: _factor(step, name) * (_tied(anatomy, step) if _before_tied_head(anatomy, slot) else 1.0)
        for name, slot in own.items()
    }
    if ratio is not None and not isclose(ratio, kept, rel_tol=TOLERANCE):
        raise LawError(f"{step.expansion} must scale ε of a norm over {step.axis} by {kept:g}, not {ratio:g}")
    written = fed if closing(norm) else 1.0
    # The gains of queries and keys undo the attention scale, too: scales.py.
    met = any(norm.of in (a.query, a.key) for a in anatomy.layout.attentions)
    for slot, factor in shown.items() if not (norm.of and met) else ():
        wanted = written * (sqrt(share) if slot in gates else 1.0)
        if not isclose(factor, wanted, rel_tol=TOLERANCE):
            raise LawError(
                f"{step.expansion} must scale the {'gains' if slot in gates else 'shifts'} of a norm over"
                f" {step.axis} by {wanted:g}"
            )
    return share


def _check_readers(anatomy: Anatomy, step: Step, readers: Iterable[str], wanted: float) -> None:
    """What reads a norm without a gain: weights, a tied head, or whoever sees the model's output."""
    for slot in readers:
        given = _read(anatomy, step, slot)
        if not isclose(given, wanted, rel_tol=TOLERANCE):
            raise LawError(
                f"{step.expansion} must scale {slot} by {wanted:g}, not {given:g}: the norm"
                f" over {step.axis} before it has no gain"
            )


def _check_bare(anatomy: Anatomy, step: Step, bare: Iterable[str]) -> None:
    """Who reads the residual without a norm undoes its scale, and reads nothing of new channels that are a
    mean: no norm centres them."""
    writers = _writers(anatomy, step)
    mean = any(_fill(anatomy, step, slot) == "mean" for slot in writers)
    factors = {_written(anatomy, step, slot) for slot in writers}
    fed = {slot.norm.of for slot in anatomy.slots.values() if slot.norm is not None}
    for slot in (slot for slot in dict.fromkeys(bare) if _reads(anatomy, slot, step)):
        own = slot in anatomy.slots
        given = _read(anatomy, step, slot)
        held = own and anatomy.slots[slot].stem in fed  # by _check_input
        times = (
            multiplied(anatomy, step, anatomy.slots[slot]) if own and not anatomy.slots[slot].head else 1.0
        )
        undone = held or all(isclose(given * times * factor, 1.0, rel_tol=TOLERANCE) for factor in factors)
        if not undone or (mean and not (own and _fill(anatomy, step, slot) == "zero")):
            raise LawError(
                f"{slot} reads {step.axis} without a norm, so {step.expansion} must scale it"
                f" by 1/{max(factors):g}" + (", and make zero what it reads of new channels" if mean else "")
            )


def _check_far(anatomy: Anatomy, step: Step) -> None:
    """The entries of an embedding that is a head, too, which reads a transform of the residual, stay."""
    for head in anatomy.layout.far_heads(anatomy.config, anatomy.slots.values()):
        factor = _factor(step, head.tied) if head.tied in anatomy.slots else 1.0
        if not isclose(factor, 1.0, rel_tol=TOLERANCE):
            raise LawError(
                f"{step.expansion} scales {head.tied} by {factor:g}, and {head.name} has the same entries,"
                " whose input no gain of the residual's undoes"
            )


def _read(anatomy: Anatomy, step: Step, slot: str) -> float:
    """The factor by which a slot, a tied head or whoever sees the output (1) takes a stream."""
    if slot in anatomy.slots:
        return _factor(step, slot)
    return _tied(anatomy, step) if slot in anatomy.layout.slots else 1.0


def _reads(anatomy: Anatomy, slot: str, step: Step) -> bool:
    """Whether a slot, or a stream's output, is along the step's axis."""
    own = anatomy.layout.slots.get(slot)
    return slot == output(step.axis) if own is None else step.axis in own.consumed


def _written(anatomy: Anatomy, step: Step, slot: str) -> float:
    """The factor of what an old entry of a slot writes: its own, and what the model multiplies it by."""
    return _factor(step, slot) * multiplied(anatomy, step, anatomy.slots[slot])


def _tied(anatomy: Anatomy, step: Step) -> float:
    """The factor of what a tied head computes: the embedding's own entries, times the model's multiplier."""
    return next(
        (
            _factor(step, head.tied) * multiplied(anatomy, step, head)
            for head in _tied_heads(anatomy)
            if head.tied in anatomy.slots and step.axis in head.consumed
        ),
        1.0,
    )


def _tied_heads(anatomy: Anatomy) -> list[Slot]:
    return [s for s in anatomy.layout.table if s.tied and anatomy.layout.on_residual(s.consumed)]


def _before_tied_head(anatomy: Anatomy, slot: Slot) -> bool:
    """Whether a norm is the last one of its stream before a head that is the embedding."""
    streams = {anatomy.layout.stream(head) for head in _tied_heads(anatomy)}
    return anatomy.tied_head and not slot.index and anatomy.layout.stream(slot) in streams


def _feeders(anatomy: Anatomy, step: Step, norm: Norm) -> list[str]:
    """The slots whose outputs a norm runs over."""
    if norm.where == "inner":
        return _stem(anatomy, norm.of)
    return [
        name
        for name, slot in anatomy.slots.items()
        if step.axis in slot.produced and not slot.gain and (slot.norm is None or slot.norm.where == "post")
    ]


def _stem(anatomy: Anatomy, stem: str) -> list[str]:
    """A projection, and its bias."""
    return [name for name, slot in anatomy.slots.items() if slot.stem == stem]


def _fill(anatomy: Anatomy, step: Step, slot: str) -> str:
    """How a step fills the new channels of a slot, in one word."""
    factor = _factor(step, slot)
    gate = _gate(anatomy, slot)
    found = {
        _word(step.entry(slot, label), factor, gate, step.entry(gate, label) if gate else Constant(1.0))
        for label in {place.label for place in step.places if not place.old}
    }
    whole = step.new % step.old == 0 and _even(step)
    word = found.pop() if len(found) == 1 else "a mixture"
    return word if word != "copy" or whole else "uneven copies"


def _gate(anatomy: Anatomy, slot: str) -> str:
    """The gain without a norm that multiplies what this slot writes; "" if there is none."""
    stem = anatomy.slots[slot].stem
    return next((name for name, gate in anatomy.slots.items() if gate.gates == stem), "")


def _word(entry: Entry, factor: float, gate: str, gain: Entry) -> str:
    """One word for new entries of a slot, and what the gain behind it multiplies them by."""
    if isinstance(entry, Constant) and entry.value == 0.0:
        return "zero"
    if entry == Old(factor) and (not gate or gain == Old()):
        return "copy"
    reaches = isinstance(gain, Constant) and isinstance(entry, Mean) and entry.a * gain.value == factor
    return "mean" if reaches and isinstance(entry, Mean) and entry.weights == gate else "other values"


def _even(step: Step) -> bool:
    """Whether every old channel has equally many copies."""
    counts = [0] * step.old
    for place in step.places:
        for i in range(place.count):
            counts[place.source + i] += 1
    return len(set(counts)) == 1


def _factor(step: Step, slot: str) -> float:
    entry = step.rewrites.get(slot, {}).get(OLD, Old())
    return entry.a if isinstance(entry, Old) else 0.0


def _check_input(anatomy: Anatomy, step: Step, norm: Norm, wanted: float, bare: Iterable[str]) -> None:
    """A norm over another axis: its inputs must follow its ε, and undo what they read without a norm."""
    for slot in _stem(anatomy, norm.of) if norm.of else ():
        reads = slot in bare and _reads(anatomy, slot, step)
        factors = {_written(anatomy, step, writer) for writer in _writers(anatomy, step)} if reads else {1.0}
        for factor in (factor * multiplied(anatomy, step, anatomy.slots[slot]) for factor in factors):
            if not isclose(_factor(step, slot) * factor, wanted, rel_tol=TOLERANCE):
                raise LawError(
                    f"{step.expansion} scales the ε of the norm over {slot} by {wanted**2:g}, so {slot} must"
                    f" be scaled by {wanted / factor:g}, not {_factor(step, slot):g}"
                )


def _writers(anatomy: Anatomy, step: Step) -> list[str]:
    """The slots that write the residual that a step grows."""
    return [
        name
        for name, slot in anatomy.slots.items()
        if step.axis in slot.produced and slot.norm is None and not slot.gain
    ]
