"""What a growth over ranks will cost each of them, counted without a tensor and without a process.

The code that decides what moves (`moving`, `dealing`, `taking`) runs for all ranks at once. Many layers are
alike: tensors of one line and shape that lie alike over the ranks. What is worked out for the first of them
holds for all, with other names for the blocks that it reads (`_Alike`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import TypeVar

from isogrow.plans.anatomy import Stored
from isogrow.plans.dealing import (
    by_depth,
    bytes_of,
    bytes_of_sums,
    course,
    dealt,
    mean_turns,
    parts_of,
    sum_turns,
    sums_of,
)
from isogrow.plans.moving import Holdings, Loads, Lot, Move, Regions, Unit, filled, filling, loads, moves
from isogrow.plans.pieces import Average, Block, Box, OldBox, pieces, whole
from isogrow.plans.plan import Plan
from isogrow.plans.taking import weights_of

Item = TypeVar("Item")


@dataclass(frozen=True)
class Made:
    """A grown tensor: the region of it that each rank will have, and the bytes of an entry."""

    stored: Stored
    regions: Regions
    width: int


@dataclass(frozen=True)
class Kind:
    """Tensors that are grown at a time, by a plan of their own: a model's, or a moment of each."""

    plan: Plan
    made: Sequence[Made]


@dataclass(frozen=True)
class Bounds:
    """What is summed at a time (entries), and what a rank gives or takes at a time (bytes)."""

    fixed: int
    round: int


@dataclass
class Tally:
    """What it costs, rank by rank: exchanges (the same for all), bytes given and taken, the most that a rank
    holds for one exchange, and the bytes of old numbers that it reads. `totals` are the bytes of sums and
    means, which are put together on all ranks; `summed` those of the means that every rank holds while a lot
    of tensors is filled, at the most."""

    world: int
    exchanges: int = 0
    totals: int = 0
    summed: int = 0
    sent: list[int] = field(default_factory=list[int])
    received: list[int] = field(default_factory=list[int])
    most: list[int] = field(default_factory=list[int])
    read: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        for each in (self.sent, self.received, self.most, self.read):
            each[:] = [0] * self.world

    def total_(self, size: int) -> None:
        """Count what ranks put together, if there are several."""
        self.totals += size if self.world > 1 else 0

    def exchange_(self, load: Loads) -> None:
        """Count one exchange."""
        here = defaultdict[int, int](int)
        for (gives, rank), size in load.items():
            (self.sent if gives else self.received)[rank] += size
            here[rank] += size
        for rank, size in here.items():
            self.most[rank] = max(self.most[rank], size)
        self.exchanges += bool(load)


def foreseen(
    held: Holdings, widths: Mapping[str, int], kinds: Iterable[Kind], bounds: Bounds, memory: bool = True
) -> Tally:
    """What growing these kinds, one after the other, costs each rank; `widths` are the bytes of an entry of
    each old tensor.

    Law: it is what each rank counts that does it. `memory` changes nothing but the time that this takes:
    without it each tensor is worked out by itself.
    """
    tally, alike = Tally(held.world), _Alike(held, widths, bounds, memory)
    for kind in kinds:
        for jobs in _streams(kind, alike, tally):
            _carry_out_(jobs, alike, tally)
    return tally


# ── how one tensor's work stands for that of others ──


@dataclass(frozen=True)
class _Work:
    """Units of work that move something: what each loads, and its moves; and what all units read, by rank.

    `names`: for a block in the moves, the first that lies as it does. `once`: no two moves are the same.
    """

    loads: tuple[Loads, ...]
    moves: tuple[tuple[Move, ...], ...]
    reads: Mapping[int, int]
    names: Mapping[Block, Block]
    once: bool

    @cached_property
    def load(self) -> Loads:
        """What all units load."""
        return _added(self.loads)


@dataclass(frozen=True)
class _Job:
    """The work for one tensor, as it was found for it or for one that is alike: `blocks` are those that it
    reads, by the first that lie as they do."""

    work: _Work
    blocks: Mapping[Block, Block]

    def lot(self) -> Lot[tuple[_Job, slice]]:
        """All of it, to be opened unit by unit."""
        return Lot((self, slice(None)), self.work.load, self._units)

    def _units(self) -> Iterator[Lot[tuple[_Job, slice]]]:
        for i, load in enumerate(self.work.loads):
            yield Lot((self, slice(i, i + 1)), load)

    def moves(self, units: slice) -> Iterator[tuple[Hashable, Move]]:
        """The moves of units, and what tells them from all others."""
        for move in (move for unit in self.work.moves[units] for move in unit):
            yield (self.blocks[self.work.names[move.part.block]], move.box, move.giver, move.taker), move


class _Alike:
    """Old blocks that lie alike over the ranks, by the first of them; and what work was found to be, by what
    it reads: plans that read the same need not be told apart."""

    def __init__(self, held: Holdings, widths: Mapping[str, int], bounds: Bounds, memory: bool) -> None:
        self.held, self.widths, self.bounds, self.memory = held, widths, bounds, memory
        self._first: dict[Hashable, Stored] = {}
        self._seen: dict[tuple[str, object], Block] = {}
        self._regions: dict[int, int] = {}
        self._distinct: dict[Hashable, int] = {}
        self._work: dict[Hashable, _Work] = {}

    def first(self, block: Block) -> Block:
        """The first old block that lies as this one does."""
        at = (block.slot, block.index)
        if at not in self._seen:
            stored = self.held.anatomy.holders[at][0]
            source, shape = stored.source, stored.header.shape
            key = (stored.line, shape, self.widths[source], self.region(self.held.regions[source]))
            like = self._first.setdefault(key if self.memory else source, stored)
            index = (*like.index, *block.index[len(stored.index) :])
            self._seen[at] = Block(block.slot, index, block.axes)
        return self._seen[at]

    def region(self, regions: Regions) -> int:
        """A number for who has what of a tensor: the same where they have the same."""
        if id(regions) not in self._regions:
            found = tuple(sorted(regions.items()))
            self._regions[id(regions)] = self._distinct.setdefault(found, len(self._distinct))
        return self._regions[id(regions)]

    def read_by(
        self, plan: Plan, block: Block, steps: int | None = None
    ) -> tuple[Hashable, dict[Block, Block]]:
        """What a grown block takes of old ones, by the first that lie as they do; and which they are."""
        sizes = plan.target if steps is None else plan.stages[steps]
        found, blocks = list[Hashable](), dict[Block, Block]()
        for piece in pieces(plan, block, whole(block.shape(sizes)), steps):
            if isinstance(piece.value, OldBox):
                like = self.first(piece.value.block)
                own = blocks.setdefault(like, piece.value.block)
                assert own == piece.value.block, f"{block.slot} reads two blocks that lie alike"
                found.append((like, piece.out, piece.value.box))
        return tuple(found), blocks

    def job(self, key: Hashable, blocks: Mapping[Block, Block], units: Iterable[Unit[Box]]) -> _Job:
        """The job of these units, which are asked for only where none with this key was found before."""
        if not self.memory or key not in self._work:
            self._work[key] = self._worked_out(units, {own: like for like, own in blocks.items()})
        return _Job(self._work[key], blocks)

    def _worked_out(self, units: Iterable[Unit[Box]], names: Mapping[Block, Block]) -> _Work:
        found, reads, seen, count = list[tuple[Loads, tuple[Move, ...]]](), Counter[int](), set[Move](), 0
        for unit in units:
            for rank, needs in unit.needs.items():
                reads[rank] += sum(self._size(block) * prod(map(len, box)) for block, box in needs)
            wanted = tuple(moves(unit.needs, self.held))
            if wanted:
                found.append((loads(wanted, self.widths), wanted))
                seen.update(wanted)
                count += len(wanted)
        loaded, wanted = (tuple(each) for each in zip(*found, strict=True)) if found else ((), ())
        return _Work(loaded, wanted, reads, names, len(seen) == count)

    def _size(self, block: Block) -> int:
        return self.widths[self.held.anatomy.holders[block.slot, block.index][0].source]


# ── the course of a growth ──


def _streams(kind: Kind, alike: _Alike, tally: Tally) -> Iterator[Iterator[_Job]]:
    """What is carried out at a time: sums, and lot by lot means by their depth and the filling of tensors."""
    plan, fixed = kind.plan, alike.bounds.fixed
    asked = course(kind.made, plan, alike.bounds.round)
    tally.total_(bytes_of_sums(asked.matched, plan, fixed))
    turns = sum_turns(asked.matched, plan, fixed)
    yield (_sum(like, turn, plan, alike) for like, turn in zip(asked.matched, turns, strict=True))
    for made, taken in asked.lots:
        tally.summed = max(tally.summed, bytes_of(taken))
        tally.total_(bytes_of(taken))
        for means in by_depth(taken):
            turns = mean_turns(means, fixed)
            yield (_mean(average, turn, plan, alike) for average, turn in zip(means, turns, strict=True))
        yield (_fill(each, plan, alike) for each in made)


def _sum(like: Block, turn: int, plan: Plan, alike: _Alike) -> _Job:
    first = alike.first(like)
    tasks = _later(lambda: sums_of(like, plan, alike.bounds.fixed))
    return alike.job(("sum", first, turn), {first: like}, dealt(tasks, alike.held, turn))


def _mean(average: Average, turn: int, plan: Plan, alike: _Alike) -> _Job:
    read, blocks = alike.read_by(plan, average.block, average.steps)
    weights = None
    if average.weights:
        weights, more = alike.read_by(plan, weights_of(average), average.steps)
        blocks |= more
    tasks = _later(lambda: parts_of(average, plan, alike.bounds.fixed))
    key = ("mean", average.box, average.dim, read, weights, turn)
    return alike.job(key, blocks, dealt(tasks, alike.held, turn))


def _fill(made: Made, plan: Plan, alike: _Alike) -> _Job:
    stored, blocks, read = made.stored, dict[Block, Block](), list[Hashable]()
    for _, block in stored.blocks(plan.target):
        own, more = alike.read_by(plan, block)
        read.append((block.index[len(stored.index) :], own))
        blocks |= more
    key = ("fill", stored.line, stored.header.shape, alike.region(made.regions), made.width, tuple(read))
    return alike.job(key, blocks, filling(stored, made.regions, plan, made.width, alike.bounds.round))


def _later(make: Callable[[], Iterable[Item]]) -> Iterator[Item]:
    """What is made when it is asked for."""
    yield from make()


# ── what it adds up to ──


def _carry_out_(jobs: Iterable[_Job], alike: _Alike, tally: Tally) -> None:
    """Count what all jobs of a stream cost."""
    times, works = Counter[int](), dict[int, _Work]()

    def lots() -> Iterator[Lot[tuple[_Job, slice]]]:
        for job in jobs:
            times[id(job.work)] += 1
            works[id(job.work)] = job.work
            if job.work.loads:
                yield job.lot()

    for some in filled(lots(), alike.bounds.round):
        tally.exchange_(_together(some, alike.widths))
    for at, work in works.items():
        for rank, size in work.reads.items():
            tally.read[rank] += times[at] * size


def _together(some: Sequence[tuple[_Job, slice]], widths: Mapping[str, int]) -> Loads:
    """What units of one exchange load: what several of them want moves once."""
    jobs = {id(job): job for job, _ in some}
    readers = Counter(block for job in jobs.values() for block in job.blocks.values())
    alone = {
        at: job.work.once and all(readers[block] == 1 for block in job.blocks.values())
        for at, job in jobs.items()
    }
    wanted, found = dict[Hashable, Move](), list[Loads]()
    for job, units in some:
        if not alone[id(job)]:
            wanted.update(job.moves(units))
        elif units == slice(None):
            found.append(job.work.load)
        else:
            found += job.work.loads[units]
    return _added([*found, loads(wanted.values(), widths)])


def _added(found: Iterable[Loads]) -> Loads:
    total = defaultdict[tuple[bool, int], int](int)
    for each in found:
        for key, size in each.items():
            total[key] += size
    return total
