"""A small model that is already there: what the larger one costs from it, or from scratch.

What the small model has cost is spent, whatever is done next, so only the second stage is counted: from the
growth on, its decay included, until the larger model has the loss that its own tuned scratch run ends with.
The small model learned some bytes for each of its parameters; it is taken as its trunk was, or decayed, as a
model is released. The more it has learned, the more it may save, until what it carries is no longer what the
larger one lacks: the rows say where that is.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.training import family
from benchmarks.training.ceiling import Fit, led
from benchmarks.training.contestants import TUNED, Tuned, digest, plain
from benchmarks.training.family import NEAR, budget_of, likely, near
from benchmarks.training.models import held_loss
from benchmarks.training.reaching import first, spans
from benchmarks.training.rows import Row, Rows
from benchmarks.training.runs import Run, grow_run_
from benchmarks.training.saved import said
from benchmarks.training.scale import scale
from benchmarks.training.smalls import Second, small_of

STAGE = "sunk"
LARGE = "large"


@dataclass(frozen=True)
class Asked:
    """A second stage to the loss of a scratch run of the size `of`, the larger one, that learned `goal` bytes
    for each parameter. `near`: the share of that budget at which the search begins, until a seed has told."""

    second: Second
    goal: float
    near: float = NEAR
    of: str = LARGE


@dataclass(frozen=True)
class Course:
    """A second stage is decayed over `decay` of the goal's budget, at one of the `marks`, shares of it."""

    asked: tuple[Asked, ...]
    tuned: Tuned
    seeds: tuple[int, ...]
    marks: tuple[float, ...]
    decay: float | None = 0.2


@dataclass(frozen=True)
class Job:
    """A second stage on a seed, to the loss that `of` had there from scratch after `goal` bytes for each
    parameter.

    `near`: the mark at which the search begins, as its row tells.
    """

    second: Second
    tuned: Tuned
    goal: float
    decay: float | None
    marks: tuple[float, ...]
    seed: int
    target: float
    near: int
    of: str = LARGE

    @property
    def key(self) -> str:
        """What names its row: all that its numbers depend on, but for names."""
        second = dataclasses.replace(self.second, name="")
        own = (second, self.tuned, self.goal, self.decay, self.marks, self.seed, self.target)
        return digest(STAGE, *own) if second.size == self.of else digest(STAGE, *own, self.of)


STAY = "stay"
GROWN, STACKED, DEEPER = "grown, decayed", "stacked, moments carried, decayed", "grown in depth, decayed"
ALONE = "middle alone, decayed, learning on"
KINDS: dict[str, tuple[str, str, str, dict[str, Any]]] = {  # what each starts from, ends as, and its method
    GROWN: ("middle", LARGE, "grow", {}),
    STACKED: ("shallow", LARGE, "stack", {"carry": True}),
    DEEPER: ("shallow", LARGE, "grow", {}),  # from the model that is stacked
    ALONE: ("middle", "middle", STAY, {}),  # what could be had without a larger model at all
}
# Bytes that the small model learned for each of its parameters, the goal, the share to begin at, and the
# factor on the tuned rate, of each kind. Growth in depth was the worst at 14, and in screening at 50. At 100
# nothing was screened: the rate is the lowest of those at 50, where lower ones were better.
LEARNED: tuple[tuple[float, float, float, dict[str, float]], ...] = (
    (14.0, 10.0, NEAR, {GROWN: 0.7, STACKED: 1.0, DEEPER: 1.0, ALONE: 0.7}),
    (50.0, 10.0, 0.05, {GROWN: 0.4, STACKED: 0.4, ALONE: 0.4}),
    (50.0, 20.0, NEAR, {GROWN: 0.4, STACKED: 0.4, ALONE: 0.4}),
    (100.0, 20.0, 0.05, {GROWN: 0.25, ALONE: 0.25}),
)
FULL = Course(
    # What screening found for each kind (carrying.py): a rate that falls all the time, the lower the longer
    # the small model has learned, from one that was decayed, as those are that someone released.
    asked=tuple(
        Asked(Second(kind, start, size, learned, True, method, options, rate, rewarm=100), goal, near)
        for learned, goal, near, rates in LEARNED
        for kind, rate in rates.items()
        for start, size, method, options in (KINDS[kind],)
    ),
    tuned=TUNED,
    seeds=(1, 2, 3, 4, 5),
    marks=tuple(round(0.025 * i, 3) for i in range(1, 49)),
    decay=None,
)


def pending(course: Course, rows: Rows) -> Sequence[family.Job | Job]:
    """What is to be run next: the larger size from scratch, then what is to reach its losses.

    Small models that learned least come first, as they cost least. Of one kind second stages come in the
    order of their seeds: a search begins where it ended on the seeds before, and what runs side by side
    starts from several small models, so that none is made twice.
    """
    scratch = [
        (asked, seed, family.from_scratch(asked.of, course.tuned, asked.goal, seed))
        for asked in course.asked
        for seed in course.seeds
    ]
    lacking = {own.key: own for *_, own in scratch if own.key not in rows}
    jobs = [
        Job(
            asked.second,
            course.tuned,
            asked.goal,
            course.decay,
            course.marks,
            seed,
            rows[own.key]["losses"][0],
            searched(asked, course.marks, rows),
            asked.of,
        )
        for asked, seed, own in scratch
        if own.key in rows
    ]
    return [
        *lacking.values(),
        *sorted((job for job in jobs if job.key not in rows), key=lambda job: job.second.learned),
    ]


def searched(asked: Asked, marks: Sequence[float], rows: Rows) -> int:
    """The mark at which this second stage is likely to have its loss, by the seeds that were run."""
    second, goal = asked.second, asked.goal
    own = [
        row["share"]
        for row in rows.values()
        if row.get("found") and row["stage"] == STAGE
        if (row["name"], row["second"]["learned"], row["goal"]) == (second.name, second.learned, goal)
    ]
    return likely(marks, own) if own else near(marks, asked.near)


def made(job: family.Job | Job, cache: Path | None = None) -> dict[str, Any]:
    """The row of a job: of a second stage its operations, its share of the scratch run's budget, its loss,
    and that of the small model."""
    if isinstance(job, family.Job):
        return family.made(job)
    second, budget = job.second, budget_of(job.of, job.goal, job.tuned.matrices)
    run = small_of(second, job.tuned, job.seed, cache)
    sunk, small = run.spent, held_loss(run.model, scale().final_rows)
    grow_run_(run, run.contestant.growths[0])
    at_once = held_loss(run.model, scale().final_rows)
    if at_once <= job.target:  # nothing is left to learn
        ended = dict(operations=run.spent - sunk, share=0.0, losses=[at_once], found=True)
    else:
        ended = _searched(run, job, sunk, budget)
    return dict(
        key=job.key,
        stage=STAGE,
        name=second.name,
        seed=job.seed,
        second=dataclasses.asdict(second),
        tuned=plain(job.tuned),
        goal=job.goal,
        target=job.target,
        separate=budget,
        sunk=sunk,
        small=small,
        at_once=at_once,
        **ended,
    )


def _searched(run: Run, job: Job, sunk: int, budget: int) -> dict[str, Any]:
    """What a second stage came to, and what was tried; what a method spends in looking at data is of it."""
    found = first(run, spans(run.spent, job.marks, job.decay, budget), job.target, job.near)
    return dict(
        operations=found.after[1].spent - sunk - found.beyond,
        share=job.marks[found.mark] - found.beyond / budget,
        losses=[found.loss],
        found=found.loss <= job.target,
        near=job.marks[job.near],
        tried=[[job.marks[mark], loss] for mark, loss in sorted(found.tried.items())],
    )


def table(rows: Rows, fit: Fit | None = None) -> str:
    """Operations of the second stage that a small model saved, over seeds; by the law how many a whole carry
    would have saved, and what was had of them."""
    lines = [
        "| a small model | bytes it learned for each parameter | its loss | its cost, % of scratch's | to"
        " scratch's loss at | seeds | operations of the second stage saved, % | ceiling, % | carry |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    found: dict[tuple[str, float, float], list[Row]] = {}
    for row in rows.values():
        if row["stage"] == STAGE:
            found.setdefault((row["name"], row["second"]["learned"], row["goal"]), []).append(row)
    for (name, learned, goal), own in sorted(found.items(), key=lambda each: each[0][1:]):
        saved = [100 * (1 - row["operations"] / row["separate"]) for row in own]
        there, tops, carry = all(row["found"] for row in own), list[float](), ""
        if fit and own[0]["second"]["method"] != STAY:  # what stays as it is carries nothing over
            tops = [100 * led(fit, row["second"]["size"], row["small"], row["separate"]) for row in own]
            carry = said([mine / top for mine, top in zip(saved, tops, strict=True)], ".2f") if there else ""
        cells = [
            f"{name} | {learned:g} | {statistics.mean(row['small'] for row in own):.4f}",
            f"{100 * statistics.mean(row['sunk'] / row['separate'] for row in own):.0f}",
            f"{goal:g} | {len(own)}",
            said(saved, "+.1f")
            if there
            else f"{sum(row['found'] for row in own)} of {len(own)} seeds got there",
            f"{statistics.mean(tops):.0f}" if tops else "",
            carry,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
