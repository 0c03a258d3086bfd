"""Law 1 for old entries: what the model computes from a size is undone by a scale, and all else is kept.

With s the attention scale, and a, b the factors of the old queries and keys (of their gains, where a norm
stands behind them), every layer's old logits stay what they were iff

    s(k̂, new layer number) · a · b = s(k, old layer number)

What feeds a norm, and its gain and ε, is held in norms.py. Every other old entry is unscaled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import isclose, prod

from isogrow.errors import LawError
from isogrow.laws.multipliers import multiplied
from isogrow.layouts.config import Config, edited
from isogrow.layouts.formula import evaluate
from isogrow.layouts.layout import Attention, Index
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import OLD, Entry, Free, Old, Plan, Step
from isogrow.plans.sizes import Sizes

TOLERANCE = 1e-14


def check_scales(anatomy: Anatomy, plan: Plan, plain: Collection[str] = ()) -> None:
    """Raise `LawError` where a step leaves an attention scale not undone, or scales what it should not.

    `plain`: slots that read the residual without a gain before it. Their scale undoes its own, and is held in
    norms.py.
    """
    config = anatomy.config
    attentions = anatomy.layout.met(anatomy.slots)
    for step, small, large in zip(plan.steps, plan.stages, plan.stages[1:], strict=False):
        after = edited(config, step.config)
        undone = {slot for slot in plain if slot in anatomy.slots and _reads(anatomy, step, slot)}
        for attention in attentions:
            _check_attention(anatomy, step, attention, (config, small), (after, large), undone)
        _check_rest(anatomy, step, undone)
        config = after


def _reads(anatomy: Anatomy, step: Step, slot: str) -> bool:
    return step.axis in anatomy.slots[slot].consumed


def _check_attention(
    anatomy: Anatomy,
    step: Step,
    attention: Attention,
    small: tuple[Config, Sizes],
    large: tuple[Config, Sizes],
    undone: set[str],
) -> None:
    sides = [_side(anatomy, slot) for slot in (attention.query, attention.key)]
    for index, before, label in _old_blocks(anatomy, step, attention, large[1]):
        was, now = _scale(anatomy, attention, small, before), _scale(anatomy, attention, large, index)
        factor = prod(_factor(step, slots, label, undone) for slots in sides) if step.at(index) else 1.0
        if not isclose(now * factor, was, rel_tol=TOLERANCE):
            raise LawError(
                f"{step.expansion} changes the attention scale of {attention.key} {dict(index)} from"
                f" {was:g} to {now:g}, so its old entries must be scaled by {was / now:g}, not {factor:g}"
            )


def _old_blocks(
    anatomy: Anatomy, step: Step, attention: Attention, sizes: Sizes
) -> Iterator[tuple[Index, Index, str]]:
    """(index, index before the step, label) of every block of keys that was there before."""
    for index in sizes.indices(anatomy.slots[attention.key].index):
        place = dict(index)
        if step.axis not in place or not step.at(index):
            yield index, index, OLD
            continue
        source, label = step.source(place[step.axis])
        if label.startswith(OLD):
            yield index, tuple({**place, step.axis: source}.items()), label


def _scale(anatomy: Anatomy, attention: Attention, at: tuple[Config, Sizes], index: Index) -> float:
    if not attention.scale:
        return 1.0
    config, sizes = at
    layer = next((i for axis, i in index if axis.rpartition("_")[2] == "layers"), 0)
    here = {attention.axis: sizes.of(attention.axis, index), "layer": layer}
    view = anatomy.layout.defaults(config).over({**sizes.values, **here})
    return float(evaluate(attention.scale, view))


def _side(anatomy: Anatomy, stem: str) -> list[str]:
    """The slots whose factor reaches the logits: a projection and its bias, or its norm's gain and shift."""
    slots = anatomy.slots.items()
    normed = [name for name, slot in slots if slot.norm is not None and slot.norm.of == stem]
    return normed or [name for name, slot in slots if slot.stem == stem]


def _factor(step: Step, slots: list[str], label: str, undone: set[str]) -> float:
    """The factor that what these slots' old entries give share."""
    factors = {1.0 if slot in undone else _a(step.entry(slot, label)) for slot in slots}
    if len(factors) != 1:
        raise LawError(f"{step.expansion} scales {' and '.join(slots)} unevenly: {sorted(factors)}")
    return factors.pop()


def _a(entry: Entry) -> float:
    return entry.a if isinstance(entry, Old) else 0.0


def _check_rest(anatomy: Anatomy, step: Step, undone: set[str]) -> None:
    """Old entries that reach no norm that the step touches, and no attention logit, are what they were."""
    scalable = _scalable(anatomy, step) | undone
    for slot, rewrite in step.rewrites.items():
        for label, entry in rewrite.items():
            wanted = _read_by(anatomy, step, slot)
            if label.startswith(OLD) and not _allowed(anatomy, slot, entry, slot in scalable, wanted):
                raise LawError(
                    f"{step.expansion} makes old entries of {slot} {entry}, and nothing undoes that:"
                    " they must stay what they are"
                )
        _check_pairs(step, slot)


def _read_by(anatomy: Anatomy, step: Step, slot: str) -> float:
    """What undoes the number that the model multiplies a head's input by."""
    own = anatomy.slots[slot]
    return 1.0 / multiplied(anatomy, step, own) if step.axis in own.consumed else 1.0


def _allowed(anatomy: Anatomy, slot: str, entry: Entry, scalable: bool, wanted: float) -> bool:
    """Whether old entries undo a multiplier (are kept, where there is none), or are scaled where that can be
    undone: offset + g by a factor, too."""
    if not isinstance(entry, Old):
        return False
    own = anatomy.slots[slot]
    offset = own.norm.offset if own.norm is not None and own.gain else 0.0
    shifted = isclose(entry.b, offset * (entry.a - 1.0), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    right = entry.a == 1.0 if wanted == 1.0 else isclose(entry.a, wanted, rel_tol=TOLERANCE)
    return shifted and (scalable or right)


def _scalable(anatomy: Anatomy, step: Step) -> set[str]:
    """Queries and keys, what feeds a norm, and (of norms over the step's axis) gains. Where ε stays
    (a constant in the model's code, or left alone by the step), shifts too."""
    sides = {slot for a in anatomy.layout.attentions for slot in (a.query, a.key)}
    slots = [*anatomy.slots.values(), *anatomy.plain_norms]
    norms = {slot.norm for slot in slots if slot.norm is not None}
    over = [slot for slot in slots if slot.norm and not slot.norm.of and step.axis in slot.produced]
    stems = sides | {norm.of for norm in norms if norm.of}
    found: set[str] = set()
    for name, slot in anatomy.slots.items():
        norm, grows = slot.norm, step.axis in slot.produced
        if norm is None:
            scaled = (grows and bool(over) and not slot.gain) or slot.stem in stems
        elif norm.where == "inner":
            scaled = norm.of in sides or (grows and slot.gain)
        else:
            names = anatomy.layout.called(norm.eps) if isinstance(norm.eps, str) else ()
            scaled = grows and (slot.gain or step.config.keys().isdisjoint(names))
        found |= {name} if scaled else set()
    return found


def _check_pairs(step: Step, slot: str) -> None:
    """What is drawn alike for several copies of a channel must add to nothing."""
    streams: dict[str, list[Free]] = {}
    for entry in step.rewrites[slot].values():
        if isinstance(entry, Free) and entry.stream:
            streams.setdefault(entry.stream, []).append(entry)
    for stream, drawn in streams.items():
        if sum(entry.sign for entry in drawn) != 0.0 or len({(e.init, e.center) for e in drawn}) != 1:
            raise LawError(
                f"{step.expansion} draws {stream} of {slot} for {len(drawn)} copies of its channels, and they"
                " do not cancel: it would change the function"
            )
