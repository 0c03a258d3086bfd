"""What raises the carry: second stages of one length from the same small model, screened by their losses.

A second stage is as in `sunk.py`, but ends where `share` of the larger size's scratch budget is spent, with a
decay as scratch was tuned for. From scratch is such a stage, too: of a model that has learned nothing.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.training.ceiling import Fit, seen
from benchmarks.training.contestants import TUNED, Tuned, digest, plain
from benchmarks.training.family import budget_of
from benchmarks.training.models import held_loss
from benchmarks.training.optimizing import MUON
from benchmarks.training.rows import Row, Rows
from benchmarks.training.runs import finished, grow_run_
from benchmarks.training.scale import scale
from benchmarks.training.smalls import Second, small_of

STAGE = "carry"


@dataclass(frozen=True)
class Job:
    """A second stage on a seed: `goal` bytes for each parameter are the budget that `share` is of.

    `decay`: the share of the second stage over which it is decayed, where it is not the tuned one.
    """

    second: Second
    tuned: Tuned
    goal: float
    share: float
    seed: int
    decay: float | None = None

    @property
    def key(self) -> str:
        """What names its row: all that its numbers depend on, but for names."""
        second = dataclasses.replace(self.second, name="")
        own = (STAGE, second, self.tuned, self.goal, self.share, self.seed)
        return digest(*own) if self.decay is None else digest(*own, self.decay)


@dataclass(frozen=True)
class Course:
    """Second stages, each on every seed; those of `whole` are decayed from their beginning to their end."""

    seconds: tuple[Second, ...]
    whole: tuple[Second, ...]
    share: float
    seeds: tuple[int, ...]
    tuned: Tuned = TUNED
    goal: float = 14.0


def scratch(rate: float, size: str = "large") -> Second:
    """A model that has learned nothing, at this factor on the tuned rate."""
    name = f"scratch, {rate:g} x the rate"
    return Second(name, size, size, 0.0, method="stay", rate=rate, rewarm=100)


def grown(
    name: str, rate: float, start: str = "middle", size: str = "large", learned: float = 11.2, **other: Any
) -> Second:
    """A stage after a growth."""
    return Second(f"{name}, {rate:g} x the rate", start, size, learned, rate=rate, **other)


def released(name: str, rate: float, start: str = "middle", **other: Any) -> Second:
    """The same after a decay."""
    return grown(f"{name}, decayed", rate, start, learned=14.0, decayed=True, rewarm=100, **other)


def by_muon(second: Second) -> Second:
    """The same, by the name of one whose matrices Muon trains."""
    return dataclasses.replace(second, name=f"{second.name}, by Muon")


def decaying(second: Second, decay: float) -> Second:
    """The same, by the name of one with this weight decay from its small model's first step on."""
    return dataclasses.replace(second, name=f"{second.name}, weight decay {decay:g}")


def falling(second: Second) -> Second:
    """The same, by the name of one whose rate falls all the time."""
    return dataclasses.replace(second, name=f"{second.name}, falling from the beginning")


STACKED = "stacked, moments carried"
STACK: Mapping[str, Any] = {"method": "stack", "options": {"carry": True}}
SHRUNK = {"std": 0.05, "share": 0.4}


def kinds(rate: float) -> tuple[Second, ...]:
    """From a model that was decayed, in the ways that second stages are measured in (sunk.py)."""
    return (
        released("grown", rate),
        released(STACKED, rate, "shallow", **STACK),
        released("grown in depth", rate, "shallow"),
    )


COPY = {"init": "copy"}  # new layers are copies but for what writes the residual, which is zero
BETWEEN = {**COPY, "layers_at": "even"}
TAUGHT = {"taught": True}
WHOLE = 1.0
# What new entries start with, beside a model that goes on: each from the same trunk.
STARTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("new entries from 2 x", {"ramp": 4000, "ramp_from": 2.0}),
    ("new entries warmed up alone", {"ramp": 400}),
    ("new entries without moments", {"moments": "zero"}),
)
LAST = Course(
    seconds=(
        *(scratch(rate) for rate in (1.0, 0.7)),
        *(grown("grown", rate) for rate in (1.0, 0.7, 0.5)),
    ),
    whole=tuple(
        falling(made)
        for made in (
            scratch(1.0),
            grown("grown", 1.0),
            *kinds(0.7),
            *kinds(1.0),
            released("grown, new entries not decayed", 0.7, options={"new_decay": 0.0}),
            released("grown, new entries decayed 4 x", 0.7, options={"new_decay": 4.0}),
            *(grown(f"grown, {name}", 1.0, options={"policy": policy}) for name, policy in STARTS),
            released("shrunk, padded, perturbed", 0.7, method="shrink", options=SHRUNK),
            *(released("grown in depth, copies", rate, "shallow", options=COPY) for rate in (0.7, 1.0)),
            released("grown in depth, copies between", 1.0, "shallow", options=BETWEEN),
            released("grown in depth, before the last", 1.0, "shallow", options={"layers_at": (1, 1)}),
            released("grown in depth", 2.0, "shallow"),
            released("grown, copies", 1.0, options=COPY),
        )
    ),
    share=0.65,
    seeds=(100,),
)
# The first steps of the family's chains, and of the one that is cut; and its sizes from scratch.
FIRST = Course(
    seconds=(),
    whole=tuple(
        falling(made)
        for rate in (0.7, 1.0, 1.4, 2.0)
        for made in (
            released("grown", rate, "small", size="middle"),
            released("grown in depth", rate, "flat", size="shallow"),
            released(STACKED, rate, "flat", size="shallow", **STACK),
        )
    ),
    share=0.75,
    seeds=(100,),
)
CUT = Course(
    seconds=(),
    whole=tuple(
        falling(released("pruned, taught", rate, "large", size="middle", method="prune", options=TAUGHT))
        for rate in (0.7, 1.0, 1.4, 2.0)
    ),
    share=0.25,
    seeds=(100,),
)
ALONE = Course(
    seconds=tuple(
        scratch(rate, size) for size in ("small", "flat", "middle", "shallow") for rate in (1.0, 1.4, 2.0)
    ),
    whole=(),
    share=1.0,
    seeds=(100,),
)
# Matrices of layers by Muon, of scratch as of what grows: each has the same bytes as with AdamW.
MUONS = tuple(
    Course(
        seconds=tuple(by_muon(scratch(rate)) for rate in rates),
        whole=tuple(by_muon(falling(released("grown", rate))) for rate in again),
        share=share,
        seeds=(100,),
        tuned=dataclasses.replace(TUNED, matrices=MUON),
    )
    for share, rates, again in ((0.2, (1.0, 2.0), ()), (0.65, (1.0,), (0.7, 1.0)))
)
# Less weight decay for all entries, of scratch as of what grows: new ones alone gained by none at all.
DECAYS = tuple(
    Course(
        seconds=(),
        whole=tuple(decaying(falling(second), decay) for second in (scratch(1.0), *kinds(0.7)[:many])),
        share=0.65,
        seeds=(100,),
        tuned=dataclasses.replace(TUNED, weight_decay=decay),
    )
    for decay, many in ((0.0, 2), (0.03, 1))
)
# Std and rate of matrices by width (arXiv 2602.10545), from the rate that was tuned.
WIDTHS = Course(
    seconds=(),
    whole=(falling(released("grown, by width", 1.0, options={"by_width": True})),),
    share=0.65,
    seeds=(100,),
)
# Every width doubled by copies whose own moments are new, as SPARKLING resets them (arXiv 2602.02472).
COPIES = Course(
    seconds=(),
    whole=tuple(
        falling(released(name, 0.7, "narrow", **other))
        for name, other in (
            ("grown in width", {}),
            ("tiled, moments carried", {"method": "double", "options": {"carry": True}}),
            ("tiled, moments of copies new", {"method": "double", "options": {"carry": True, "fresh": True}}),
        )
    ),
    share=0.65,
    seeds=(100,),
)
# One layer for four fifths of all bytes (arXiv 2511.04981): of the bytes of scratch, and of as many as have
# its operations, 7/3 of them. A byte costs one layer 2/7 of what it costs four.
ONE_LAYER = tuple(
    Course(
        seconds=(scratch(1.0),) if share == 1.0 else (),
        whole=tuple(
            falling(grown(f"from one layer at 80 %, {name}", 1.0, "flat", learned=learned, **other))
            for name, other in (("grown", {}), ("stacked", STACK))
            if learned
        ),
        share=share,
        seeds=(100,),
    )
    for learned, share in ((0.0, 1.0), (44.8, 0.2), (104.5, 0.467))
)
# From a model that has learned long, on half of 10 or 20 bytes for each parameter: one rate, and those of old
# and of new entries apart.
APART = tuple(
    dataclasses.replace(released("grown", 1.0, options={"policy": rates}), name=name)
    for name, rates in (
        ("grown, decayed, 1 x the rate, old entries at 0.4 of it", {"old_rate": 0.4, "new_rate": 1.0}),
        ("grown, decayed, 1 x the rate, old entries at 0.4, new at 2", {"old_rate": 0.4, "new_rate": 2.0}),
    )
)
LONG = tuple(
    Course(
        seconds=(),
        whole=tuple(falling(dataclasses.replace(second, learned=50.0)) for second in seconds),
        share=0.5,
        seeds=(100,),
        goal=goal,
    )
    for goal, seconds in (
        (10.0, (*(released("grown", rate) for rate in (0.25, 0.4, 0.7, 1.0, 1.4)), *APART)),
        (20.0, tuple(each for rate in (0.25, 0.4, 0.6) for each in kinds(rate))),
    )
)
# A model that stays as it is, and learns on.
ONWARD = Course(
    seconds=(),
    whole=tuple(
        falling(released("alone", rate, "middle", size="middle", method="stay"))
        for rate in (0.5, 0.7, 1.0, 1.4)
    ),
    share=1.5,
    seeds=(100,),
)
COURSES = (ONWARD, *LONG, LAST, *DECAYS, WIDTHS, COPIES, *ONE_LAYER, CUT, FIRST, ALONE, *MUONS)


def pending(courses: Sequence[Course], rows: Rows) -> list[Job]:
    """What is to be run next."""
    jobs = [
        Job(second, course.tuned, course.goal, course.share, seed, decay)
        for course in courses
        for seed in course.seeds
        for seconds, decay in ((course.whole, WHOLE), (course.seconds, None))
        for second in seconds
    ]
    return [job for job in jobs if job.key not in rows]


def made(job: Job, cache: Path | None = None) -> dict[str, Any]:
    """The row of a job: the loss at the end of its second stage."""
    run = small_of(job.second, job.tuned, job.seed, cache)
    sunk, small = run.spent, held_loss(run.model, scale().final_rows)
    grow_run_(run, run.contestant.growths[0])
    looked = run.spent - sunk
    if job.decay is not None:
        run.tuned = dataclasses.replace(job.tuned, decay=job.decay)
    loss = finished(run, job.share * budget_of(job.second.size, job.goal, job.tuned.matrices) - looked)
    return dict(
        key=job.key,
        stage=STAGE,
        name=job.second.name,
        second=dataclasses.asdict(job.second),
        tuned=plain(job.tuned),
        goal=job.goal,
        share=job.share,
        seed=job.seed,
        small=small,
        losses=[loss],
    )


def table(rows: Rows, fit: Fit | None = None) -> str:
    """Losses at the end of the second stage, by the size and the share that it ends with; the best mean over
    most seeds first. By the law what is saved of the budget, against scratch at the tuned rate."""
    found: dict[tuple[str, float, float, str], dict[int, Row]] = {}
    for row in rows.values():
        if row["stage"] == STAGE:
            stage = row["second"]["size"], row["goal"], row["share"], row["name"]
            found.setdefault(stage, {})[row["seed"]] = row
    seeds = sorted({seed for own in found.values() for seed in own})
    told_of = ("to", "share", "of bytes", "second stage", *(f"seed {n}" for n in seeds), "mean", "saved, %")
    lines = [f"| {' | '.join(told_of)} |", "|---" * len(told_of) + "|"]
    means = {stage: statistics.mean(row["losses"][0] for row in own.values()) for stage, own in found.items()}
    for stage, own in sorted(found.items(), key=lambda item: (*item[0][:3], -len(item[1]), means[item[0]])):
        cells = " | ".join(f"{own[seed]['losses'][0]:.4f}" if seed in own else "" for seed in seeds)
        size, goal, share, name = stage
        scratch_of = found.get((size, goal, share, scratch(1.0).name), {})
        off = [
            100 * saved(fit, row, scratch_of[seed])
            for seed, row in own.items()
            if fit and seed in scratch_of and row["tuned"] == plain(TUNED)  # as the runs of the law are
        ]
        told = f"{statistics.mean(off):+.0f}" if off and scratch_of is not own else ""
        lines.append(f"| {size} | {share:g} | {goal:g} | {name} | {cells} | {means[stage]:.4f} | {told} |")
    return "\n".join(lines)


def saved(fit: Fit, row: Row, other: Row) -> float:
    """The share of the budget that scratch would have needed longer, or less if negative, for this loss."""
    size, share = seen(row["second"]["size"]), row["share"]
    tokens = row["goal"] * size.parameters
    there = fit.law.loss(size.parameters, share * tokens) + row["losses"][0] - other["losses"][0]
    return fit.law.tokens(size.parameters, there) / tokens - share
