"""Threads that do pieces of work in any order: numpy, torch and the system run in them side by side."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Semaphore, local
from typing import Protocol, TypeVar

T = TypeVar("T")

MOST = 4  # further ones wait for memory and disk

_worker = local()  # what a worker knows of its pool: `turns`


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool(Protocol):
    """`count` pieces of work are done at once; `submit` begins one."""

    @property
    def count(self) -> int: ...

    def submit(self, work: Callable[[], T]) -> Future[T]: ...


@dataclass(frozen=True)
class Threads:
    """Workers in threads of their own."""

    count: int
    executor: ThreadPoolExecutor

    def submit(self, work: Callable[[], T]) -> Future[T]:
        return self.executor.submit(work)


@dataclass(frozen=True)
class Alone:
    """No workers: a piece of work is done when it is handed in, by who does that."""

    count: int = 0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        done = Future[T]()
        done.set_result(work())
        return done


@contextmanager
def pool(alone: bool = False, beside: int = 1) -> Generator[Pool]:
    """As many workers as this process has cores, where as many processes share them; or the caller alone.
    None is left when the block ends."""
    count = min(MOST, cores() // beside)
    if alone or count < 2:
        yield Alone()
        return
    turns = Semaphore(count // 2)
    with ThreadPoolExecutor(count, initializer=_begin, initargs=(turns,)) as executor:
        yield Threads(count, executor)


@contextmanager
def computing() -> Generator[None]:
    """The block waits until fewer than half of the pool's workers compute, while the others write: threads
    that compute at once wait for the interpreter's lock after nearly every pass, and each such wait costs
    more than a pass. Who is no worker of a pool never waits: a user's function may grow another model
    meanwhile.
    """
    with getattr(_worker, "turns", None) or nullcontext():
        yield


def _begin(turns: Semaphore) -> None:
    _worker.turns = turns


def results(works: Iterable[Callable[[], T]], workers: Pool, ahead: int) -> Generator[T]:
    """What pieces of work give, in their order, while up to `ahead` further ones are done or wait. When it is
    at its end or closed, whatever happens, none of them goes on."""
    waiting = deque[Future[T]]()
    try:
        for work in works:
            waiting.append(workers.submit(work))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for each in waiting:
            each.cancel()
        wait(waiting)
