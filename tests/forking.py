"""Processes that tests start, each forked from one that has imported what they need and done nothing."""

from __future__ import annotations

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


def side_by_side(job: Callable[..., None], given: Iterable[tuple[Any, ...]], limit: float = 600) -> None:
    """Run a job in a process for each of its arguments, all at once; every one must end well."""
    jobs = [PROCESSES.Process(target=job, args=arguments) for arguments in given]
    for each in jobs:
        each.start()
    for each in jobs:
        each.join(limit)
    ended = [each.exitcode for each in jobs]
    for each in jobs:
        each.kill()
    assert ended == [0] * len(jobs)
