"""What moves between ranks when a sharded model grows: a pure function of the plan and of who holds what.

Every rank works it out for all ranks, and all come to the same, so nobody has to ask. Each rank reads what
it holds itself where it lies; what it lacks (`taking.needed`) is given by a rank that holds it, each entry
once a round. Rounds are cut so that no rank gives or takes much more than a limit at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from math import prod
from typing import Generic, TypeVar

from isogrow.layouts.pattern import View
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import boxes, chunks, overlap
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import Block, Box
from isogrow.plans.plan import Plan
from isogrow.plans.taking import Need, needed

Work = TypeVar("Work")
# The region of a stored tensor that each rank holds.
Regions = Mapping[int, Box]


@dataclass(frozen=True)
class Part:
    """A box of an old block, the ranks that hold it, and where it lies in what they hold of a tensor."""

    block: Block
    box: Box
    source: str
    ranks: tuple[int, ...]
    place: Box
    view: View


@dataclass(frozen=True)
class Move:
    """A box of a part that one rank gives to another."""

    part: Part
    box: Box
    giver: int
    taker: int

    @property
    def count(self) -> int:
        """How many entries move."""
        return prod(map(len, self.box))


@dataclass(frozen=True)
class Unit(Generic[Work]):
    """What is made at a time: the work of each rank that has some, and the old boxes that it reads."""

    work: Mapping[int, Work]
    needs: Mapping[int, Sequence[Need]]


@dataclass(frozen=True)
class Round(Generic[Work]):
    """Units that follow one exchange."""

    units: tuple[Unit[Work], ...]
    moves: tuple[Move, ...]


class Holdings:
    """Which ranks hold what of a model: by block, from the region of each stored tensor that each rank holds.

    The regions of a tensor are the same or do not overlap, and are all of it together.
    """

    def __init__(self, anatomy: Anatomy, regions: Mapping[str, Regions]) -> None:
        self.anatomy, self.regions = anatomy, regions
        self.world = 1 + max(rank for by_rank in regions.values() for rank in by_rank)
        for stored in anatomy.stored:
            if not is_tied(anatomy, stored):
                count = sum(prod(map(len, region)) for region in set(regions[stored.source].values()))
                assert count == prod(stored.header.shape), f"{stored.source} is not covered once"
        self._of_tensor = lru_cache(maxsize=16)(self._parts)  # what follows each other asks of a few

    def parts(self, block: Block) -> Sequence[Part]:
        """The parts of an old block, which are all of it."""
        return self._of_tensor(self.anatomy.holders[block.slot, block.index][0].source)[block]

    def _parts(self, source: str) -> Mapping[Block, Sequence[Part]]:
        stored = next(each for each in self.anatomy.stored if each.source == source)
        ranks = defaultdict[Box, list[int]](list)
        for rank, region in self.regions[source].items():
            ranks[region].append(rank)
        found = defaultdict[Block, list[Part]](list)
        for region, holding in ranks.items():
            for held in boxes(stored, region, self.anatomy.sizes):
                part = Part(held.block, held.box, source, tuple(holding), held.place, held.view)
                found[held.block].append(part)
        return found

    def share(self, needs: Iterable[Need]) -> Mapping[int, int]:
        """How many of the entries that are needed each rank holds."""
        found = dict.fromkeys(range(self.world), 0)
        for block, box in needs:
            for part in self.parts(block):
                shared = overlap(part.box, box)
                for rank in part.ranks if shared else ():
                    found[rank] += prod(map(len, shared or ()))
        return found


def moves(needs: Mapping[int, Iterable[Need]], held: Holdings) -> Iterator[Move]:
    """Each box that a rank needs and does not hold, from a rank that does: the next one up in the circle of
    ranks, so that those who hold the same give alike."""
    for taker, wanted in needs.items():
        for block, box in _outermost(wanted):
            for part in held.parts(block):
                shared = None if taker in part.ranks else overlap(part.box, box)
                if shared is not None:
                    giver = min(part.ranks, key=lambda rank: (rank - taker) % held.world)
                    yield Move(part, shared, giver, taker)


def _outermost(needs: Iterable[Need]) -> Iterator[Need]:
    """The same needs without boxes that lie in another one."""
    by_block = defaultdict[Block, dict[Box, None]](dict)
    for block, box in needs:
        by_block[block].setdefault(box)
    for block, wanted in by_block.items():
        kept: list[Box] = []
        for box in sorted(wanted, key=lambda box: -prod(map(len, box))):
            if not any(overlap(other, box) == box for other in kept):
                kept.append(box)
                yield block, box


# ── units of work ──


def filling(stored: Stored, regions: Regions, plan: Plan, limit: int) -> Iterator[Unit[Box]]:
    """All ranks fill their regions of a grown tensor, at most `limit` entries (or one run) at a time."""
    cuts = {
        rank: [part for part in chunks(region, tuple(range(len(region))), limit) if all(part)]
        for rank, region in regions.items()
    }
    for row in zip_longest(*cuts.values()):
        work = {rank: part for rank, part in zip(cuts, row, strict=True) if part is not None}
        yield Unit(work, {rank: tuple(_read(stored, part, plan)) for rank, part in work.items()})


def _read(stored: Stored, region: Box, plan: Plan) -> Iterator[Need]:
    for made in boxes(stored, region, plan.target):
        yield from needed(plan, made.block, made.box)


def dealt(tasks: Sequence[tuple[Work, Sequence[Need]]], held: Holdings, turn: int) -> Iterator[Unit[Work]]:
    """Tasks that any rank can do, each given to the one that holds most of what it reads, as long as none has
    more than its share of them; `turn` says who is first where several hold the same."""
    left = dict.fromkeys(range(held.world), -(-len(tasks) // held.world))
    for work, needs in tasks:
        share = held.share(needs)
        free = [rank for rank, count in left.items() if count]
        rank = max(free, key=lambda rank: (share[rank], -((rank - turn) % held.world)))
        left[rank] -= 1
        yield Unit({rank: work}, {rank: needs})


def rounds(
    units: Iterable[Unit[Work]], held: Holdings, widths: Mapping[str, int], limit: int
) -> Iterator[Round[Work]]:
    """The units in their order, as many in a round as let no rank give or take more than `limit` bytes (or
    one unit); `widths` are the bytes of an entry of each stored tensor."""
    some, wanted, load = list[Unit[Work]](), list[Move](), _Load(widths)
    for unit in units:
        own = list(moves(unit.needs, held))
        if some and load.after(own) > limit:
            yield Round(tuple(some), tuple(dict.fromkeys(wanted)))
            some, wanted, load = [], [], _Load(widths)
        some.append(unit)
        wanted += own
        load.add(own)
    if some:
        yield Round(tuple(some), tuple(dict.fromkeys(wanted)))


class _Load:
    """The bytes that each rank gives, and takes."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        self.widths, self.of = widths, defaultdict[tuple[bool, int], int](int)

    def add(self, more: Iterable[Move]) -> None:
        for move in more:
            size = move.count * self.widths[move.part.source]
            self.of[True, move.giver] += size
            self.of[False, move.taker] += size

    def after(self, more: Iterable[Move]) -> int:
        """The largest, with more moves."""
        both = _Load(self.widths)
        both.of.update(self.of)
        both.add(more)
        return max(both.of.values(), default=0)
