"""What moves between ranks when a sharded model grows: a pure function of the plan and of who holds what.

Every rank works it out for all ranks, and all come to the same, so nobody has to ask. Each rank reads what
it holds itself where it lies; what it lacks (`taking.needed`) is given by a rank that holds it, each entry
once a round. Rounds are cut so that no rank gives or takes much more than a limit at a time.

Of thousands of ranks each holds a sliver: what a box overlaps is looked up, never searched among all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, zip_longest
from math import prod
from typing import Generic, TypeVar

from isogrow.layouts.pattern import View
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import See, boxes, chunks, overlap, remembered
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import Block, Box
from isogrow.plans.plan import Plan
from isogrow.plans.taking import Need, needed

Work = TypeVar("Work")
Item = TypeVar("Item")
# The region of a stored tensor that each rank holds.
Regions = Mapping[int, Box]
# Bytes that each rank gives (True) or takes (False).
Loads = Mapping[tuple[bool, int], int]


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


@dataclass(frozen=True)
class Lot(Generic[Item]):
    """What loads the ranks so: at once, or part by part."""

    item: Item
    load: Loads
    parts: Callable[[], Iterable[Lot[Item]]] | None = None


class Parts:
    """The parts of an old block, which are all of it, each entry in one."""

    def __init__(self, parts: Iterable[Part]) -> None:
        parts = list(parts)
        starts = [{part.box[d].start for part in parts} for d in range(len(parts[0].box))]
        self._dim = max(range(len(starts)), key=lambda d: len(starts[d]), default=None)
        self._parts = parts if self._dim is None else sorted(parts, key=lambda part: self._along(part).start)

    def near(self, box: Box) -> Iterator[tuple[Part, Box]]:
        """The parts that have entries of a box (without gaps), and which."""
        for part in self._candidates(box):
            shared = overlap(part.box, box)
            if shared is not None:
                yield part, shared

    def _candidates(self, box: Box) -> Sequence[Part]:
        if self._dim is None:
            return self._parts
        wanted, last = box[self._dim], bisect_left(self._starts, box[self._dim].stop)
        return self._parts[bisect_left(self._reaches, wanted.start + 1, 0, last) : last]

    def _along(self, part: Part) -> range:
        return part.box[self._dim or 0]

    @cached_property
    def _starts(self) -> list[int]:
        return [self._along(part).start for part in self._parts]

    @cached_property
    def _reaches(self) -> list[int]:
        """How far a part, or one before it, reaches: this only grows, as the starts do."""
        return list(accumulate((self._along(part).stop for part in self._parts), max))


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

    def parts(self, block: Block) -> Parts:
        """The parts of an old block."""
        return self._of_tensor(self.anatomy.holders[block.slot, block.index][0].source)[block]

    def _parts(self, source: str) -> Mapping[Block, Parts]:
        stored = self._by_source[source]
        ranks = defaultdict[Box, list[int]](list)
        for rank, region in self.regions[source].items():
            ranks[region].append(rank)
        found, see = defaultdict[Block, list[Part]](list), remembered()
        for region, holding in ranks.items():
            for held in boxes(stored, region, self.anatomy.sizes, see):
                part = Part(held.block, held.box, source, tuple(holding), held.place, held.view)
                found[held.block].append(part)
        return {block: Parts(parts) for block, parts in found.items()}

    @cached_property
    def _by_source(self) -> Mapping[str, Stored]:
        return {stored.source: stored for stored in self.anatomy.stored}

    def most(self, needs: Iterable[Need]) -> tuple[int, ...]:
        """The ranks that hold most of the entries that are needed; none where nothing is."""
        found = defaultdict[int, int](int)
        for block, box in needs:
            for part, shared in self.parts(block).near(box):
                for rank in part.ranks:
                    found[rank] += prod(map(len, shared))
        most = max(found.values(), default=0)
        return tuple(sorted(rank for rank, count in found.items() if count == most))


def moves(needs: Mapping[int, Iterable[Need]], held: Holdings) -> Iterator[Move]:
    """Each box that a rank needs and does not hold, from a rank that does: the next one up in the circle of
    ranks, so that those who hold the same give alike."""
    for taker, wanted in needs.items():
        for block, box in _outermost(wanted):
            for part, shared in held.parts(block).near(box):
                if taker not in part.ranks:
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


def filling(stored: Stored, regions: Regions, plan: Plan, width: int, limit: int) -> Iterator[Unit[Box]]:
    """All ranks fill their regions of a grown tensor, whose entries have `width` bytes, at most `limit` bytes
    (or one run of entries) at a time."""
    count = max(1, limit // width)
    cuts = {
        rank: [part for part in chunks(region, tuple(range(len(region))), count) if all(part)]
        for rank, region in regions.items()
    }
    see = remembered()
    for row in zip_longest(*cuts.values()):
        work = {rank: part for rank, part in zip(cuts, row, strict=True) if part is not None}
        yield Unit(work, {rank: tuple(_read(stored, part, plan, see)) for rank, part in work.items()})


def _read(stored: Stored, region: Box, plan: Plan, see: See) -> Iterator[Need]:
    for made in boxes(stored, region, plan.target, see):
        yield from needed(plan, made.block, made.box)


def rounds(
    units: Iterable[Unit[Work]], held: Holdings, widths: Mapping[str, int], limit: int
) -> Iterator[Round[Work]]:
    """The units in their order, as many in a round as let no rank give or take more than `limit` bytes (or
    one unit); `widths` are the bytes of an entry of each stored tensor."""

    def lot(unit: Unit[Work]) -> Lot[tuple[Unit[Work], list[Move]]]:
        wanted = list(moves(unit.needs, held))
        return Lot((unit, wanted), loads(wanted, widths))

    for some in filled(map(lot, units), limit):
        yield Round(tuple(unit for unit, _ in some), tuple(dict.fromkeys(m for _, own in some for m in own)))


def loads(wanted: Iterable[Move], widths: Mapping[str, int]) -> Loads:
    """The bytes that each rank gives, and takes."""
    found = defaultdict[tuple[bool, int], int](int)
    for move in wanted:
        size = move.count * widths[move.part.source]
        found[True, move.giver] += size
        found[False, move.taker] += size
    return found


def filled(lots: Iterable[Lot[Item]], limit: int) -> Iterator[list[Item]]:
    """What lots consist of, in their order, as many at a time as keep what they load on each rank, each way,
    within `limit` (or one lot without parts). Parts together load what their lot does."""
    some, total, most = list[Item](), dict[tuple[bool, int], int](), 0
    opened = [iter(lots)]
    while opened:
        lot = next(opened[-1], None)
        if lot is None:
            opened.pop()
            continue
        after = {key: total.get(key, 0) + size for key, size in lot.load.items()}
        largest = max(most, max(after.values(), default=0))
        if largest > limit and lot.parts is not None:
            opened.append(iter(lot.parts()))
            continue
        if largest > limit and some:
            yield some
            some, total, most = [lot.item], dict(lot.load), max(lot.load.values(), default=0)
            continue
        some.append(lot.item)
        total.update(after)
        most = largest
    if some:
        yield some
