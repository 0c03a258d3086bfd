"""Ranks of a job that do one thing together, write a checkpoint or train: found where there are some, and
told when one fails.

They meet by torch.distributed, in a group of their own that waits long: one rank may be at work, or prove the
output, for hours. That a rank has ended is known at once all the same, since its connections are closed then.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from isogrow.errors import RankLost, StateError
from isogrow.stores.writers import ONE, Writers

if TYPE_CHECKING:
    from isogrow.interpreters.sharded.ranks import Ranks

T = TypeVar("T")

# What torchrun sets.
SET = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LATE = timedelta(minutes=5)  # until all have come
WAIT = timedelta(days=7)  # until the last has done its share
INSIDE = 1 << 30  # the level of who has ended no region


@dataclass(frozen=True)
class Purpose:
    """What ranks meet for: in words, what is to be done where not all come and where one is lost, and whether
    they make steps in the default group."""

    what: str
    absent: str
    lost: str
    steps: bool = False


GROWING = Purpose(
    "grow the checkpoint",
    "call it on every rank, or give alone=True on one",
    "the checkpoint was written: run again, with --resume (resume=True) to go on where it stopped",
)
TRAINING = Purpose(
    "train",
    "call it on every rank",
    "the run had come to its end: run again, which goes on from the last checkpoint",
    steps=True,
)
_CURRENT: ContextVar[Meeting | None] = ContextVar("_CURRENT", default=None)


def several() -> bool:
    """Whether this process is one of several of a job; nothing is loaded to find out.

    >>> several()
    False
    """
    loaded: Any = sys.modules.get("torch.distributed")
    if loaded is not None and loaded.is_available() and loaded.is_initialized():
        return loaded.get_world_size() > 1
    return all(name in os.environ for name in SET) and os.environ["WORLD_SIZE"] != "1"


@contextmanager
def gathered(alone: bool = False, purpose: Purpose = GROWING) -> Generator[None]:
    """All ranks of the job, if it has several (or `alone`: this one does not ask); none leaves before all do.

    Raises `RankLost` where not all come.
    """
    if alone or _CURRENT.get() is not None or not several():
        yield
        return
    with _ranks(purpose) as ranks:
        meeting = Meeting(ranks, int(os.environ.get("LOCAL_WORLD_SIZE", ranks.world)), purpose)
        token = _CURRENT.set(meeting)
        try:
            yield
        except Exception:
            meeting.leave()
            raise
        else:
            meeting.leave()
        finally:
            _CURRENT.reset(token)


@contextmanager
def together(alone: bool = False, purpose: Purpose = GROWING) -> Generator[Writers]:
    """What ranks do together: it ends on all of them well, or on all with the same error."""
    with gathered(alone, purpose):
        meeting = None if alone else _CURRENT.get()
        if meeting is None:
            yield ONE
            return
        with meeting.region():
            yield meeting


@contextmanager
def _ranks(purpose: Purpose) -> Generator[Ranks]:
    """All ranks, in a group of this job's default group, which is made if there is none."""
    from torch import distributed

    from isogrow.interpreters.sharded.ranks import Ranks

    own = not distributed.is_initialized()
    try:
        if own:
            _start(purpose)
        early: Any = distributed.new_group(backend="gloo", timeout=LATE)  # all are here when it is made
        group: Any = distributed.new_group(backend="gloo", timeout=WAIT)
    except RuntimeError as error:
        raise RankLost(
            f"this process is one of several of a job, and not all of them have come to {purpose.what}"
            f" ({str(error).splitlines()[0]:.120}): {purpose.absent}"
        ) from error
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), group)
    finally:
        for each in [None] if own else [group, early]:
            distributed.destroy_process_group(each)


def _start(purpose: Purpose) -> None:
    """Make the default group: for numbers of the CPU's memory alone, or for those of steps."""
    import torch
    from torch import distributed

    where = torch.accelerator.current_accelerator(check_available=True) if purpose.steps else None
    if where is None:
        distributed.init_process_group("gloo", timeout=None if purpose.steps else LATE)
        return
    sent = distributed.get_default_backend_for_device(where)
    distributed.init_process_group(f"cpu:gloo,{where.type}:{sent}")


@dataclass
class Meeting:
    """The writers of a job. Law: every rank takes part in each round, at whatever it is; who has failed goes
    on to say so until all have ended what they do together, at the same or an outer level."""

    ranks: Ranks
    beside: int
    purpose: Purpose = GROWING
    level: int = 0
    lost: bool = False

    @property
    def me(self) -> int:
        return self.ranks.me

    @property
    def world(self) -> int:
        return self.ranks.world

    def meet(self, said: T) -> list[T]:
        found = self._round(INSIDE, None, said)
        error = next((each.error for each in found if each.error is not None), None)
        if error is not None:
            raise unpacked(error)
        if any(each.level != INSIDE for each in found):
            raise self._gone()
        return [each.said for each in found]

    @contextmanager
    def region(self) -> Generator[None]:
        """What all ranks do; each ends it when all do, without an error or with the same one."""
        self.level += 1
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        except BaseException:  # it is being ended: nobody waits for what it would say
            self.lost = True
            raise
        finally:
            self.level -= 1
        self._end(self.level + 1, error)

    def leave(self) -> None:
        """Wait until all leave. Whoever is lost is not waited for."""
        if not self.lost:
            with suppress(RankLost):
                self._end(0, None)

    def _end(self, level: int, error: Exception | None) -> None:
        if self.lost:
            raise error or self._gone()
        mine = None if error is None else packed(error, self.me)
        found = self._round(level, mine, None)
        while any(each.level > level for each in found):
            found = self._round(level, mine, None)
        rank, first = next(((r, each.error) for r, each in enumerate(found) if each.error), (-1, None))
        if first is not None:
            if error is not None and rank == self.me:
                raise error
            raise unpacked(first) from error
        if any(each.level < level for each in found):
            raise self._gone()

    def _round(self, level: int, error: bytes | None, said: Any) -> list[_Said]:
        try:
            return self.ranks.gathered(_Said(level, error, said))
        except RuntimeError as raised:
            raise self._gone() from raised

    def _gone(self) -> RankLost:
        self.lost = True
        return RankLost(f"another rank of the job has ended before {self.purpose.lost}")


@dataclass(frozen=True)
class _Said:
    """What a rank says in a round: the level of the region that it has ended (or INSIDE), its error if it has
    failed, and what it was asked."""

    level: int
    error: bytes | None
    said: Any


def packed(error: Exception, rank: int) -> bytes:
    """An error for other ranks: itself, if it can be sent, else what it says."""
    try:
        made = pickle.dumps(error)
        pickle.loads(made)
    except Exception:
        return pickle.dumps(StateError(f"rank {rank} failed: {type(error).__name__}: {error}"))
    return made


def unpacked(error: bytes) -> Exception:
    """What `packed` made of an error."""
    made: Exception = pickle.loads(error)
    return made
