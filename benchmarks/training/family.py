"""A family of sizes that are all wanted: one run that releases each and grows, or each from scratch.

Counted are all operations, decays included, until every size has the loss that its own scratch run ends with.
A chain trains a size until a decay from there would have that loss (`reaching`), and grows from before the
decay, which is counted beside it, or from its end.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.training.ceiling import Fit, led, seen
from benchmarks.training.contestants import TUNED, Contestant, Growth, Tuned, digest, plain
from benchmarks.training.models import step_flops
from benchmarks.training.reaching import STRIDE, first, spans
from benchmarks.training.rows import Row, Rows
from benchmarks.training.runs import Run, begun, finished, grow_run_, restore_
from benchmarks.training.saved import said
from benchmarks.training.scale import scale

STAGE = "family"
NEAR = 0.6  # of a scratch budget: the search begins there


@dataclass(frozen=True)
class Chain:
    """Sizes that become one the next by a method of `methods.METHODS`; without one each is from scratch.

    After each step the rate is that of the first size times the step's own of `rates` (1 without), and rises
    over `rewarm` steps. Each size is decayed over a share of its own scratch budget, or (None) from its
    stage's beginning to its end. What follows goes on from before the decay or, where `released`, from the
    end of it.
    """

    name: str
    sizes: tuple[str, ...]
    method: str = ""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    rates: tuple[float, ...] = ()
    rewarm: int = 0
    decays: tuple[float | None, ...] = (0.2, 0.2, 0.2)
    released: bool = False


@dataclass(frozen=True)
class Course:
    """Each size learns `per_parameter` bytes for each parameter; chains are decayed at one of the `marks`,
    shares of the size's scratch budget. `faster`: sizes for which a multiple of the tuned rate is better."""

    chains: tuple[Chain, ...]
    tuned: Tuned
    per_parameter: float
    seeds: tuple[int, ...]
    marks: tuple[float, ...]
    faster: Mapping[str, float] = field(default_factory=dict[str, float])

    def tuned_for(self, size: str) -> Tuned:
        """What tuning found for a size."""
        return dataclasses.replace(self.tuned, rate=self.tuned.rate * self.faster.get(size, 1.0))


GROWN, DEEPER, CUT = ("small", "middle", "large"), ("flat", "shallow", "large"), ("large", "middle", "small")
# What screening found (carrying.py): from a model that was decayed, and a rate that falls all the time.
AFTER: Mapping[str, Any] = dict(rewarm=100, decays=(0.4, None, None), released=True)
FULL = Course(
    chains=(
        Chain("grown", GROWN, "grow", rates=(1.0, 0.5), **AFTER),
        Chain("stacked, moments carried", DEEPER, "stack", {"carry": True}, rates=(1.0, 0.5), **AFTER),
        Chain("pruned, taught", CUT, "prune", {"taught": True}, rates=(1.0, 1.4), **AFTER),
    ),
    tuned=TUNED,
    per_parameter=14.0,
    seeds=(1, 2, 3, 4, 5),
    marks=tuple(round(0.025 * i, 3) for i in range(1, 53)),
    faster={"small": 1.4, "flat": 1.4},
)


@dataclass(frozen=True)
class Job:
    """A chain, or a size from scratch, on a seed; a chain has a loss to reach for each of its sizes.

    `near`: the mark at which the search begins for each, NEAR without; it changes what a search costs alone.
    """

    chain: Chain
    tuned: Tuned
    per_parameter: float
    marks: tuple[float, ...]
    seed: int
    targets: tuple[float, ...] = ()
    near: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """What names its row: all that its numbers depend on, but for names."""
        chain = dataclasses.replace(self.chain, name="")
        own = (chain, self.tuned, self.per_parameter, self.seed)
        return digest(STAGE, *own, self.marks, self.targets) if self.targets else digest(STAGE, *own)


def pending(course: Course, rows: Rows) -> list[Job]:
    """What is to be run next: sizes from scratch, then the chains that are to reach their losses.

    Chains come in the order of their seeds, so that a search begins where it ended on the seeds before.
    """
    scratch = {
        (size, seed): from_scratch(size, course.tuned_for(size), course.per_parameter, seed)
        for chain in course.chains
        for size in chain.sizes
        for seed in course.seeds
    }
    lacking = [job for job in scratch.values() if job.key not in rows]
    if lacking:
        return lacking
    jobs = [
        Job(
            chain,
            course.tuned_for(chain.sizes[0]),
            course.per_parameter,
            course.marks,
            seed,
            tuple(rows[scratch[size, seed].key]["losses"][0] for size in chain.sizes),
            searched(chain, course.marks, rows),
        )
        for seed in course.seeds
        for chain in course.chains
    ]
    return [job for job in jobs if job.key not in rows]


def searched(chain: Chain, marks: Sequence[float], rows: Rows) -> tuple[int, ...]:
    """The marks at which each size of this chain is likely to have its loss, by the seeds that were run."""
    own = [
        row["shares"]
        for row in rows.values()
        if row.get("found") and (row["name"], tuple(row["sizes"])) == (chain.name, chain.sizes)
    ]
    return tuple(likely(marks, shares) for shares in zip(*own, strict=True))


def likely(marks: Sequence[float], shares: Sequence[float]) -> int:
    """The mark behind the mean of these shares: the one that is STRIDE before it is likely not enough."""
    return min(near(marks, statistics.mean(shares)) + STRIDE // 2, len(marks) - 1)


def from_scratch(size: str, tuned: Tuned, per_parameter: float, seed: int) -> Job:
    """A size alone, to the end of its budget: what others are to reach."""
    chain = Chain(f"{size} from scratch", (size,), decays=(tuned.decay,))
    return Job(chain, tuned, per_parameter, (), seed)


def made(job: Job, cache: Path | None = None) -> dict[str, Any]:
    """The row of a job: operations in all, and of each size its loss and its share of its own budget; no
    run of it starts from a model that is kept."""
    found = scratch(job) if not job.targets else chained(job)
    own = dict(key=job.key, stage=STAGE, name=job.chain.name, sizes=job.chain.sizes, seed=job.seed)
    separate = sum(budget_of(size, job.per_parameter, job.tuned.matrices) for size in job.chain.sizes)
    return {**own, "tuned": plain(job.tuned), "separate": separate, **found}


def budget_of(size: str, per_parameter: float, matrices: str | None = None) -> int:
    """Operations of a size's own scratch run, in whole steps, where `matrices` trains those of layers."""
    return round(per_parameter * seen(size).parameters / scale().bytes) * step_flops(size, matrices)


def scratch(job: Job) -> dict[str, Any]:
    """A size from scratch, decayed to the end of its budget."""
    (size,) = job.chain.sizes
    budget = budget_of(size, job.per_parameter, job.tuned.matrices)
    run = _run(job, budget)
    loss = finished(run, budget)
    return dict(losses=[loss], operations=run.spent, found=True)


def chained(job: Job) -> dict[str, Any]:
    """A chain, until each size has its loss; it ends where one does not have it at the last mark.

    What follows goes on from a stage that has the loss; the last one's end is read off between two.
    """
    run, beyond = _run(job, 0), 0.0
    decays, shares, losses, reached = 0, list[float](), list[float](), True
    after = [*steps_of(job.chain), None]
    starts = job.near or (near(job.marks),) * len(job.targets)
    for size, share, target, start_at, following in zip(
        job.chain.sizes, job.chain.decays, job.targets, starts, after, strict=True
    ):
        budget, start = budget_of(size, job.per_parameter, job.tuned.matrices), run.spent
        # A first size that is decayed as scratch is the same run but for rounding: it has scratch's loss.
        same = not start and share == job.tuned.decay
        marks = (1 - share,) if same else job.marks
        found = first(run, spans(start, marks, share, budget), math.inf if same else target, start_at)
        reached = reached and (same or found.loss <= target)
        beyond = 0.0 if following else found.beyond
        shares = [*shares, marks[found.mark] - beyond / budget]
        losses = [*losses, found.loss]
        restore_(run, found.after if job.chain.released else found.before)
        decays += 0 if job.chain.released else found.decay
        if not reached:
            break
        if following:
            grow_run_(run, following)
    spent = run.spent + decays - beyond
    falling = [share is None for share in job.chain.decays]
    return dict(losses=losses, shares=shares, falling=falling, operations=spent, decays=decays, found=reached)


def near(marks: Sequence[float], place: float = NEAR) -> int:
    """The mark that is next to this place."""
    return min(range(len(marks)), key=lambda i: abs(marks[i] - place))


def steps_of(chain: Chain) -> tuple[Growth, ...]:
    """What makes each size of the one before."""
    sizes = chain.sizes[1:]
    rates = chain.rates or (1.0,) * len(sizes)
    return tuple(
        Growth(0.0, size, chain.method, chain.options, rate, chain.rewarm)
        for size, rate in zip(sizes, rates, strict=True)
    )


def _run(job: Job, budget: int) -> Run:
    contestant = Contestant(job.chain.name, STAGE, job.chain.sizes[0], steps_of(job.chain))
    return begun(contestant, job.tuned, job.seed, budget)


def table(rows: Rows, fit: Fit | None = None) -> str:
    """Operations that a chain saved against a scratch run for each of its sizes, over seeds; by the law what
    each step had of what it could have saved."""
    heads = ("family", "sizes", "seeds", "operations saved in all, %", "shares of their own budgets", "carry")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    chains: dict[tuple[str, ...], list[Row]] = {}
    for row in rows.values():
        if row["stage"] == STAGE and len(row["sizes"]) > 1:
            chains.setdefault((row["name"], *row["sizes"]), []).append(row)
    for (name, *sizes), own in chains.items():
        all_of = all(row["found"] for row in own)
        saved = said([100 * (1 - row["operations"] / row["separate"]) for row in own], "+.1f")
        means = [
            f"{statistics.mean(row['shares'][i] for row in own if len(row['shares']) > i):.2f}"
            for i in range(max(len(row["shares"]) for row in own))
        ]
        cells = [
            f"{name} | {', '.join(sizes)} | {len(own)}",
            saved if all_of else "a size did not get there",
            ", ".join(means),
            ", ".join(carries(fit, own)) if fit and all_of else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def carries(fit: Fit, rows: Sequence[Row]) -> Iterator[str]:
    """What was saved in each step to a larger size, as a share of what a whole carry would have saved.

    Of stages that fall from their beginning, as elsewhere one is more than its share.
    """
    sizes = rows[0]["sizes"]
    for i in range(1, len(sizes)):
        larger = seen(sizes[i]).parameters > seen(sizes[i - 1]).parameters
        if larger and all(row.get("falling", [False] * len(sizes))[i] for row in rows):
            yield said([_carry(fit, row, i) for row in rows], ".2f")


def _carry(fit: Fit, row: Row, step: int) -> float:
    """Of one chain and step. Budgets are bytes for each parameter, so one tells the others."""
    size, sizes = row["sizes"][step], row["sizes"]
    whole = sum(seen(each).parameters * step_flops(each) for each in sizes)
    budget = row["separate"] * seen(size).parameters * step_flops(size) / whole
    return (1 - row["shares"][step]) / led(fit, size, row["losses"][step - 1], budget)
