"""The first pass: what new entries take from the old model as a whole, before any of them is filled.

A std that free entries match, or a mean along an axis, depends on all of an old block, and a box of a grown
block may be a small part of it. So what depends on the whole is made once, and filling is a pure function of
it. Growing with statistics thus reads a number twice: here, and to copy it.

Reductions run as trees of elementwise sums over fixed boxes in logical order, so no chunk size, thread
count or storage order changes a bit, nor does it matter who makes the sums of a box (`sums`, `mean_of`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite, prod

import torch
from torch import Tensor

from isogrow.errors import CheckpointError
from isogrow.numbers.arithmetic import tree_sum
from isogrow.numbers.filling import Read, Stats, by_function, digest, fill_
from isogrow.numbers.totals import Sums, sums
from isogrow.plans.boxes import slices
from isogrow.plans.pieces import Average, Block, Box, Draw
from isogrow.plans.plan import Plan
from isogrow.plans.taking import averaged, summed, taken, weights_of

FIXED = 1 << 18  # entries that are summed at a time


def statistics(plan: Plan, blocks: Iterable[Block], read: Read, given: Stats | None = None) -> Stats:
    """What `fill_` needs to fill any box of these grown blocks, and what is `given`.

    Reads no block of which nothing is taken as a whole, nor one of which that is given. Raises `SizeError`
    for a user's initializer that makes no region of the right shape.
    """
    stats = given or Stats()
    asked = taken(plan, blocks, stats.means.keys())
    matched = {
        like: mean_and_std(read, like, summed(like.shape(plan.source), FIXED, plan.std_of))
        for like in asked.matched
        if like not in stats.matched
    }
    stats = asked_of(asked.drawn, plan, read, replace(stats, matched={**stats.matched, **matched}))
    means = dict(stats.means)
    for average in asked.means:
        result = unmade(average)
        so_far = replace(stats, means=means)
        for part in averaged(average.box, average.dim, FIXED):
            result[slices(kept(average, part))] = mean_of(average, part, plan, read, so_far)
        means[average] = result
    return replace(stats, means=means)


def asked_of(draws: Iterable[Draw], plan: Plan, read: Read, stats: Stats) -> Stats:
    """The statistics with digests of what a user's functions make of these regions: each is asked once here
    and again when a box is filled, maybe elsewhere."""
    digests = dict(stats.digests)
    for draw in draws:
        if draw.key not in digests:
            digests[draw.key] = digest(by_function(draw, plan, read, stats))
    return replace(stats, digests=digests)


# ── mean and std of a block ──


def mean_and_std(read: Read, block: Block, fixed: Iterable[Box]) -> tuple[float, float]:
    """Mean and std of a block's entries in these boxes (`isogrow.plans.taking.summed`).

    Raises `CheckpointError` where the block holds numbers that are not finite.
    """
    return combined(block, ((box, sums(read(block, box))) for box in fixed))


def combined(block: Block, found: Iterable[tuple[Box, Sums]]) -> tuple[float, float]:
    """Mean and std of a block from its boxes and their sums, in their order; raises as `mean_and_std`."""
    total, squares, count = 0.0, 0.0, 0
    for box, (one, two) in found:
        total, squares, count = total + one, squares + two, count + prod(map(len, box))
    if not isfinite(total) or not isfinite(squares):
        at = "".join(f", {axis} {number}" for axis, number in block.index)
        raise CheckpointError(
            f"{block.slot}{at} holds numbers that are not finite, and new entries take its mean or std:"
            " correct the model's weights"
        )
    mean = total / count
    return mean, max(0.0, squares / count - mean * mean) ** 0.5


# ── the mean of a block along a dim ──


def mean_of(average: Average, part: Box, plan: Plan, read: Read, stats: Stats) -> Tensor:
    """A part of a mean: of a box that has all of the block along the dim, which is kept (float64)."""
    x, dim = _filled(average.block, part, average.steps, plan, read, stats), average.dim
    if average.weights:
        along = (average.box[dim],)
        weights = _filled(weights_of(average), along, average.steps, plan, read, stats)
        x = x * weights.reshape([-1 if d == dim else 1 for d in range(len(part))])
    return tree_sum(x, dim) / len(average.box[dim])


def unmade(average: Average) -> Tensor:
    """Room for a mean."""
    return torch.empty(list(map(len, kept(average, average.box))), dtype=torch.float64)


def kept(average: Average, part: Box) -> Box:
    """Where a part of a mean lies in the mean."""
    return tuple(range(1) if d == average.dim else r for d, r in enumerate(part))


def _filled(block: Block, box: Box, steps: int, plan: Plan, read: Read, stats: Stats) -> Tensor:
    x = torch.empty([len(r) for r in box], dtype=torch.float64)
    fill_(x, block, box, plan, read, stats, steps=steps)
    return x
