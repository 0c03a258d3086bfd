"""What is run, in which order: scratch is tuned, the many are screened by successive halving, the best few
and the rivals are measured on seeds that neither has seen. All of it follows from the rows that are there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from benchmarks.training.contestants import (
    ALONE,
    BASE,
    GROWN,
    LOWERED,
    RIVALS,
    SCRATCH,
    TUNED,
    Contestant,
    Tuned,
    digest,
    plain,
)
from benchmarks.training.rows import Rows


@dataclass(frozen=True)
class Job:
    """One run to make."""

    stage: str
    contestant: Contestant
    tuned: Tuned
    seed: int
    steps: int
    to_reach: float | None = None
    earlier: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """What names its row: all that its numbers depend on, so a contestant may be given another name."""
        done = dataclasses.replace(self.contestant, name="", kind="")
        return digest(self.stage, done, self.tuned, self.seed, self.steps)


@dataclass(frozen=True)
class Course:
    """How much is run. `steps` of the large model are the budget; rungs and `tuning_share` are shares of it.

    With `tuned` nothing is tuned, and without rungs nothing is screened: `chosen` take part. `alone` do not
    grow. Who does not grow is decayed at `earlier` shares of the budget, too.
    """

    steps: int
    seeds: tuple[int, ...]
    tuned: Tuned | None = None
    rates: tuple[float, ...] = ()
    stds: tuple[float, ...] = ()
    decays: tuple[float, ...] = ()
    tuning_share: float = 0.5
    tuning_seeds: tuple[int, ...] = ()
    tuning_kept: int = 4
    rungs: tuple[float, ...] = ()
    rung_kept: tuple[int, ...] = ()
    also: tuple[str, ...] = ()
    screening_seeds: tuple[int, ...] = ()
    best: int = 3
    chosen: tuple[Contestant, ...] = ()
    scale: str = "core"
    alone: tuple[Contestant, ...] = ALONE
    earlier: tuple[float, ...] = ()


FULL = Course(
    steps=4000,
    seeds=(1, 2, 3, 4, 5),
    rates=(0.0013, 0.002, 0.003, 0.0045, 0.0068),
    stds=(0.02, 0.05, 0.1, 0.15),
    decays=(0.4, 0.6),
    tuning_seeds=(100, 101),
    rungs=(0.25, 0.5, 1.0),
    rung_kept=(16, 5),
    also=(
        *("scratch", "scratch, 0.7 x the rate from 50 %"),
        *("grown at 12.5 %", "new entries from 2 x, 250 steps"),
        *("from middle at 25 %", "from middle at 25 %, large at 0.7 x the rate"),
        "from middle at 35 %, large at 0.7 x the rate",
        *("from middle at 50 %, large at 0.7 x the rate", "from middle at 50 %, large at 0.5 x the rate"),
        "from middle at 60 %, large at 0.7 x the rate",
        "from middle at 50 %, new entries from 2 x, large at 0.7 x the rate",
        "two growths, latest, large at 0.7 x the rate",
        "stacked from 2 at 25 %, moments carried",
        "stacked from 2 at 25 %, moments carried, large at 0.7 x the rate",
        "stacked from 2 at 50 %, moments carried, large at 0.7 x the rate",
    ),
    screening_seeds=(200, 201),
    best=2,
)
SMALL = Course(
    steps=600,
    seeds=(1, 2),
    tuned=Tuned(0.003, 0.1),
    chosen=(BASE, *(each for each in RIVALS if each.name in ("stacked from 2", "tiled with noise"))),
)
ON_DEVICE = (
    "from middle at 50 %, large at 0.7 x the rate",
    "two growths, latest, large at 0.7 x the rate",
    *("stacked from 2 at 25 %, moments carried", "tiled with noise at 25 %"),
)
LONGER = (
    *("from middle at 25 %", "from middle at 50 %, large at 0.7 x the rate"),
    "stacked from 2 at 25 %, moments carried",
)
# Three times the budget: is the large model worth it then? The rate is that of the shorter one.
LONG = Course(
    steps=12000,
    seeds=(1,),
    tuned=TUNED,
    chosen=tuple(each for each in (*GROWN, *RIVALS) if each.name in LONGER),
    alone=ALONE[1:],
    earlier=(0.5,),
)
# Factors on rate and std, for the points between those of the grid.
HIGHER = 1.5  # a longer decay may want a higher rate
HALF_STEPS = ((0.8, 1.0), (1.25, 1.0), (1.0, 0.7), (1.0, 1.4))
# The same contestants at other scales, on a device: the first at 4.6 bytes per parameter as the core's, the
# second at 1, which is what there is of text.
CHOSEN = tuple(each for each in (*GROWN, *RIVALS) if each.name in ON_DEVICE)
DEVICE = Course(
    steps=3500,
    seeds=(1, 2, 3, 4, 5),
    rates=(0.0005, 0.001, 0.002, 0.004),
    stds=(0.02, 0.05),
    decays=(0.4,),
    tuning_seeds=(100, 101),
    tuning_kept=2,
    chosen=CHOSEN,
    scale="device",
)
LARGER = dataclasses.replace(
    DEVICE, steps=7000, seeds=(1, 2), rates=(0.0005, 0.001, 0.002), stds=(0.02,), tuning_seeds=(100,),
    tuning_kept=1, scale="larger",
)  # fmt: skip
COURSES: Mapping[str, Course] = {
    "small": SMALL,
    "full": FULL,
    "long": LONG,
    "device": DEVICE,
    "larger": LARGER,
}


def tuning(course: Course, rows: Rows) -> tuple[list[Job], Tuned | None]:
    """The jobs that tuning still lacks, or what it found.

    A coarse grid of rate and std, the half steps around its best, the best of all at the full budget on every
    seed; for the best of these a longer decay, at its rate and a higher one.
    """
    steps, seed = int(course.tuning_share * course.steps), course.tuning_seeds[0]
    coarse = [
        Job("tune", SCRATCH, Tuned(rate, std), seed, steps) for rate in course.rates for std in course.stds
    ]
    if lacking := missing(coarse, rows):
        return lacking, None
    best = min(coarse, key=lambda job: final_loss(rows[job.key])).tuned
    near = [Tuned(round(best.rate * a, 6), round(best.std * b, 6)) for a, b in HALF_STEPS]
    coarse += [Job("tune", SCRATCH, tuned, seed, steps) for tuned in near]
    if lacking := missing(coarse, rows):
        return lacking, None
    ranked = sorted(coarse, key=lambda job: final_loss(rows[job.key]))
    fine = {
        job.tuned: [Job("tune", SCRATCH, job.tuned, seed, course.steps) for seed in course.tuning_seeds]
        for job in ranked[: course.tuning_kept]
    }
    if lacking := missing([job for jobs in fine.values() for job in jobs], rows):
        return lacking, None
    best = _best(fine, rows)
    for decay in course.decays:
        for rate in (best.rate, round(best.rate * HIGHER, 6)):
            tuned = Tuned(rate, best.std, decay)
            fine[tuned] = [Job("tune", SCRATCH, tuned, seed, course.steps) for seed in course.tuning_seeds]
    if lacking := missing([job for jobs in fine.values() for job in jobs], rows):
        return lacking, None
    return [], _best(fine, rows)


def _best(fine: Mapping[Tuned, Sequence[Job]], rows: Rows) -> Tuned:
    return min(fine, key=lambda tuned: mean(final_loss(rows[job.key]) for job in fine[tuned]))


def screening(course: Course, rows: Rows, tuned: Tuned) -> tuple[list[Job], list[Contestant]]:
    """The jobs that screening still lacks, or who goes on: the best that grow, the best of each rival's kind.

    Rung by rung, at a larger budget each, the better part goes on. Short budgets favour late growth, so those
    named in `course.also` are run at the last rung whatever they did before. It counts the mean over all of
    screening's seeds; the rungs before it have the first, and decay as the coarse grid of tuning does. Who
    would grow in the decay stays behind.
    """
    everyone = (*GROWN, *RIVALS)
    alive, reached = everyone, dict[str, tuple[float, float]]()
    for share, kept in zip(course.rungs, (*course.rung_kept, None), strict=True):
        setting = tuned if kept is None else Tuned(tuned.rate, tuned.std)
        seeds = course.screening_seeds[: 1 if kept is not None else None]
        steps = int(share * course.steps)
        jobs = {each.name: [Job("screen", each, setting, seed, steps) for seed in seeds] for each in alive}
        if lacking := missing([job for own in jobs.values() for job in own], rows):
            return lacking, []
        reached |= {
            name: (-share, mean(final_loss(rows[job.key]) for job in own)) for name, own in jobs.items()
        }
        alive = tuple(sorted(alive, key=lambda each: reached[each.name])[:kept])
        if share == course.rungs[-2]:
            others = (SCRATCH, LOWERED, *everyone)
            alive += tuple(each for each in others if each.name in course.also and each not in alive)
            alive = tuple(each for each in alive if each.last_growth <= 1 - tuned.decay)
    ranked = sorted(everyone, key=lambda each: reached[each.name])
    best = [each for each in ranked if each.kind == "grown"][: course.best]
    kinds = dict.fromkeys(each.kind for each in RIVALS)
    return [], [*best, *(next(each for each in ranked if each.kind == kind) for kind in kinds)]


def final(course: Course, rows: Rows, tuned: Tuned, chosen: Sequence[Contestant]) -> list[Job]:
    """Scratch on every seed, then all others, each until it has reached scratch's loss on the same seed."""
    scratch = yardsticks(course, tuned)
    if lacking := missing(scratch, rows):
        return lacking
    others = [
        dataclasses.replace(
            base,
            contestant=each,
            to_reach=final_loss(rows[base.key]),
            earlier=() if each.growths else course.earlier,
        )
        for base in scratch
        for each in (*chosen, *course.alone)
    ]
    return missing(others, rows)


def yardsticks(course: Course, tuned: Tuned) -> list[Job]:
    return [Job("final", SCRATCH, tuned, seed, course.steps, earlier=course.earlier) for seed in course.seeds]


def pending(course: Course, rows: Rows) -> list[Job]:
    """What is to be run next; nothing, when all is there."""
    tuned = course.tuned
    if tuned is None:
        jobs, tuned = tuning(course, rows)
        if tuned is None:
            return jobs
    jobs, chosen = screening(course, rows, tuned) if course.rungs else ([], list(course.chosen))
    if jobs:  # scratch needs not wait for who else takes part
        return [*jobs, *missing(yardsticks(course, tuned), rows)]
    return final(course, rows, tuned, chosen)


def settled(course: Course, rows: Rows) -> Rows:
    """The rows that count: those of tuning, and of other stages those at what tuning found."""
    tuned = course.tuned or tuning(course, rows)[1]
    if tuned is None:
        return {key: row for key, row in rows.items() if row["stage"] == "tune"}

    def counts(row: Mapping[str, Any]) -> bool:
        early = row["stage"] == "screen" and row["budget"] < course.steps
        wanted = Tuned(tuned.rate, tuned.std) if early else tuned
        return row["stage"] == "tune" or row["tuned"] == plain(wanted)

    return {key: row for key, row in rows.items() if counts(row)}


def missing(jobs: Sequence[Job], rows: Rows) -> list[Job]:
    return [job for job in jobs if job.key not in rows]


def final_loss(row: Mapping[str, Any]) -> float:
    """The loss when the whole budget is spent."""
    return row["losses"]["1.0"]
