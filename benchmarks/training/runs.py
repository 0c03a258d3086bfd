"""One run: a stable trunk with its growths, from which decays to several budgets branch off.

Warmup, then a constant rate, then a linear decay to nothing over the last part of a budget. The trunk is
one run, so budgets share it; a budget's loss is that after its own decay.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.contestants import Contestant, Growth, Tuned, digest
from benchmarks.training.methods import METHODS
from benchmarks.training.models import (
    CLIP,
    flops_of,
    held_loss,
    loss_of,
    new_model,
    ready,
    step_flops,
)
from benchmarks.training.optimizing import optimizer_of
from benchmarks.training.pruning import distilled
from benchmarks.training.scale import scale
from benchmarks.training.text import batch
from benchmarks.training.versions import versions

WARMUP = 100
CLOSE = 1 + 1e-12  # shares of a budget are rounded
MARKS = (1, 10, 100, 300)
# Budgets, as shares of the full one, at which a trunk may be decayed to find where it reaches a loss.
SHARES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 1.0)
BEYOND = (1.2,)
COUNTS = ("step", "spent", "seconds")  # what is kept of a run beside its model and optimizer
REACHABLE = 0.03  # a budget beyond the full one is worth its time if less is lacking: doubling gave 0.1


@dataclass
class Run:
    """A run on its way: what it has spent of its `budget` in operations, and in seconds of one core.

    With a `teacher` it learns what that one gives, and pays for its passes.
    """

    contestant: Contestant
    tuned: Tuned
    seed: int
    budget: int
    model: Any
    optimizer: Any
    size: str
    teacher: Any = None
    step: int = 0
    spent: int = 0
    seconds: float = 0.0
    grown_at: int = 0
    growths: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def measure(
    contestant: Contestant,
    tuned: Tuned,
    seed: int,
    steps: int,
    cache: Path,
    to_reach: float | None = None,
    earlier: Sequence[float] = (),
) -> dict[str, Any]:
    """Losses by share of the budget, which is `steps` steps of the large model: all of it, and `earlier`.

    With `to_reach` budgets are tried until two that are neighbours enclose that loss.
    """
    first = min(*SHARES, *earlier)
    run = _started(contestant, tuned, seed, steps * step_flops("large"), cache, first)
    kept: dict[float, Any] = {}
    losses: dict[float, float] = {}
    seconds: dict[float, float] = {}

    def ended(share: float) -> float:
        if share not in kept:
            restore_(run, kept[max(kept)])
            _trunk_(run, share, kept)
        restore_(run, kept[share])
        loss = decayed(run, share * run.budget)
        losses[share] = loss if math.isfinite(loss) else math.inf  # a run that broke is the worst of all
        seconds[share] = round(run.seconds, 2)
        return losses[share]

    def grown(shares: Sequence[float]) -> list[float]:
        return [share for share in shares if share * (1 - tuned.decay) >= contestant.last_growth]

    shares, earlier = grown(SHARES), grown(earlier)
    assert shares, f"{contestant.name} grows in the decay"
    for share in sorted({*(shares if to_reach is not None else shares[-1:]), *earlier}):
        _trunk_(run, share, kept)
    better, made = ended(1.0) < (to_reach or 0.0), run.step
    if to_reach is not None:
        near = losses[1.0] - to_reach < REACHABLE
        for share in reversed(shares[:-1]) if better else BEYOND if near else ():
            if (ended(share) < to_reach) is not better:
                break
    for share in earlier:
        ended(share)
    return dict(
        losses={str(share): losses[share] for share in sorted(losses)},
        seconds={str(share): seconds[share] for share in sorted(losses)},
        growths=run.growths,
        steps=made,
    )


def begun(contestant: Contestant, tuned: Tuned, seed: int, budget: int) -> Run:
    """A run that has made no step."""
    model = new_model(contestant.start, tuned.std * contestant.std, seed)
    return Run(contestant, tuned, seed, budget, model, optimizer_of(model, tuned.matrices), contestant.start)


def _started(contestant: Contestant, tuned: Tuned, seed: int, budget: int, cache: Path, share: float) -> Run:
    """The run at its first growth, or where its first decay begins; shared trunks are run once."""
    start, until = contestant.start, share * (1 - tuned.decay)
    if contestant.growths:
        until = contestant.growths[0].at
    run = begun(contestant, tuned, seed, budget)
    cost = cost_of(run)
    wanted = int(until * budget / cost)
    rate, std = tuned.rate * contestant.rate, tuned.std * contestant.std
    key = digest(scale().sizes[start], rate, std, seed, tuned.matrices, tuned.weight_decay, versions())
    found = [int(f.stem.split("-")[1]) for f in cache.glob(f"{key}-*.pt")]
    best = max((step for step in found if step <= wanted), default=0)
    if best:
        take_(run, cache / f"{key}-{best}.pt")
    advance_(run, wanted * cost)
    if wanted > best:
        keep(run, cache / f"{key}-{wanted}.pt")
    return run


def keep(run: Run, path: Path) -> None:
    """Write where a run stands; under a name of its own first, since two processes may make the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    torch.save({**state_of(run), **{name: getattr(run, name) for name in COUNTS}}, part)
    part.rename(path)


def take_(run: Run, path: Path) -> None:
    """Go on from where a run of this size was kept."""
    saved = torch.load(path, weights_only=True)
    run.model.load_state_dict(saved["model"])
    run.optimizer.load_state_dict(saved["optimizer"])
    for name in COUNTS:
        setattr(run, name, saved[name])


def _trunk_(run: Run, share: float, kept: Any) -> None:
    """Go on with the stable part, growing when it is time, to where the decay for this budget begins."""
    end = share * (1 - run.tuned.decay) * run.budget
    assert run.spent <= end * CLOSE, f"the trunk is past where the decay to {share} of the budget begins"
    for growth in run.contestant.growths[len(run.growths) :]:
        if growth.at * run.budget > end:
            break
        advance_(run, growth.at * run.budget)
        grow_run_(run, growth)
    advance_(run, end)
    kept[share] = (state_of(run), dataclasses.replace(run, growths=list(run.growths)))


def finished(run: Run, budget: float) -> float:
    """The loss where so many more operations are spent, with the decay that scratch was tuned for."""
    start = run.spent
    advance_(run, start + (1 - run.tuned.decay) * budget)
    return decayed(run, start + budget)


def decayed(run: Run, end: float) -> float:
    """The loss after the rate has fallen to nothing, where so many operations are spent."""
    start = run.spent
    advance_(run, end, lambda run: stable_rate(run) * (end - run.spent) / (end - start))
    return held_loss(run.model, scale().final_rows)


def stable_rate(run: Run) -> float:
    """The rate of the next step in the stable part."""
    if not run.growths:
        return run.tuned.rate * run.contestant.rate * min(1.0, (run.step + 1) / WARMUP)
    growth = run.contestant.growths[len(run.growths) - 1]
    since = run.step - run.grown_at + 1
    return run.tuned.rate * growth.rate * (min(1.0, since / growth.rewarm) if growth.rewarm else 1.0)


def grow_run_(run: Run, growth: Growth) -> None:
    before, start = _looked_at(run), clock()
    old = run.model
    run.model, run.optimizer, *looks = METHODS[growth.method](
        old, run.optimizer, growth.size, run.seed, run.step, growth.options
    )
    ready(run.model)
    run.teacher = old if growth.options.get("taught") else None
    run.seconds += clock() - start
    run.size, run.grown_at = growth.size, run.step
    run.spent += sum(looks) * step_flops(growth.size)
    run.growths.append(dict(step=run.step, size=growth.size, before=before, marks={"0": _looked_at(run)}))


def advance_(run: Run, until: float, rate: Callable[[Run], float] = stable_rate) -> None:
    """Train until so many operations are spent; a step that would exceed them is not made."""
    cost, start, decay = cost_of(run), clock(), run.tuned.weight_decay
    for group in run.optimizer.param_groups if decay is not None else ():
        group["weight_decay"] = decay
    while run.spent + cost <= until * CLOSE:
        for group in run.optimizer.param_groups:
            group["lr"] = rate(run) * group.get("times", 1.0)
        run.optimizer.zero_grad()
        ids = batch(run.seed, run.step)
        (distilled(run.model, run.teacher, ids) if run.teacher else loss_of(run.model, ids)).backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), CLIP)
        run.optimizer.step()
        run.step, run.spent = run.step + 1, run.spent + cost
        since = run.step - run.grown_at
        if run.growths and since in MARKS and str(since) not in run.growths[-1]["marks"]:
            run.seconds += clock() - start
            run.growths[-1]["marks"][str(since)] = _looked_at(run)
            start = clock()
    run.seconds += clock() - start


def cost_of(run: Run) -> int:
    """Operations of the next step; a pass forward is a third of a step."""
    return step_flops(run.size, run.tuned.matrices) + (flops_of(run.teacher) // 3 if run.teacher else 0)


def _looked_at(run: Run) -> float:
    return held_loss(run.model, scale().held_rows)


def clock() -> float:
    """Seconds of this process on its core; on a device, of the device's work."""
    if scale().device == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


def state_of(run: Run) -> dict[str, Any]:
    return copy.deepcopy(dict(model=run.model.state_dict(), optimizer=run.optimizer.state_dict()))


def restore_(run: Run, kept: tuple[dict[str, Any], Run]) -> None:
    """Back to a point of the trunk; the model stays the object that it is."""
    state, then = kept
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
    run.step, run.spent, run.seconds = then.step, then.spent, then.seconds
