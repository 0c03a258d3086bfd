"""The tensor arithmetic of all interpreters: view a stored tensor as blocks, fill a box of a block.

Old entries that no rule scales are copied bit by bit. Everything else is computed in float64 and
rounded once. Reductions run as trees of elementwise sums over fixed blocks in logical order, so no
chunk size, thread count or storage order changes a bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from isogrow.errors import SizeError
from isogrow.initializers import INITIALIZERS, PARTS, Floats, made, sample
from isogrow.pattern import View
from isogrow.pieces import Average, Block, Box, Draw, Fill, Piece, Source, pieces
from isogrow.plans import Plan
from isogrow.regions import Region

Read = Callable[[Block], Tensor]

CHUNK = 1 << 21
FIXED = 1 << 18
WORK = 1 << 16  # entries that are computed at a time: their float64 temporaries stay in the cache
FALLBACK_STD = 0.02


def blocked(stored: Tensor, view: View) -> Tensor:
    """A stored tensor seen as one block, without a copy.

    A view only splits dims and selects from them, so any strides and any device will do: whoever reads a box
    of the block moves that box alone.
    """
    x = stored.view(view.full)
    if view.narrow is not None:
        x = x.narrow(*view.narrow)
    x = x.view(view.split)
    for dim, i in sorted(view.select, reverse=True):
        x = x.select(dim, i)
    return x.permute(view.order)


def chunks(box: Box, order: tuple[int, ...], limit: int = CHUNK) -> Iterator[Box]:
    """Boxes of at most `limit` entries (or one entry) that tile `box`, split along `order`'s first dims."""
    count = 1
    for r in box:
        count *= len(r)
    if count <= limit or not order:
        yield box
        return
    dim = order[0]
    rows = max(1, limit * len(box[dim]) // count)
    for start in range(box[dim].start, box[dim].stop, rows):
        part = range(start, min(start + rows, box[dim].stop))
        yield from chunks(tuple(part if d == dim else r for d, r in enumerate(box)), order[1:], limit)


@dataclass
class Filler:
    """Fills boxes of a plan's grown blocks from a reader of the old ones.

    It remembers the statistics of old tensors, the last mean and the last region that could only be made
    whole, since neighbouring chunks share them; and of what a user's function made, a hash.
    """

    plan: Plan
    read: Read
    limit: int = CHUNK
    moments: dict[Block, tuple[float, float]] = field(default_factory=dict[Block, tuple[float, float]])
    last: tuple[Average, Tensor] | None = None
    region: tuple[tuple[str, tuple[int, ...]], Tensor] | None = None
    made: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def fill_(self, out: Tensor, block: Block, order: tuple[int, ...]) -> None:
        """Fill all of a block; `order` lists its dims as they lie in storage, slowest first."""
        box = tuple(range(n) for n in out.shape)
        for part in chunks(box, order, self.limit):
            self.fill_box_(out[slices(part)], block, part)

    def fill_box_(self, out: Tensor, block: Block, box: Box, steps: int | None = None) -> None:
        """Fill `out` with a box of the block after `steps` steps (default: all)."""
        for piece in pieces(self.plan, block, box, steps):
            self._place_(out[slices(piece.out)], piece)

    def _place_(self, target: Tensor, piece: Piece) -> None:
        value = piece.value
        if isinstance(value, Fill):
            target.fill_(value.value)
            return
        if isinstance(value, Source):
            x = self.read(value.block)[slices(value.box)]
            if (piece.a, piece.b) == (1.0, 0.0) and x.dtype == target.dtype:
                target.copy_(x)
                return
        order = tuple(sorted(range(target.dim()), key=lambda d: -target.stride(d)))
        for part in chunks(tuple(map(range, target.shape)), order, WORK):
            self._compute_(target[slices(part)], piece, part)

    def _compute_(self, target: Tensor, piece: Piece, part: Box) -> None:
        """Fill `target` with a part of a piece, in float64 until it is rounded."""
        value = piece.value
        assert not isinstance(value, Fill)
        if isinstance(value, Source):
            x = self.read(value.block)[slices(value.box)][slices(part)].to("cpu", torch.float64)
        elif isinstance(value, Draw):
            x = self._drawn(value, part)
        else:
            x = self._mean(value).expand([len(r) for r in piece.out])[slices(part)]
        if (piece.a, piece.b) != (1.0, 0.0):
            x = x * piece.a + piece.b
        target.copy_(rounded(x, target.dtype))

    def _drawn(self, draw: Draw, part: Box) -> Tensor:
        box = tuple(r[p.start : p.stop] for r, p in zip(draw.box, part, strict=True))
        if draw.init.kind not in INITIALIZERS:
            return self._whole(draw)[slices(box)]
        mean, std = self.matched(draw)
        if draw.init.kind in PARTS:
            x = torch.from_numpy(sample(draw.init.kind, draw.key, draw.shape, box))
        else:
            x = self._whole(draw)[slices(box)].clone()
        return x.mul_(std).add_(mean)

    def _whole(self, draw: Draw) -> Tensor:
        """A region that can only be made whole is kept for the parts that follow."""
        if self.region is None or self.region[0] != (draw.key, draw.shape):
            if draw.init.kind in INITIALIZERS:
                full = sample(draw.init.kind, draw.key, draw.shape, tuple(map(range, draw.shape)))
            else:
                full = self._own(draw)
            self.region = ((draw.key, draw.shape), torch.from_numpy(full))
        return self.region[1]

    def _own(self, draw: Draw) -> Floats:
        """A region by a user's function, the same whenever it is asked: else r and -r would not cancel."""
        mean, std = self.matched(draw)

        def old() -> Floats:
            return (self.read(draw.like).to("cpu", torch.float64) * draw.like_a + draw.like_b).numpy()

        slot, axes = draw.like.slot, draw.like.axes
        region = Region(slot, draw.index, axes, draw.axis, draw.shape, mean, std, draw.key, old)
        found = made(draw.init.kind, region)
        digest = hashlib.sha256(found.tobytes()).digest()
        if self.made.setdefault(draw.key, digest) != digest:
            raise SizeError(
                f"init {draw.init.kind!r} gives other numbers for {slot} when it is asked again: let them"
                " depend on the region alone, with a generator seeded by region.seed"
            )
        return found

    def matched(self, draw: Draw) -> tuple[float, float]:
        """The mean and std of free entries: those of the old tensor, or the std that was asked for."""
        if draw.init.std != "match" and not draw.center:
            return 0.0, float(draw.init.std)
        if draw.like not in self.moments:
            self.moments[draw.like] = moments(self.read(draw.like))
        mean, std = self.moments[draw.like]
        center = draw.like_a * mean + draw.like_b if draw.center else 0.0
        spread = abs(draw.like_a) * std if draw.init.std == "match" else float(draw.init.std)
        degenerate = spread == 0.0 and len(draw.shape) > 1
        return center, FALLBACK_STD if degenerate else spread

    def _mean(self, average: Average) -> Tensor:
        if self.last is None or self.last[0] != average:
            self.last = (average, self._averaged(average))
        return self.last[1]

    def _averaged(self, average: Average) -> Tensor:
        """The mean along a dim, chunk by chunk along the others."""
        dim, count = average.dim, len(average.box[average.dim])
        shape = [1 if d == dim else len(r) for d, r in enumerate(average.box)]
        result = torch.empty(shape, dtype=torch.float64)
        others = tuple(d for d in range(len(shape)) if d != dim)
        weights = self._weights(average)
        for part in chunks(average.box, others, min(self.limit, FIXED)):
            x = torch.empty([len(r) for r in part], dtype=torch.float64)
            self.fill_box_(x, average.block, part, average.steps)
            x = x if weights is None else x * weights
            at = [
                slice(r.start - full.start, r.stop - full.start)
                for r, full in zip(part, average.box, strict=True)
            ]
            at[dim] = slice(0, 1)
            result[tuple(at)] = tree_sum(x, dim) / count
        return result

    def _weights(self, average: Average) -> Tensor | None:
        if not average.weights:
            return None
        axis, box = average.block.axes[average.dim], average.box[average.dim]
        block = Block(average.weights, average.block.index, (axis,))
        x = torch.empty(len(box), dtype=torch.float64)
        self.fill_box_(x, block, (box,), average.steps)
        return x.reshape([-1 if d == average.dim else 1 for d in range(len(average.box))])


def slices(box: Box) -> tuple[slice, ...]:
    """A box as an index."""
    return tuple(slice(r.start, r.stop, r.step) for r in box)


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 rounded once to `dtype` (torch itself goes through float32, which rounds twice).

    Rounding to odd in float32 (towards zero, the last bit set where that is inexact) keeps what the
    second rounding needs to know.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return x.to(dtype)
    single = x.to(torch.float32)
    back = single.to(torch.float64)
    bits = single.view(torch.int32)
    bits -= (back.abs() > x.abs()).to(torch.int32)
    bits |= (back != x).to(torch.int32)
    return single.to(dtype)


def tree_sum(x: Tensor, dim: int) -> Tensor:
    """The sum along `dim` (kept), as a tree of elementwise sums."""
    while x.shape[dim] > 1:
        half = (x.shape[dim] + 1) // 2
        rest = x.shape[dim] - half
        head = x.narrow(dim, 0, half).clone()
        head.narrow(dim, 0, rest).add_(x.narrow(dim, half, rest))
        x = head
    return x


def moments(x: Tensor) -> tuple[float, float]:
    """Mean and std of a block, summed in fixed blocks in logical order."""
    row = max(1, x[0].numel()) if x.dim() else 1
    rows = max(1, FIXED // row)
    total, squares = 0.0, 0.0
    for start in range(0, x.shape[0], rows):
        part = x[start : start + rows].to("cpu", torch.float64).reshape(-1)
        total += float(tree_sum(part, 0))
        squares += float(tree_sum(part * part, 0))
    mean = total / x.numel()
    return mean, max(0.0, squares / x.numel() - mean * mean) ** 0.5
