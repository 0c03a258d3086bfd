"""Runs of both models abreast: which model, on whose weights, in which precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from isogrow.verification.float64 import widening
from isogrow.verification.runs import Outputs, still
from isogrow.verification.streaming.convoy import Load, Passing, abreast
from isogrow.verification.streaming.gaps import CURRENT, Gaps, watched
from isogrow.verification.streaming.lending import lent


@dataclass(frozen=True)
class Task:
    """Work with a model that has its weights from one of the sources; `wide`: all of it in float64. `told`
    has the names of its layers, each with that by which it is told."""

    model: nn.Module
    source: str
    work: Callable[[nn.Module], Outputs | Exception]
    told: Mapping[str, str]
    wide: bool = True


def outputs_of(jobs: Mapping[str, Task], sources: Mapping[str, Load], gaps: Gaps) -> dict[str, Any]:
    """What each job returns, by its name; all go through their layers side by side, told to `gaps`."""
    with ExitStack() as stack:
        for model, told in _models(jobs.values()):
            stack.enter_context(still(model))
            stack.enter_context(watched(model, told, gaps))
        wide = {name for name, job in jobs.items() if job.wide}
        return abreast({name: partial(_done, job) for name, job in jobs.items()}, sources, wide)


def _models(jobs: Iterable[Task]) -> list[tuple[nn.Module, Mapping[str, str]]]:
    return list({id(job.model): (job.model, job.told) for job in jobs}.values())


def _done(job: Task, run: Passing) -> Outputs | Exception:
    """One job, in a thread of its own: modes and gradients are a thread's."""
    CURRENT.run = run
    with widening() if job.wide else nullcontext(), lent(job.model, partial(run.fetch, job.source)):
        return job.work(job.model)
