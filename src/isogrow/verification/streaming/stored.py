"""The stored weights against the exact ones, some entries at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import inf

import torch

from isogrow.numbers.arithmetic import blocked, same
from isogrow.plans.anatomy import Stored
from isogrow.plans.boxes import boxes, chunks, slices
from isogrow.plans.pieces import Block, Box, whole
from isogrow.plans.plan import Plan
from isogrow.stores.binding import outputs
from isogrow.stores.store import read
from isogrow.stores.workers import Pool, pool, results
from isogrow.stores.writing import one_thread
from isogrow.verification.differences import gap
from isogrow.verification.report import Check
from isogrow.verification.stored import missing
from isogrow.verification.streaming.weights import Kept, MadeWeights

ENTRIES = 1 << 20  # that a worker compares at a time


@dataclass
class Wrong:
    """A tensor that is not what the plan makes: the first block of it that differs, in how many entries, and
    by how much, relative to the largest beside them."""

    name: str
    block: Block
    entries: int = 0
    relative: float = 0.0

    def __str__(self) -> str:
        at = "".join(f" of {axis} {i}" for axis, i in self.block.index)
        much = f"{self.entries:,} entries, by a relative {self.relative:.1e}"
        return f"{self.name} ({self.block.slot}{at}: {much})"


def weights(made: MadeWeights) -> Check:
    """Every entry of every tensor that the large model stores, whether its class reads it or not, is the
    exact one rounded once, bit by bit; free ones may be anything."""
    own = outputs(made.large.held, Plan(made.plan.family, made.plan.target))
    with pool() as workers, one_thread():
        wrong = [found for stored in own for found in _wrong(made, stored, workers)]
    wanted = outputs(made.small.held, made.plan)
    if lost := missing("weights", wanted, made.large.held, made.plan.target):
        return lost
    detail = f"first of {len(wrong)} that differ: {wrong[0]}" if wrong else f"{len(own)} tensors"
    return Check("weights", not wrong, float(len(wrong)), 0.0, detail)


def _wrong(made: MadeWeights, stored: Stored, workers: Pool) -> Iterator[Wrong]:
    """What is wrong with a tensor, if anything is."""
    made.statistics(stored)  # not by each worker
    regions = list(chunks(whole(stored.header.shape), tuple(range(len(stored.header.shape))), ENTRIES))
    found: Wrong | None = None
    works = (partial(_right, made, stored, region) for region in regions)
    with closing(results(works, workers, workers.count)) as right:
        for region in (region for region, alike in zip(regions, right, strict=True) if not alike):
            found = _told(made, stored, region, found)
    if found is not None:
        yield found


def _right(made: MadeWeights, stored: Stored, region: Box) -> bool:
    there = read(made.large.store, stored.source, region)
    return same(made.of(stored, region, there.dtype), there)


def _told(made: MadeWeights, stored: Stored, region: Box, so_far: Wrong | None) -> Wrong:
    """The same, and what a region adds to it: entries of the first block that differs."""
    there = read(made.large.store, stored.source, region)
    exact = made.of(stored, region, torch.float64)
    right = made.of(stored, region, there.dtype)
    for held in boxes(stored, region, made.plan.target):
        one, two, true = (blocked(x[slices(held.place)], held.view) for x in (right, there, exact))
        if same(one, two) or (so_far is not None and so_far.block != held.block):
            continue
        so_far = so_far or Wrong(stored.name, held.block)
        so_far.entries += max(1, int((one != two).sum()))  # a zero of the other sign is another entry
        absolute, scale = gap(true, two)
        so_far.relative = max(so_far.relative, absolute / scale if scale else inf if absolute else 0.0)
    assert so_far is not None
    return so_far


def kept_whole(weights: Kept) -> Iterator[str]:
    """The class's tensors of which a block is stored nowhere."""
    for name, stored in weights.tensors.items():
        if any((b.slot, b.index) not in weights.held.holders for _, b in stored.blocks(weights.sizes)):
            yield name
