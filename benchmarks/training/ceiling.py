"""How much a growth could save at most: a law of the runs that never grew, and what contestants had of it.

The law L(N, D) = E + A / N^alpha + B / D^beta is fitted by least squares: for given exponents it is linear,
and the exponents are the best of a grid, then of a finer one. Its intervals come from runs drawn again within
each size, a run with all of its budgets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM

from benchmarks.training.models import config, step_flops
from benchmarks.training.rows import Row
from benchmarks.training.scale import Scale, scale
from isogrow.recipes.scaling import Law, ModelSize, ceiling, offset, spent

Array = np.ndarray[Any, Any]
COARSE = (np.arange(0.1, 1.5, 0.05), np.arange(0.1, 1.2, 0.05))  # exponents that are tried: alpha, beta
FINE = np.arange(-0.05, 0.051, 0.01)  # around the best of them
LEAST, SIZES_NEEDED = 12, 3  # points, and sizes, for five numbers
DRAWS, SEED = 200, 0


@dataclass(frozen=True)
class Point:
    """A loss that a run had after its decay at some budget; `run` names the run."""

    size: str
    tokens: float
    loss: float
    run: str


@dataclass(frozen=True)
class Fit:
    """A law, the root of its mean squared residual, and the laws of runs that were drawn again."""

    law: Law
    rms: float
    points: int
    drawn: tuple[Law, ...]


def seen(size: str) -> ModelSize:
    """A model of the benchmark as the law sees it: parameters beside embeddings, operations for a byte."""
    return _seen(scale(), size)


@cache
def _seen(at: Scale, size: str) -> ModelSize:
    with torch.device("meta"):
        model = LlamaForCausalLM(config(size, 0.02))
    own = {name: p.numel() for name, p in model.named_parameters()}
    count = sum(n for name, n in own.items() if "embed" not in name and "lm_head" not in name)
    return ModelSize(count, step_flops(size) / at.bytes)


def led(fit: Fit, size: str, loss: float, budget: float) -> float:
    """The share of a budget after which a size would have this loss from scratch, by the law; at most 1.

    So much would be saved by a growth that carries the loss over whole, what the small model cost apart.
    """
    return min(1.0, spent(fit.law, seen(size), loss) / budget)


def points(rows: Sequence[Row], decay: float) -> Iterator[Point]:
    """Of runs that never grew, at what tuning found: scratch and those alone, at each budget with a decay."""
    for row in rows:
        told = row["contestant"]
        grew = told.get("growths") or told.get("kind") not in ("scratch", "alone")
        if row["stage"] == "tune" or grew or row["tuned"]["decay"] != decay:
            continue
        size = told["start"]
        for share, loss in row["losses"].items():
            steps = int(float(share) * row["budget"] * step_flops("large") / step_flops(size))
            yield Point(size, steps * scale().bytes, loss, row["key"])


def fitted(found: Sequence[Point], draws: int | None = None) -> Fit | None:
    """The law of these points, and those of runs drawn again; None where there are too few of them."""
    if len(found) < LEAST or len({point.size for point in found}) < SIZES_NEEDED:
        return None
    runs = sorted({(point.size, point.run) for point in found})
    drawn = np.random.default_rng(SEED)
    weights = [np.ones(len(found))]
    for _ in range(DRAWS if draws is None else draws):
        counts = dict.fromkeys(runs, 0)
        for size in sorted({size for size, _ in runs}):
            own = [run for run in runs if run[0] == size]
            for i in drawn.integers(len(own), size=len(own)):
                counts[own[i]] += 1
        weights.append(np.array([counts[point.size, point.run] for point in found], dtype=float))
    laws, errors = _laws(found, np.stack(weights))
    return Fit(laws[0], float(errors[0]), len(found), tuple(laws[1:]))


def _laws(found: Sequence[Point], weights: Array) -> tuple[list[Law], Array]:
    """The best law for each row of weights, and its error."""
    n = np.array([seen(point.size).parameters for point in found])
    d = np.array([point.tokens for point in found], dtype=float)
    loss = np.array([point.loss for point in found])
    alphas, betas = COARSE
    best = _best(n, d, loss, weights, [(a, b) for a in alphas for b in betas])
    around = sorted({(round(a + i, 4), round(b + j, 4)) for a, b, *_ in best for i in FINE for j in FINE})
    found_ = _best(n, d, loss, weights, [(a, b) for a, b in around if a > 0 and b > 0])
    laws = [Law(e, a, alpha, b, beta) for alpha, beta, _, e, a, b in found_.tolist()]
    return laws, found_[:, 2]


def _best(n: Array, d: Array, loss: Array, weights: Array, exponents: Sequence[tuple[float, float]]) -> Array:
    """(alpha, beta, error, E, A, B) with the least error, for each row of weights."""
    best = np.full((len(weights), 6), np.inf)
    for alpha, beta in exponents:
        units = np.array([1.0, np.exp(np.log(n).mean() * -alpha), np.exp(np.log(d).mean() * -beta)])
        seen_by = np.stack([np.ones_like(n), n**-alpha, d**-beta], 1) / units
        squares = np.einsum("rn,ni,nj->rij", weights, seen_by, seen_by, optimize=True)
        right = np.einsum("rn,ni,n->ri", weights, seen_by, loss, optimize=True)
        made = np.linalg.solve(squares + 1e-12 * np.eye(3), right[..., None])[..., 0]
        off = (weights * (made @ seen_by.T - loss) ** 2).sum(1) / weights.sum(1)
        rows = np.column_stack(
            [np.full(len(weights), alpha), np.full(len(weights), beta), np.sqrt(off), made / units]
        )
        rows[(made <= 0).any(1), 2] = np.inf  # more parameters or bytes do no harm
        better = rows[:, 2] < best[:, 2]
        best[better] = rows[better]
    return best


# ── what a contestant could have saved, as a share of the budget ──


def highest(law: Law, small: str, large: str, budget: float) -> tuple[float, float]:
    """The ceiling between two sizes, and the small one's bytes per own parameter where it is had."""
    found = ceiling(law, seen(small), seen(large), budget)
    return found.share, found.tokens / seen(small).parameters


def at_growth(law: Law, contestant: Mapping[str, Any], budget: float) -> float | None:
    """What this contestant saves if its growths carry the loss over whole; None for one that never grows."""
    growths = [growth for growth in contestant["growths"] if growth["method"] != "stay"]
    if not growths:
        return None
    sizes = [contestant["start"], *(growth["size"] for growth in growths)]
    ends = [growth["at"] for growth in growths]
    spans = [(seen(size), (b - a) * budget) for size, a, b in zip(sizes, [0.0, *ends], ends, strict=False)]
    return offset(law, spans, seen(sizes[-1])) / budget


def by_law(law: Law, difference: float, budget: float) -> float:
    """C_scratch(l) − the budget, as a share of it, at a loss so far from that of scratch at its end."""
    large = seen("large")
    end = law.loss(large.parameters, budget / large.cost)
    return large.cost * law.tokens(large.parameters, end + difference) / budget - 1


def between(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of what drawn laws say."""
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
