"""Processes that tests start, each forked from one that has imported what they need and done nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from typing import Any

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "uncollected",  # first
        "isogrow.cli.training",
        "transformers.models.llama.modeling_llama",
        "transformers.trainer",
        "benchmarks.training.working",
    ]
)


def ended(job: Callable[..., None], given: list[tuple[Any, ...]], limit: float = 200) -> list[int | None]:
    """How processes of a job end, one for each of its arguments; what has not ended by then is killed."""
    jobs = [PROCESSES.Process(target=job, args=each) for each in given]
    for each in jobs:
        each.start()
    end = time.monotonic() + limit
    for each in jobs:
        each.join(max(0.0, end - time.monotonic()))
    codes = [each.exitcode for each in jobs]
    for each in jobs:
        each.kill()
    return codes


def side_by_side(job: Callable[..., None], given: Iterable[tuple[Any, ...]], limit: float = 600) -> None:
    """Run a job in a process for each of its arguments, all at once; every one must end well."""
    each = list(given)
    assert ended(job, each, limit) == [0] * len(each)
