"""What filling takes of the old model: the boxes that it reads, and what depends on blocks as a whole.

No tensor is read, so whoever holds a part of a model knows beforehand what else it needs, and every rank
knows it of every other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod

from isogrow.plans.boxes import chunks
from isogrow.plans.pieces import Average, Block, Box, Draw, OldBox, pieces, whole
from isogrow.plans.plan import KINDS, REPLAYED, Plan, StdOf

PARTS, SAMPLED = 32, 1 << 19  # runs of a sample, and their entries together
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 by the golden ratio

# A box (without gaps) of a block of the old model.
Need = tuple[Block, Box]


@dataclass(frozen=True)
class Taken:
    """What grown blocks take of old ones as a whole, each thing once.

    `matched`: old blocks whose mean and std free entries match. `drawn`: regions that a user's function
    fills. `means`: along a dim, of all of a block; each stands behind those that it takes itself.
    """

    matched: tuple[Block, ...]
    drawn: tuple[Draw, ...]
    means: tuple[Average, ...]


def taken(plan: Plan, blocks: Iterable[Block], known: Collection[Average] = ()) -> Taken:
    """What these grown blocks take as a whole, but for means that are known, and what only those take."""
    matched, drawn, means = dict[Block, None](), dict[str, Draw](), dict[Average, None]()

    def see(block: Block, steps: int) -> None:
        for piece in pieces(plan, block, whole(block.shape(plan.stages[steps])), steps):
            value = piece.value
            if isinstance(value, Draw):
                if matches(value):
                    matched.setdefault(value.like)
                if value.init.kind not in (*KINDS, *REPLAYED):
                    drawn.setdefault(value.key, value)
            elif isinstance(value, Average):
                average(of_all(value, plan))

    def average(wanted: Average) -> None:
        if wanted in means or wanted in known:
            return
        see(wanted.block, wanted.steps)
        if wanted.weights:
            see(weights_of(wanted), wanted.steps)
        means.setdefault(wanted)

    for block in blocks:
        see(block, len(plan.steps))
    return Taken(tuple(matched), tuple(drawn.values()), tuple(means))


def needed(plan: Plan, block: Block, box: Box, steps: int | None = None) -> Iterator[Need]:
    """The old boxes that filling a box (without gaps) of a grown block reads, given its statistics."""
    for piece in pieces(plan, block, box, steps):
        if isinstance(piece.value, OldBox):
            yield piece.value.block, piece.value.box


def needed_by_mean(plan: Plan, average: Average, part: Box) -> Iterator[Need]:
    """The old boxes that a part of a mean reads, given those that it takes itself."""
    yield from needed(plan, average.block, part, average.steps)
    if average.weights:
        yield from needed(plan, weights_of(average), (average.box[average.dim],), average.steps)


def matches(draw: Draw) -> bool:
    """Whether free entries take their mean or their std from an old block."""
    return draw.init.std == "match" or draw.center


def of_all(average: Average, plan: Plan) -> Average:
    """The same mean of all of the block."""
    return replace(average, box=whole(average.block.shape(plan.stages[average.steps])))


def weights_of(average: Average) -> Block:
    """The block of what the entries of a weighted mean are multiplied by."""
    return Block(average.weights, average.block.index, (average.block.axes[average.dim],))


def summed(shape: tuple[int, ...], limit: int, std_of: StdOf = "sample") -> Iterator[Box]:
    """The fixed boxes by which a block is summed, in its logical order: runs of at most `limit` entries.

    Of more than `SAMPLED` entries these are a sample: `PARTS` runs, one in each of as many equal stretches of
    the block. For normal entries its std is within 0.1 % (one standard deviation, 1 / sqrt(2 SAMPLED)).

    >>> [tuple(map(len, box)) for box in summed((1, 5, 3), 6)]
    [(1, 2, 3), (1, 2, 3), (1, 1, 3)]
    """
    if std_of == "sample" and prod(shape) > SAMPLED:
        yield from _sample(shape)
        return
    yield from chunks(whole(shape), tuple(range(len(shape))), limit)


def _sample(shape: tuple[int, ...]) -> Iterator[Box]:
    """Of the runs of about `SAMPLED / PARTS` entries that tile a block, one in each of `PARTS` stretches.

    Its place there is by multiples of the golden ratio, since evenly spaced runs could meet the same channels
    of every head.
    """
    size = SAMPLED // PARTS
    dim = next(d for d in range(len(shape)) if prod(shape[d + 1 :]) <= size)
    width = shape[dim]
    cuts = -(-width * prod(shape[dim + 1 :]) // size)
    runs = prod(shape[:dim]) * cuts
    for stretch in range(PARTS):
        first, last = stretch * runs // PARTS, (stretch + 1) * runs // PARTS
        number = first + ((last - first) * ((stretch + 1) * GOLDEN % 2**64) >> 64)
        *lead, cut = _unraveled(number, (*shape[:dim], cuts))
        run = range(cut * width // cuts, (cut + 1) * width // cuts)
        yield (*(range(i, i + 1) for i in lead), run, *map(range, shape[dim + 1 :]))


def _unraveled(number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    found = list[int]()
    for length in reversed(shape):
        number, at = divmod(number, length)
        found.append(at)
    return tuple(reversed(found))


def averaged(box: Box, dim: int, limit: int) -> Iterator[Box]:
    """The boxes by which a mean of a box is made: all along its dim, at most `limit` entries (or one run of
    them)."""
    yield from chunks(box, tuple(d for d in range(len(box)) if d != dim), limit)
