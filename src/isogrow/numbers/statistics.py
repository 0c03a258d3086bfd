"""The first pass: what new entries take from the old model as a whole, before any of them is filled.

A std that free entries match, or a mean along an axis, depends on all of an old block, and a box of a grown
block may be a small part of it. So what depends on the whole is made once, and filling is a pure function of
it. Growing with statistics thus reads a number twice: here, and to copy it.

Reductions run as trees of elementwise sums over fixed blocks in logical order, so no chunk size, thread
count or storage order changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from isogrow.errors import CheckpointError
from isogrow.numbers.arithmetic import tree_sum
from isogrow.numbers.filling import Read, Stats, by_function, digest, fill_, matches, of_all
from isogrow.numbers.initializers import INITIALIZERS
from isogrow.plans.boxes import chunks, slices
from isogrow.plans.pieces import Average, Block, Draw, pieces, whole
from isogrow.plans.plan import Plan

FIXED = 1 << 18  # entries that are summed at a time


def statistics(plan: Plan, blocks: Iterable[Block], read: Read, given: Stats | None = None) -> Stats:
    """What `fill_` needs to fill any box of these grown blocks, and what is `given`.

    Reads no block of which nothing is taken as a whole, nor one of which that is given. Raises `SizeError`
    for a user's initializer that makes no region of the right shape.
    """
    given = given or Stats()
    made = _Pass(plan, read, dict(given.matched), dict(given.means), dict(given.digests))
    for block in blocks:
        made.see(block, len(plan.steps))
    return made.stats


def mean_and_std(read: Read, block: Block, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and std of a block of this shape, summed in fixed blocks in logical order.

    Raises `CheckpointError` where the block holds numbers that are not finite.
    """
    box, count = whole(shape), 1
    for n in shape:
        count *= n
    rows = max(1, FIXED // max(1, count // shape[0]))
    total, squares = 0.0, 0.0
    for start in range(0, shape[0], rows):
        some = (range(start, min(start + rows, shape[0])), *box[1:])
        part = read(block, some).to("cpu", torch.float64).reshape(-1)
        total += float(tree_sum(part, 0))
        squares += float(tree_sum(part * part, 0))
    if not isfinite(total) or not isfinite(squares):
        at = "".join(f", {axis} {number}" for axis, number in block.index)
        raise CheckpointError(
            f"{block.slot}{at} holds numbers that are not finite, and new entries take its mean or std:"
            " correct the model's weights"
        )
    mean = total / count
    return mean, max(0.0, squares / count - mean * mean) ** 0.5


@dataclass(frozen=True)
class _Pass:
    """Statistics while they are made: those of an earlier step before those of a later one."""

    plan: Plan
    read: Read
    matched: dict[Block, tuple[float, float]]
    means: dict[Average, Tensor]
    digests: dict[str, bytes]

    @property
    def stats(self) -> Stats:
        return Stats(self.matched, self.means, self.digests)

    def see(self, block: Block, steps: int) -> None:
        """Make what the block after so many steps takes."""
        box = whole(block.shape(self.plan.stages[steps]))
        for piece in pieces(self.plan, block, box, steps):
            if isinstance(piece.value, Draw):
                self.match(piece.value)
                self.ask(piece.value)
            elif isinstance(piece.value, Average):
                self.average(of_all(piece.value, self.plan))

    def match(self, draw: Draw) -> None:
        if matches(draw) and draw.like not in self.matched:
            shape = draw.like.shape(self.plan.source)
            self.matched[draw.like] = mean_and_std(self.read, draw.like, shape)

    def ask(self, draw: Draw) -> None:
        """A user's function is asked once here and again when a box is filled, maybe elsewhere."""
        if draw.init.kind not in INITIALIZERS and draw.key not in self.digests:
            self.digests[draw.key] = digest(by_function(draw, self.plan, self.read, self.stats))

    def average(self, average: Average) -> None:
        if average in self.means:
            return
        self.see(average.block, average.steps)
        weights = self.weights(average)
        dim, box = average.dim, average.box
        result = torch.empty([1 if d == dim else len(r) for d, r in enumerate(box)], dtype=torch.float64)
        for part in chunks(box, tuple(d for d in range(len(box)) if d != dim), FIXED):
            x = self.filled(average.block, part, average.steps)
            x = x if weights is None else x * weights
            at = tuple(range(1) if d == dim else r for d, r in enumerate(part))
            result[slices(at)] = tree_sum(x, dim) / len(box[dim])
        self.means[average] = result

    def weights(self, average: Average) -> Tensor | None:
        """What the entries along the dim are multiplied by, shaped to do so."""
        if not average.weights:
            return None
        dim, box = average.dim, average.box
        block = Block(average.weights, average.block.index, (average.block.axes[dim],))
        self.see(block, average.steps)
        x = self.filled(block, (box[dim],), average.steps)
        return x.reshape([-1 if d == dim else 1 for d in range(len(box))])

    def filled(self, block: Block, box: tuple[range, ...], steps: int) -> Tensor:
        x = torch.empty([len(r) for r in box], dtype=torch.float64)
        fill_(x, block, box, self.plan, self.read, self.stats, steps=steps)
        return x
