"""The first pass of a growth over ranks, as units of work: which rank sums what.

What depends on a whole block is made of fixed boxes, in one process as over ranks. A box is dealt to the rank
that holds most of what it reads, so that little moves, and those who hold as much share the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from math import prod
from typing import Generic, Protocol, TypeVar

from isogrow.plans.anatomy import Stored
from isogrow.plans.moving import Holdings, Unit
from isogrow.plans.pieces import Average, Block, Box, Draw
from isogrow.plans.plan import Plan
from isogrow.plans.taking import Need, averaged, needed_by_mean, summed, taken

NUMBER = 8  # bytes of a mean's entry, and of a sum
SUMS = 2  # of each box: of its entries, and of their squares
FEW = 16  # tasks of a block that so few ranks would always be the same for
Work = TypeVar("Work")
Task = tuple[Work, Sequence[Need]]


class Grows(Protocol):
    """A grown tensor, whatever else is known of it."""

    @property
    def stored(self) -> Stored: ...


Made = TypeVar("Made", bound=Grows)


@dataclass(frozen=True)
class Course(Generic[Made]):
    """What grown tensors take of old blocks as a whole, and in which lots they are filled: some tensors, and
    the means that these take. Every rank has the means of a lot until it is filled, and no others."""

    matched: tuple[Block, ...]
    drawn: tuple[Draw, ...]
    lots: tuple[tuple[tuple[Made, ...], tuple[Average, ...]], ...]


def course(made: Iterable[Made], plan: Plan, limit: int, known: Collection[Average] = ()) -> Course[Made]:
    """The course in which these are filled, in their order: as many in a lot as take means of at most `limit`
    bytes together (or one tensor), but for means that are known."""
    matched, drawn = dict[Block, None](), dict[str, Draw]()
    lots = list[tuple[tuple[Made, ...], tuple[Average, ...]]]()
    some, means = list[Made](), dict[Average, None]()
    for each in made:
        own = taken(plan, [block for _, block in each.stored.blocks(plan.target)], known)
        matched |= dict.fromkeys(own.matched)
        drawn |= {draw.key: draw for draw in own.drawn if draw.key not in drawn}
        more = means | dict.fromkeys(own.means)
        if some and bytes_of(more) > limit:
            lots.append((tuple(some), tuple(means)))
            some, more = [], dict.fromkeys(own.means)
        some.append(each)
        means = more
    if some:
        lots.append((tuple(some), tuple(means)))
    return Course(tuple(matched), tuple(drawn.values()), tuple(lots))


def bytes_of(means: Iterable[Average]) -> int:
    """The bytes of means, which are kept along their dim."""
    return NUMBER * sum(prod(map(len, each.box)) // max(1, len(each.box[each.dim])) for each in means)


def sums_of(like: Block, plan: Plan, limit: int) -> list[Task[Box]]:
    """The boxes by which an old block is summed, and what each reads."""
    return [(box, ((like, box),)) for box in summed(like.shape(plan.source), limit, plan.std_of)]


def parts_of(average: Average, plan: Plan, limit: int) -> list[Task[Box]]:
    """The boxes by which a mean is made, and what each reads."""
    return [
        (part, tuple(needed_by_mean(plan, average, part)))
        for part in averaged(average.box, average.dim, limit)
    ]


def by_depth(means: Iterable[Average]) -> Iterator[tuple[Average, ...]]:
    """Means, those first that others may take: of blocks after fewer steps."""
    for _, found in groupby(sorted(means, key=_depth), key=_depth):
        yield tuple(found)


def _depth(average: Average) -> int:
    return average.steps


def bytes_of_sums(likes: Iterable[Block], plan: Plan, limit: int) -> int:
    """The bytes of the sums of old blocks, box by box."""
    count = _counter(plan, limit)
    return NUMBER * SUMS * sum(count(like.shape(plan.source)) for like in likes)


def sum_turns(likes: Iterable[Block], plan: Plan, limit: int) -> Iterator[int]:
    """Whose turn it is to sum the first box of each block, where several ranks could."""
    count = _counter(plan, limit)
    return _turns((like.slot, count(like.shape(plan.source))) for like in likes)


def _counter(plan: Plan, limit: int) -> Callable[[tuple[int, ...]], int]:
    """How many boxes an old block of a shape is summed by."""

    @cache
    def count(shape: tuple[int, ...]) -> int:
        return sum(1 for _ in summed(shape, limit, plan.std_of))

    return count


def mean_turns(means: Iterable[Average], limit: int) -> Iterator[int]:
    """The same for means."""

    @cache
    def count(box: Box, dim: int) -> int:
        return sum(1 for _ in averaged(box, dim, limit))

    return _turns((each.block.slot, count(each.box, each.dim)) for each in means)


def _turns(tasks: Iterable[tuple[str, int]]) -> Iterator[int]:
    """Blocks of few tasks take turns; those of many share them, in each layer alike."""
    slots: dict[str, int] = {}
    for i, (slot, count) in enumerate(tasks):
        own = slots.setdefault(slot, len(slots))
        yield i if count <= FEW else own


def dealt(tasks: Iterable[Task[Work]], held: Holdings, turn: int) -> Iterator[Unit[Work]]:
    """Tasks that any rank can do, each given to one of those that hold most of what it reads: to the one that
    was given fewest of them, and `turn` says who is first. What reads nothing the first rank does."""
    tasks, done = list(tasks), Counter[int]()
    for work, needs in tasks:
        able = held.most(needs) or (0,)
        first = turn * len(tasks) % len(able)
        rank = min((*able[first:], *able[:first]), key=done.__getitem__)
        done[rank] += 1
        yield Unit({rank: work}, {rank: needs})
