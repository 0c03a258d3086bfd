"""What a loss costs, by a scaling law, and so what growing can save at most.

    L(N, D) = E + A / N^alpha + B / D^beta            loss of N parameters after D tokens
    C(l)    = cost · D(l)                              operations until a model has the loss l

If a growth carried the small model's loss over whole, it would save C_large(l) − C_small(l) where it grows at
the loss l: the *offset*. The *ceiling* is the largest offset that a budget lets one have, as a share of it.
What a growth is measured to save, as a share of its offset, is its *carry*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TRIED, ROUNDS = 201, 3  # moments that a ceiling is the best of, and again around the best


@dataclass(frozen=True)
class Law:
    """A fitted law: which loss so many parameters have after so many tokens.

    >>> round(CHINCHILLA.loss(70e9, 1.4e12), 3)
    1.975
    """

    e: float
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Of a model that was trained to the end of its decay; without tokens it is infinite."""
        return self._floor(parameters) + self.b / tokens**self.beta if tokens > 0 else math.inf

    def tokens(self, parameters: float, loss: float) -> float:
        """How many a model needs to have a loss; infinite for one that it can't have."""
        above = loss - self._floor(parameters)
        return (self.b / above) ** (1 / self.beta) if above > 0 else math.inf

    def _floor(self, parameters: float) -> float:
        """What no number of tokens gets below."""
        return self.e + self.a / parameters**self.alpha


# Chinchilla's third approach as refit by Besiroglu et al., arXiv 2404.10102: natural text, its own tokens.
CHINCHILLA = Law(e=1.8172, a=482.01, alpha=0.3478, b=2085.43, beta=0.3658)


@dataclass(frozen=True)
class ModelSize:
    """A model as a law sees it: its parameters, and what a token costs it in training."""

    parameters: float
    cost: float


@dataclass(frozen=True)
class Ceiling:
    """The most that a growth can save, as a share of the budget, and after how many of the small model's
    tokens."""

    share: float
    tokens: float


def spent(law: Law, size: ModelSize, loss: float) -> float:
    """Operations until a model of this size has this loss."""
    return size.cost * law.tokens(size.parameters, loss)


def ceiling(law: Law, small: ModelSize, large: ModelSize, budget: float) -> Ceiling:
    """The largest offset between two sizes at a loss that the large one reaches within the budget.

    >>> half, whole = ModelSize(5e8, 3e9), ModelSize(1e9, 6e9)
    >>> found = ceiling(CHINCHILLA, half, whole, 20 * 1e9 * 6e9)
    >>> round(100 * found.share), round(found.tokens / 5e8)
    (5, 18)
    """
    end = law.loss(large.parameters, budget / large.cost)
    last = min(law.tokens(small.parameters, end), budget / small.cost)
    moments = np.geomspace(last * 1e-6, last, TRIED)
    saved, tokens = 0.0, float(last)
    for _ in range(ROUNDS):
        found = [_offset(law, small, large, float(tokens), budget) for tokens in moments]
        best = int(np.argmax(found))
        saved, tokens = found[best], float(moments[best])
        moments = np.geomspace(moments[max(0, best - 1)], moments[min(TRIED - 1, best + 1)], TRIED)
    return Ceiling(max(0.0, saved / budget), tokens)


def _offset(law: Law, small: ModelSize, large: ModelSize, tokens: float, budget: float) -> float:
    """Between the operations of both at the loss that the small one has after so many tokens."""
    needed = spent(law, large, law.loss(small.parameters, tokens))
    return needed - small.cost * tokens if needed <= budget * (1 + 1e-9) else -math.inf


def carried(law: Law, stages: Sequence[tuple[ModelSize, float]], loss: float = math.inf) -> float:
    """The loss after stages of so many operations each, if every growth carries the loss over whole; `loss`
    is what there was before them.

    >>> large = ModelSize(1e9, 6e9)
    >>> carried(CHINCHILLA, [(large, 3e19), (large, 3e19)]) == CHINCHILLA.loss(1e9, 1e10)
    True
    """
    for size, operations in stages:
        behind = law.tokens(size.parameters, loss) if math.isfinite(loss) else 0.0
        loss = law.loss(size.parameters, behind + operations / size.cost)
    return loss


def offset(law: Law, stages: Sequence[tuple[ModelSize, float]], large: ModelSize) -> float:
    """Operations that a growth to `large` saves after such stages, if it carries their loss over whole."""
    return spent(law, large, carried(law, stages)) - sum(operations for _, operations in stages)
