"""Filling any box of any grown block: a pure function of the plan, of what it reads, and of statistics that
a first pass made (`statistics`). Any thread or rank may fill any box, in any order: the bytes are the same.

Old entries that no rule scales are copied bit by bit. All else is computed in float64 and rounded once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogrow.errors import SizeError
from isogrow.numbers.arithmetic import rounded, storage_order
from isogrow.numbers.hashing import Floats
from isogrow.numbers.initializers import INITIALIZERS, PARTS, made, sample
from isogrow.numbers.normal import looked_up, values
from isogrow.plans.boxes import chunks, contiguous, slices
from isogrow.plans.pieces import Average, Block, Box, Draw, Fill, OldBox, Piece, pieces, whole
from isogrow.plans.plan import Plan
from isogrow.plans.regions import Region
from isogrow.plans.taking import matches, of_all

# A box (without gaps) of a block of the old model: whoever holds less of a model fetches less.
Read = Callable[[Block, Box], Tensor]
# All of a free region that can only be made whole, as it is to be (float64).
Drawings = Callable[[Draw], Tensor]
Entries = Callable[[Box], Tensor]

Words = NDArray[np.signedinteger[Any]]  # the bits of numbers
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by their bytes
SHORT = (torch.bfloat16, torch.float16)  # dtypes with so few numbers that a table holds what becomes of each
# Entries that are computed at a time: few enough for the cache that cores share, and enough that threads
# seldom wait for the interpreter's lock between two passes.
WORK = 1 << 18
FALLBACK_STD = 0.02


@dataclass(frozen=True)
class Stats:
    """What new entries take from the old model as a whole, made in a first pass (`statistics`).

    `matched`: mean and std of old blocks that free entries match. `means`: the mean of a block along a dim
    (kept; float64), by the `Average` whose box is all of the block. `digests`: of what a user's function
    makes of a region, by the region's key. It is data: it may be pickled, and sent to whoever fills a part.
    """

    matched: Mapping[Block, tuple[float, float]] = field(default_factory=dict[Block, tuple[float, float]])
    means: Mapping[Average, Tensor] = field(default_factory=dict[Average, Tensor])
    digests: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


def fill_(
    out: Tensor,
    block: Block,
    box: Box,
    plan: Plan,
    read: Read,
    stats: Stats,
    *,
    steps: int | None = None,
    drawings: Drawings | None = None,
) -> None:
    """Fill `out` (any strides, dtype and device) with a box, with gaps or without, of a grown block.

    `stats` are `statistics` of blocks of which this is one. `steps` means the block after so many of the
    plan's steps (default: all). `drawings` is `remembered(plan, read, stats)` where many boxes of a block
    follow each other; it changes no bit. Law, where `x` is all of the block: `out` becomes equal to
    `x[slices(box)]`, bit by bit. Reads no old entry that the box does not hold, and each only as often as
    the plan has it there.

    Raises `SizeError` for a user's initializer that gives other numbers than in the first pass, or whose name
    means nothing in this thread (what a growth was given is known in the growth's own; `regions`), `KeyError`
    for statistics of other blocks.

    >>> from isogrow.plans.plan import Free, Init, Place, Step
    >>> from isogrow.plans.sizes import Sizes
    >>> rewrites = {"mlp.up": {"new": Free(Init(std=0.5))}}
    >>> step = Step("MlpExpansion", "ffn", 2, 4, (Place(0, 2, 0), Place(2, 2, 0, "new")), rewrites)
    >>> plan, old = Plan("llama", Sizes({"ffn": 2, "hidden": 3}), (step,)), torch.ones(2, 3)
    >>> out, up = torch.empty(3, 3), Block("mlp.up", (), ("ffn", "hidden"))
    >>> fill_(out, up, (range(1, 4), range(3)), plan, lambda block, box: old[slices(box)], Stats())
    >>> out[0]
    tensor([1., 1., 1.])
    """
    drawings = drawings or remembered(plan, read, stats)
    for place, part in contiguous(box):
        target = out[slices(place)]
        for piece in pieces(plan, block, part, steps):
            _place_(target[slices(piece.out)], piece, plan, read, stats, drawings)


def remembered(plan: Plan, read: Read, stats: Stats) -> Drawings:
    """Drawings that can only be made whole, the last one kept for the boxes that follow."""

    @lru_cache(maxsize=1)
    def region(draw: Draw) -> Tensor:
        return _region(draw, plan, read, stats)

    return region


def center_and_std(draw: Draw, stats: Stats) -> tuple[float, float]:
    """The mean and std of free entries: those of the old tensor, or the std that was asked for."""
    if not matches(draw):
        return 0.0, float(draw.init.std)
    mean, std = stats.matched[draw.like]
    center = draw.like_a * mean + draw.like_b if draw.center else 0.0
    spread = abs(draw.like_a) * std if draw.init.std == "match" else float(draw.init.std)
    # Gains that are all 0 (a new branch's) would give new ones 0 too, dead behind weights that are 0.
    degenerate = spread == 0.0 and (len(draw.shape) > 1 or (draw.center and center == 0.0))
    return center, FALLBACK_STD if degenerate else spread


def by_function(draw: Draw, plan: Plan, read: Read, stats: Stats) -> Floats:
    """A region by a user's function."""
    mean, std = center_and_std(draw, stats)

    def old() -> Floats:
        x = read(draw.like, whole(draw.like.shape(plan.source))).to("cpu", torch.float64)
        return (x * draw.like_a + draw.like_b).numpy()

    slot, axes = draw.like.slot, draw.like.axes
    region = Region(slot, draw.index, axes, draw.axis, draw.shape, mean, std, draw.key, old)
    return made(draw.init.kind, region)


def digest(x: Floats) -> bytes:
    """What two drawings share iff they are the same numbers."""
    return hashlib.sha256(x.tobytes()).digest()


def _place_(target: Tensor, piece: Piece, plan: Plan, read: Read, stats: Stats, drawings: Drawings) -> None:
    """Fill `target` with a piece, in float64 until it is rounded, or by a table of what that gives."""
    value, plain = piece.value, (piece.a, piece.b) == (1.0, 0.0)
    if isinstance(value, Fill):
        target.fill_(value.value)
        return
    if isinstance(value, OldBox):
        x = read(value.block, value.box)
        if plain and x.dtype == target.dtype:
            target.copy_(x)
            return
        short = x.dtype in SHORT and target.dtype in SHORT and x.numel() > WORK and x.device.type == "cpu"
        if short:
            _place_words_(target, _scaled(x, _levels(x.dtype, target.dtype, piece.a, piece.b)))
            return
        entries = _parts_of(x)
    elif isinstance(value, Draw):
        if value.init.kind == "normal":
            table = normals(*center_and_std(value, stats), piece.a, piece.b, target.dtype)
            _place_words_(target, lambda part: looked_up(table, value.key, value.shape, _of(value.box, part)))
            return
        entries = _drawn(value, stats, drawings)
    else:
        entries = _parts_of(_mean(value, plan, stats).expand(target.shape))
    for part in chunks(whole(tuple(target.shape)), storage_order(target), WORK):
        x = entries(part)
        target[slices(part)].copy_(rounded(x if plain else x * piece.a + piece.b, target.dtype))


def _place_words_(target: Tensor, words: Callable[[Box], Words]) -> None:
    """Fill `target` with the bits of its numbers."""
    bits = target.view(INTEGERS[target.itemsize])
    for part in chunks(whole(tuple(target.shape)), storage_order(target), WORK):
        bits[slices(part)].copy_(torch.from_numpy(words(part)))


def _scaled(x: Tensor, levels: Words) -> Callable[[Box], Words]:
    bits = x.detach().view(torch.int16).numpy().view(np.uint16)
    return lambda part: np.take(levels, bits[slices(part)], mode="clip")


@lru_cache(maxsize=4)
def _levels(old: torch.dtype, new: torch.dtype, a: float, b: float) -> Words:
    """What a x + b becomes in a 16-bit dtype, for all that x of a 16-bit dtype can be."""
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(old).to(torch.float64)
    return _words(x if (a, b) == (1.0, 0.0) else x * a + b, new)


@lru_cache(maxsize=8)
def normals(mean: float, std: float, a: float, b: float, dtype: torch.dtype) -> Words:
    """What each number that a normal entry can be becomes with this mean and std, times a plus b."""
    x = torch.from_numpy(values()).mul(std).add_(mean)
    return _words(x if (a, b) == (1.0, 0.0) else x * a + b, dtype)


def _words(x: Tensor, dtype: torch.dtype) -> Words:
    return rounded(x, dtype).view(INTEGERS[dtype.itemsize]).numpy()


def _parts_of(x: Tensor) -> Entries:
    return lambda part: x[slices(part)].to("cpu", torch.float64)


def _drawn(draw: Draw, stats: Stats, drawings: Drawings) -> Entries:
    """Any part of a box of free entries, made alone if the initializer can."""
    if draw.init.kind not in PARTS:
        return _parts_of(drawings(replace(draw, box=whole(draw.shape)))[slices(draw.box)])
    mean, std = center_and_std(draw, stats)

    def entries(part: Box) -> Tensor:
        box = _of(draw.box, part)
        return torch.from_numpy(sample(draw.init.kind, draw.key, draw.shape, box)).mul_(std).add_(mean)

    return entries


def _of(box: Box, part: Box) -> Box:
    """A part that is counted along a box, where it lies."""
    return tuple(r[p.start : p.stop] for r, p in zip(box, part, strict=True))


def _mean(average: Average, plan: Plan, stats: Stats) -> Tensor:
    box = tuple(range(1) if d == average.dim else r for d, r in enumerate(average.box))
    return stats.means[of_all(average, plan)][slices(box)]


def _region(draw: Draw, plan: Plan, read: Read, stats: Stats) -> Tensor:
    """All of a region, the same whenever it is asked: else r and -r would not cancel."""
    if draw.init.kind in INITIALIZERS:
        mean, std = center_and_std(draw, stats)
        x = torch.from_numpy(sample(draw.init.kind, draw.key, draw.shape, whole(draw.shape)))
        return x.mul_(std).add_(mean)
    found = by_function(draw, plan, read, stats)
    if digest(found) != stats.digests[draw.key]:
        raise SizeError(
            f"init {draw.init.kind!r} gives other numbers for {draw.like.slot} when it is asked again: let"
            " them depend on the region alone, with a generator seeded by region.seed"
        )
    return torch.from_numpy(found)
