"""Where the weights of two models come from, region by region, by the names that their classes have.

Files may name and stack tensors otherwise than classes do; blocks are what both have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from isogrow.numbers.arithmetic import blocked, rounded, storage_order
from isogrow.numbers.filling import Read, Stats
from isogrow.numbers.statistics import statistics
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import Held, boxes, chunks, contiguous, slices
from isogrow.plans.pieces import Block, Box, Draw, Fill, OldBox, Piece, pieces, whole
from isogrow.plans.plan import Constant, Entry, Free, Mean, Plan, Step, rewritten
from isogrow.plans.sizes import Sizes
from isogrow.stores.binding import fill_region_, outputs, reader
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.fetching import MOST
from isogrow.stores.store import Store

ALIKE = (0.0, 1.0)  # numbers that every dtype has
RECENT = 8  # boxes of a model's weights that are kept for the next run that wants them


@dataclass(frozen=True)
class Kept:
    """A model's weights as they are stored: `held` is how its files have them, `tensors` how its class
    does, where a tied one has the entries of the one that it is tied to."""

    held: Anatomy
    tensors: Mapping[str, Stored]
    store: Store

    @property
    def sizes(self) -> Sizes:
        return self.held.sizes

    @cached_property
    def read(self) -> Read:
        return reader(self.held, self.store)

    @cached_property
    def again(self) -> Read:
        """The same for who reads a box twice in short order: the last few are kept."""
        return lru_cache(maxsize=RECENT)(self.read)

    def region(self, name: str, region: Box, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
        """A region of a tensor, in this dtype; in `out`, if that is given."""
        stored = self.tensors[name]
        out = torch.empty([len(r) for r in region], dtype=dtype) if out is None else out
        for held in boxes(stored, region, self.sizes):
            target = blocked(out[slices(held.place)], held.view)
            for part in chunks(whole(tuple(target.shape)), storage_order(target), MOST):
                box = tuple(r[p.start : p.stop] for r, p in zip(held.box, part, strict=True))
                target[slices(part)].copy_(self.again(held.block, box))
        return out

    def dtype_of(self, block: Block) -> torch.dtype:
        """The dtype in which the files have a block."""
        found = torch_dtype(self.held.holders[block.slot, block.index][0].header.dtype)
        assert found is not None
        return found


def kept(held: Anatomy, seen: Anatomy, store: Store) -> Kept:
    """A model's weights, for the class through which it is `seen`."""
    own = outputs(seen, Plan(seen.layout.family, seen.sizes))
    return Kept(held, {stored.source: stored for stored in own}, store)


@dataclass(frozen=True)
class MadeWeights:
    """The large model's weights as the plan makes them of the small one's, in float64; free entries, which
    may be anything, are those that are stored."""

    plan: Plan
    small: Kept
    large: Kept
    stats: dict[str, Stats] = field(default_factory=dict[str, Stats])
    plain: dict[str, bool] = field(default_factory=dict[str, bool])

    @cached_property
    def bare(self) -> Plan:
        """The plan with nothing to draw."""
        return rewritten(self.plan, _undrawn)

    @cached_property
    def averages(self) -> bool:
        """Whether an entry depends on all of a block."""
        rewrites = (rewrite for step in self.plan.steps for rewrite in step.rewrites.values())
        return any(isinstance(entry, Mean) for rewrite in rewrites for entry in rewrite.values())

    def region(self, name: str, region: Box, dtype: torch.dtype = torch.float64) -> Tensor:
        """A region of one of the class's tensors, rounded to `dtype`."""
        stored = self.large.tensors[name]
        if dtype == torch.float64 and self._plain(stored):
            return self.large.region(name, region, dtype)
        return self.of(stored, region, dtype)

    def as_stored(self, name: str, region: Box) -> Tensor:
        """A region as it should be stored, each block in its dtype, in float64."""
        stored, out = self.large.tensors[name], torch.empty([len(r) for r in region], dtype=torch.float64)
        out.copy_(self.of(stored, region, torch.float64))
        for held in boxes(stored, region, self.plan.target):
            target = blocked(out[slices(held.place)], held.view)
            target.copy_(rounded(target, self.large.dtype_of(held.block)))
        return out

    def of(self, stored: Stored, region: Box, dtype: torch.dtype) -> Tensor:
        """The same of any tensor that has blocks of the large model."""
        out = torch.empty([len(r) for r in region], dtype=dtype)
        fill_region_(out, stored, region, self.bare, self.small.read, self.statistics(stored))
        for held in boxes(stored, region, self.plan.target):
            self._take_drawn_(blocked(out[slices(held.place)], held.view), held)
        return out

    def _take_drawn_(self, out: Tensor, held: Held) -> None:
        """Free entries as they are stored."""
        for place, part in contiguous(held.box):
            for piece in pieces(self.plan, held.block, part):
                if isinstance(piece.value, Draw):
                    at = slices(piece.out)
                    out[slices(place)][at] = self.large.read(held.block, part)[at].to(out.dtype)

    def statistics(self, stored: Stored) -> Stats:
        """What filling a tensor takes of old blocks as a whole; made when it is first asked for."""
        if not self.averages:
            return Stats()
        if stored.name not in self.stats:
            blocks = (block for _, block in stored.blocks(self.plan.target))
            self.stats[stored.name] = statistics(self.plan, blocks, self.small.read)
        return self.stats[stored.name]

    def _plain(self, stored: Stored) -> bool:
        """Whether what should be stored is exact, so that what is stored may stand for it."""
        if stored.name not in self.plain:
            self.plain[stored.name] = all(
                _exact(piece) and self._holds(block, piece)
                for _, block in stored.blocks(self.plan.target)
                for piece in self._pieces(block)
            )
        return self.plain[stored.name]

    def _pieces(self, block: Block) -> Iterator[Piece]:
        return pieces(self.plan, block, tuple(range(n) for n in block.shape(self.plan.target)))

    def _holds(self, block: Block, piece: Piece) -> bool:
        """Whether the dtype of a stored block has every number of what it is a copy of."""
        if not isinstance(piece.value, OldBox):
            return True
        dtype = self.large.dtype_of(block)
        return torch.promote_types(self.small.dtype_of(piece.value.block), dtype) == dtype


def _exact(piece: Piece) -> bool:
    """Whether a piece is made without rounding."""
    value = piece.value
    if isinstance(value, Fill):
        return value.value in ALIKE
    return isinstance(value, Draw) or (isinstance(value, OldBox) and (piece.a, piece.b) == (1.0, 0.0))


def _undrawn(step: Step, slot: str, label: str, entry: Entry) -> Entry:
    return Constant(0.0) if isinstance(entry, Free) else entry
