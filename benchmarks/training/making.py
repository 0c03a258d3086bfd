"""Make the rows that are lacking, several side by side, resumed at any time."""

from __future__ import annotations

import fcntl
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.training.rows import Rows, add_, read, trim_
from benchmarks.training.scale import SCALES
from benchmarks.training.working import settle

Lacking, Work = Callable[[Rows], Sequence[Any]], Callable[..., dict[str, Any]]


def run_all(
    path: Path,
    lacking: Lacking,
    work: Work,
    at: str = "core",
    until: float = math.inf,
) -> None:
    """Make the rows that are lacking by what is there, until none is: a line for each, as it is done.

    What is lacking is asked whenever a process is free, so that a search begins by all rows that are there.
    Nothing is begun after `until`, in seconds of the monotonic clock.
    """
    with path.open("a") as rows:
        try:
            fcntl.flock(rows, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f"another process makes rows in {path}: wait for it, or name other --rows"
            ) from None
        trim_(path)
        with ProcessPoolExecutor(
            SCALES[at].side_by_side, get_context("spawn"), initializer=settle, initargs=(at,)
        ) as pool:
            try:
                _work(pool, SCALES[at].side_by_side, path, lacking, work, until)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what waits would be run for nothing
                raise


def _work(
    pool: ProcessPoolExecutor,
    workers: int,
    path: Path,
    lacking: Lacking,
    work: Work,
    until: float,
) -> None:
    running: dict[Future[dict[str, Any]], str] = {}
    while True:
        jobs = [job for job in lacking(read(path)) if job.key not in running.values()]
        for job in jobs[: workers - len(running)] if time.monotonic() < until else ():
            running[pool.submit(work, job)] = job.key
        if not running:
            return
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            del running[done]
            add_(path, done.result())
