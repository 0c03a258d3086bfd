"""The slow, obvious interpreter: every step carried out in turn on whole blocks, entry by entry.

It shares no code with the others beyond the plan itself and the random numbers, and is the oracle that
they are tested against. All in float64; the caller rounds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from isogrow.numbers.initializers import INITIALIZERS, made, sample
from isogrow.plans.pieces import Block, moved
from isogrow.plans.plan import OLD, Constant, Free, Mean, Old, Plan, Step
from isogrow.plans.regions import Region
from isogrow.plans.sizes import Sizes

Array = NDArray[np.float64]
Blocks = dict[Block, Array]


def grow(plan: Plan, blocks: Mapping[Block, Array]) -> Blocks:
    """All blocks of the grown model from all blocks of the old one."""
    now = dict(blocks)
    like = {block: (x, 1.0, 0.0) for block, x in blocks.items()}
    for step, sizes in zip(plan.steps, plan.stages[1:], strict=True):
        now, like = _step(plan, step, sizes, now, like)
    return now


Like = dict[Block, tuple[Array, float, float]]


def _step(plan: Plan, step: Step, sizes: Sizes, now: Blocks, like: Like) -> tuple[Blocks, Like]:
    """One step: every block after it, and the old tensor (scaled so far) that each one extends."""
    made: Blocks = {}
    kin: Like = {}
    for before, x in now.items():
        if step.axis in dict(before.index) and step.at(before.index):
            at = dict(before.index)[step.axis]
            for position in range(step.new):
                source, label = step.source(position)
                if source == at:
                    block = moved(before, step.axis, position)
                    kin[block] = _scaled_like(like[before], step, block, label)
                    made[block] = _block(plan, step, sizes, block, label, x, kin[block])
        elif step.axis in before.axes and step.at(before.index):
            kin[before] = _scaled_like(like[before], step, before, OLD)
            made[before] = _dense(plan, step, sizes, before, now, kin[before])
        else:
            entry = step.rewrites.get(before.slot, {}).get(OLD, Old()) if step.at(before.index) else Old()
            assert isinstance(entry, Old)
            values, a, b = like[before]
            kin[before] = (values, entry.a * a, entry.a * b + entry.b)
            made[before] = entry.a * x + entry.b
    return made, kin


def _scaled_like(
    like: tuple[Array, float, float], step: Step, block: Block, label: str
) -> tuple[Array, float, float]:
    entry = step.rewrites.get(block.slot, {}).get(label, Old())
    x, a, b = like
    return (x, entry.a * a, entry.a * b + entry.b) if isinstance(entry, Old) else like


def _block(
    plan: Plan,
    step: Step,
    sizes: Sizes,
    block: Block,
    label: str,
    x: Array,
    like: tuple[Array, float, float],
) -> Array:
    entry = step.entry(block.slot, label)
    if isinstance(entry, Old):
        return entry.a * x + entry.b
    if isinstance(entry, Constant):
        return np.full(x.shape, entry.value)
    assert isinstance(entry, Free)
    return entry.sign * _drawn(plan, step, sizes, block, entry, "", block.shape(sizes), like)


def _dense(
    plan: Plan,
    step: Step,
    sizes: Sizes,
    block: Block,
    now: Blocks,
    like: tuple[Array, float, float],
) -> Array:
    dim = block.axes.index(step.axis)
    x = np.moveaxis(now[block], dim, 0)
    out = np.empty((step.new, *x.shape[1:]))
    for place in step.places:
        entry = step.entry(block.slot, place.label)
        region = np.moveaxis(np.empty((place.count, *x.shape[1:])), 0, dim).shape
        name = f"{place.label}@{place.start}"
        drawn = (
            _drawn(plan, step, sizes, block, entry, name, region, like) if isinstance(entry, Free) else None
        )
        for i, position in enumerate(place.positions):
            if isinstance(entry, Old):
                out[position] = entry.a * x[place.source + i] + entry.b
            elif isinstance(entry, Constant):
                out[position] = entry.value
            elif isinstance(entry, Mean):
                out[position] = entry.a * _mean(x, entry, block, now)
            else:
                assert drawn is not None
                out[position] = entry.sign * np.moveaxis(drawn, dim, 0)[i]
    return np.moveaxis(out, 0, dim)


def _mean(x: Array, entry: Mean, block: Block, now: Blocks) -> Array:
    if not entry.weights:
        return x.mean(axis=0)
    weights = next(w for b, w in now.items() if (b.slot, b.index) == (entry.weights, block.index))
    return np.tensordot(weights, x, axes=(0, 0)) / len(weights)


def _drawn(
    plan: Plan,
    step: Step,
    sizes: Sizes,
    block: Block,
    entry: Free,
    name: str,
    shape: tuple[int, ...],
    like: tuple[Array, float, float],
) -> Array:
    index = ",".join(f"{axis}={i}" for axis, i in block.index)
    key = f"{plan.seed}/{step.key(sizes)}/{block.slot}/{index}/{entry.stream or name}"
    x, a, b = like
    std = abs(a) * x.std() if entry.init.std == "match" else float(entry.init.std)
    mean = a * x.mean() + b if entry.center else 0.0
    if std == 0.0 and (len(shape) > 1 or (entry.center and mean == 0.0)):
        std = 0.02
    if entry.init.kind not in INITIALIZERS:
        region = Region(
            block.slot, block.index, block.axes, step.axis, shape, mean, std, key, lambda: a * x + b
        )
        return made(entry.init.kind, region)
    return mean + std * sample(entry.init.kind, key, shape, tuple(range(n) for n in shape))
