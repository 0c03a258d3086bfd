"""The one place where numbers go from rank to rank: an all-to-all of bytes for each round of a growth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, distributed

from isogrow.interpreters.sharded.ranks import Fault, Ranks, kept
from isogrow.numbers.arithmetic import blocked
from isogrow.numbers.filling import Read
from isogrow.numbers.joining import joined
from isogrow.plans.boxes import counted_from, slices
from isogrow.plans.moving import Holdings, Move, Part, Round, Unit, rounds
from isogrow.plans.pieces import Block, Box

ROUND = 1 << 23  # bytes that a rank takes at a time
Work = TypeVar("Work")
Found = Sequence[tuple[Box, Tensor]]


@dataclass
class Count:
    """What a growth cost this rank: exchanges, bytes given and taken, the most that it held for one, the
    bytes of old numbers that it read, its own and those that it was given, and of sums and means, which are
    put together on all ranks."""

    exchanges: int = 0
    sent: int = 0
    received: int = 0
    most: int = 0
    read: int = 0
    totals: int = 0


@dataclass(frozen=True)
class Exchange:
    """Old tensors of one kind (a model's, or a moment of each), of which every rank has its part.

    `local` is this rank's part of each by the name under which it is stored, `dtypes` are those of all.
    """

    ranks: Ranks
    held: Holdings
    local: Mapping[str, Tensor]
    count: Count
    fault: Fault = field(default_factory=Fault)

    @property
    def widths(self) -> dict[str, int]:
        """The bytes of an entry of each."""
        return {name: x.element_size() for name, x in self.local.items()}

    def carry_out(self, units: Iterable[Unit[Work]], do: Callable[[Work, Read], None]) -> None:
        """Do this rank's part of the units, round by round, with what it needs read from it or from others.

        What goes wrong is noted in `fault`: the other ranks count on this one's part of each exchange.
        """
        for each in rounds(units, self.held, self.widths, ROUND):
            self._carry_out(each, do)  # and what was given for it is gone before the next

    def _carry_out(self, some: Round[Work], do: Callable[[Work, Read], None]) -> None:
        read = self._reader(self._exchanged(some.moves) if some.moves else {})
        for unit in some.units:
            if self.ranks.me in unit.work and self.fault.error is None:
                with kept(self.fault), torch.no_grad():
                    do(unit.work[self.ranks.me], read)

    def _reader(self, taken: Mapping[Block, Found]) -> Read:
        """Reads boxes that this rank holds or was given."""

        def read(block: Block, box: Box) -> Tensor:
            near = self.held.parts(block).near(box)
            own = ((part.box, self._seen(part)) for part, _ in near if self.ranks.me in part.ranks)
            found, left = joined(box, [*own, *taken.get(block, ())])
            assert left <= 0, f"{box} lacks {left} entries"  # what is given may overlap
            self.count.read += found.numel() * found.element_size()
            return found

        return read

    def _exchanged(self, moves: Sequence[Move]) -> Mapping[Block, Found]:
        """What this rank is given."""
        given = sorted((move for move in moves if move.giver == self.ranks.me), key=lambda move: move.taker)
        taken = sorted((move for move in moves if move.taker == self.ranks.me), key=lambda move: move.giver)
        sent, received = (self._sizes(each) for each in (given, taken))
        home = next(iter(self.local.values())).device
        out = torch.empty(sum(sent), dtype=torch.uint8, device=self.ranks.device(home))
        at = 0
        for move, size in zip(given, sent, strict=True):
            out[at : at + size].copy_(_bytes(self._of(move)))
            at += size
        into = torch.empty(sum(received), dtype=torch.uint8, device=out.device)
        takers, givers = [move.taker for move in given], [move.giver for move in taken]
        splits = self._by_rank(givers, received), self._by_rank(takers, sent)
        distributed.all_to_all_single(into, out, *splits)
        self._note(out.numel(), into.numel())
        return self._unpacked(taken, received, into.to(home))

    def _of(self, move: Move) -> Tensor:
        return self._seen(move.part)[slices(counted_from(move.part.box, move.box))]

    def _seen(self, part: Part) -> Tensor:
        return blocked(self.local[part.source][slices(part.place)], part.view)

    def _sizes(self, moves: Sequence[Move]) -> list[int]:
        return [move.count * self.local[move.part.source].element_size() for move in moves]

    def _by_rank(self, ranks: Iterable[int], sizes: Sequence[int]) -> list[int]:
        found = [0] * self.ranks.world
        for rank, size in zip(ranks, sizes, strict=True):
            found[rank] += size
        return found

    def _unpacked(self, taken: Sequence[Move], sizes: Sequence[int], into: Tensor) -> Mapping[Block, Found]:
        found, at = defaultdict[Block, list[tuple[Box, Tensor]]](list), 0
        for move, size in zip(taken, sizes, strict=True):
            flat, width = into[at : at + size], self.local[move.part.source].element_size()
            aligned = flat if at % width == 0 else flat.clone()
            x = aligned.view(self.local[move.part.source].dtype).view([len(r) for r in move.box])
            found[move.part.block].append((move.box, x))
            at += size
        return found

    def _note(self, sent: int, received: int) -> None:
        self.count.exchanges += 1
        self.count.sent += sent
        self.count.received += received
        self.count.most = max(self.count.most, sent + received)


def _bytes(x: Tensor) -> Tensor:
    return x.reshape(-1).contiguous().view(torch.uint8)
