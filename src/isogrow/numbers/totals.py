"""The sum of many numbers and that of their squares, as one tree of elementwise sums, in bounded memory.

The tree adds the second half of the numbers to the first, until one is left. After some halvings a position
holds the sum of a few numbers far apart; so where the numbers are many, positions are made some at a time,
each from its own numbers, and the sums of both ways have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from threading import local

import torch
from torch import Tensor

from isogrow.numbers.arithmetic import tree_total_
from isogrow.plans.boxes import slices
from isogrow.plans.pieces import Box

AT_ONCE = 1 << 18  # numbers that are held at a time
POSITIONS = 1 << 16  # that are made at a time where there are more numbers
_OWN = local()

Sums = tuple[float, float]  # of entries, of their squares
Entries = Callable[[Box], Tensor]


def sums(x: Tensor) -> Sums:
    """The sum of a tensor's entries and that of their squares, in float64.

    >>> sums(torch.tensor([1.0, 2.0, 3.0]))
    (6.0, 14.0)
    """
    return sums_of(tuple(x.shape), lambda box: x[slices(box)])


def sums_of(shape: tuple[int, ...], entries: Entries) -> Sums:
    """The same of what is asked for box by box; of more than `AT_ONCE` a part at a time is here."""
    left = _halved(prod(shape))
    part, squares = (kept[: left[-1]] for kept in _scratch())
    at_once = POSITIONS if len(left) > 1 else AT_ONCE
    for start in range(0, left[-1], at_once):
        stop = min(start + at_once, left[-1])
        _fold_(part[start:stop], squares[start:stop], shape, entries, left, start)
    return tree_total_(part), tree_total_(squares)


def _halved(count: int) -> list[int]:
    """How many positions there are, before and after each halving, until few enough are left.

    >>> _halved(5), _halved(2 * AT_ONCE + 1)
    ([5], [524289, 262145, 131073])
    """
    found = [count]
    while found[-1] > AT_ONCE:
        found.append((found[-1] + 1) // 2)
    return found


def _fold_(
    part: Tensor, squares: Tensor, shape: tuple[int, ...], entries: Entries, left: list[int], start: int
) -> None:
    """What stands from `start` on after all these halvings, and the same of the squares."""
    if len(left) == 1:
        _read_(part, shape, entries, start)
        torch.mul(part, part, out=squares)
        return
    _fold_(part, squares, shape, entries, left[:-1], start)
    further = min(start + len(part), left[-2] - left[-1]) - start
    if further > 0:
        more, squared = (torch.empty(further, dtype=torch.float64) for _ in range(2))
        _fold_(more, squared, shape, entries, left[:-1], start + left[-1])
        part[:further] += more
        squares[:further] += squared


def _read_(out: Tensor, shape: tuple[int, ...], entries: Entries, start: int) -> None:
    """The entries from `start` on, counted in logical order."""
    done = 0
    for box in _runs(shape, start, start + len(out)):
        run = entries(box)
        out[done : done + run.numel()].view(run.shape).copy_(run)
        done += run.numel()


def _runs(shape: tuple[int, ...], start: int, stop: int) -> Iterator[Box]:
    """Boxes that hold the entries from `start` to `stop`, counted in logical order.

    >>> list(_runs((3, 4), 2, 9))
    [(range(0, 1), range(2, 4)), (range(1, 2), range(0, 4)), (range(2, 3), range(0, 1))]
    """
    if len(shape) < 2:
        yield (range(start, stop),) if shape else ()
        return
    row = prod(shape[1:])
    while start < stop:
        at, first = divmod(start, row)
        if first or stop - start < row:
            last = min(row, first + stop - start)
            yield from ((range(at, at + 1), *inner) for inner in _runs(shape[1:], first, last))
            start += last - first
        else:
            rows = (stop - start) // row
            yield (range(at, at + rows), *map(range, shape[1:]))
            start += rows * row


def _scratch() -> tuple[Tensor, Tensor]:
    """Two arrays of this thread, kept from one sum to the next: made anew for each, they would scatter its
    memory."""
    kept: tuple[Tensor, Tensor] | None = getattr(_OWN, "kept", None)
    if kept is None or len(kept[0]) < AT_ONCE:
        kept = torch.empty(AT_ONCE, dtype=torch.float64), torch.empty(AT_ONCE, dtype=torch.float64)
        _OWN.kept = kept
    return kept
