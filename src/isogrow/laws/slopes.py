"""Law 1 for ALiBi: an old head keeps the bias that it adds to its logits.

The slopes of n heads are those of the paper's own code (arXiv 2108.12409): a geometric series where n is a
power of two, else the series of the last power of two, and of the next one every other slope. Head j of n,
now head j' of n̂, keeps its bias iff its slope stays; where the attention scale s multiplies the bias, iff

    s(k̂) m(j', n̂) = s(k) m(j, n)
"""

from __future__ import annotations

from itertools import product
from math import isclose

from isogrow.errors import LawError
from isogrow.layouts.config import Config, edited
from isogrow.layouts.formula import evaluate
from isogrow.layouts.layout import Attention
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import OLD, Plan, Step
from isogrow.plans.sizes import Sizes

TOLERANCE = 1e-12  # of a slope: a power with an exponent that is a rounded quotient

Heads = dict[tuple[int, ...], float]


def check_slopes(anatomy: Anatomy, plan: Plan) -> None:
    """Raise `LawError` where a step changes the bias of an old head."""
    config = anatomy.config
    for step, small, large in zip(plan.steps, plan.stages, plan.stages[1:], strict=False):
        after = edited(config, step.config)
        for attention in anatomy.layout.attentions:
            if attention.query in anatomy.slots:
                axes = _head_axes(anatomy, attention)
                before, now = (
                    _biases(anatomy, attention, config, small),
                    _biases(anatomy, attention, after, large),
                )
                _check(step, axes, before, now)
        config = after


def _head_axes(anatomy: Anatomy, attention: Attention) -> tuple[str, ...]:
    return tuple(axis for axis in anatomy.slots[attention.query].produced if axis != attention.axis)


def _biases(anatomy: Anatomy, attention: Attention, config: Config, sizes: Sizes) -> Heads:
    """What each head's distances are multiplied by, by its position on each of its axes."""
    layout = anatomy.layout
    alibi = layout.biased(attention, config)
    if alibi is None:
        return {}
    view = layout.defaults(config).over({**sizes.values, "layer": 0})
    scale = float(evaluate(attention.scale, view)) if alibi.inside else 1.0
    heads = list(product(*(range(sizes.of(axis)) for axis in _head_axes(anatomy, attention))))
    slopes = _slopes(len(heads), float(evaluate(alibi.most, layout.defaults(config))))
    return {head: scale * slope for head, slope in zip(heads, slopes, strict=True)}


def _slopes(heads: int, most: float) -> list[float]:
    power = 1
    while 2 * power <= heads:
        power *= 2
    series = [2.0 ** (-most * (i + 1) / power) for i in range(power)]
    return series + [2.0 ** (-most * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)][: heads - power]


def _check(step: Step, axes: tuple[str, ...], before: Heads, now: Heads) -> None:
    moved = {
        source: position
        for position in range(step.new if step.axis in axes else 0)
        for source, label in [step.source(position)]
        if label.startswith(OLD)
    }
    for head, slope in before.items():
        places = (moved[i] if axis == step.axis else i for axis, i in zip(axes, head, strict=True))
        found = now.get(tuple(places), 0.0)
        if not isclose(slope, found, rel_tol=TOLERANCE):
            where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, head, strict=True))
            raise LawError(
                f"{step.expansion} gives old head {where} an ALiBi slope of {found:g} instead of {slope:g}:"
                " it must go where its slope is"
            )
