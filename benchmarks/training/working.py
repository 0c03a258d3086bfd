"""What a worker process does: one run at a time, on one thread."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.contestants import plain
from benchmarks.training.runs import measure
from benchmarks.training.scale import SCALES, choose
from benchmarks.training.stages import Job

RECOMPILED = 64  # what is compiled for sizes, shapes and modes is kept


def settle(name: str = "core") -> None:
    """Begin as a process that makes rows at this scale."""
    choose(SCALES[name])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch._dynamo.config.recompile_limit = RECOMPILED  # pyright: ignore


def made(job: Job, cache: Path) -> dict[str, Any]:
    """The row of a job."""
    found = measure(job.contestant, job.tuned, job.seed, job.steps, cache, job.to_reach, job.earlier)
    return dict(
        key=job.key,
        stage=job.stage,
        name=job.contestant.name,
        contestant=dataclasses.asdict(job.contestant),
        tuned=plain(job.tuned),
        seed=job.seed,
        budget=job.steps,
        **found,
    )
