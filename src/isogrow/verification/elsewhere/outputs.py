"""What models are run on elsewhere, how far their outputs lie apart, and which rounding that can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from isogrow.growth.opening import Opened
from isogrow.layouts.config import get
from isogrow.stores.dtypes import torch_dtype
from isogrow.verification.runners.runner import Ids, Logits

TOKENS = 64  # in a row
ORDERS = ([0, 1], [1, 0], [0], [1], [1, 0, 1])  # of which rows of the first batch each batch is made
WORDS = ("row", "token", "id")


@dataclass(frozen=True)
class Apart:
    """How far outputs lie apart, the largest of them, and where that is."""

    absolute: float
    scale: float
    where: str = ""

    @property
    def relative(self) -> float:
        return self.absolute / self.scale if self.scale else self.absolute


def batches_of(vocab: int, positions: int | None = None) -> tuple[Ids, ...]:
    """Two rows of token ids, no token twice in one where there are enough, in several shapes and orders;
    there is room for two more tokens in a row.

    >>> [batch.shape for batch in batches_of(31, 24)]
    [(2, 22), (2, 22), (1, 22), (1, 22), (3, 22)]
    """
    tokens = max(2, min(TOKENS, (positions or TOKENS) - 2))
    numbers = np.random.default_rng(1)
    ids = np.stack([numbers.choice(np.arange(1, vocab), tokens, replace=vocab <= tokens) for _ in range(2)])
    return tuple(ids[order] for order in ORDERS)


def batches_for(small: Opened) -> tuple[Ids, ...]:
    """The same for a model: ids that it has, in rows that it has positions for."""
    anatomy, config = small.anatomy, small.checkpoint.config
    learned = anatomy.sizes.values.get("positions")
    return batches_of(anatomy.tokens, learned or get(config, anatomy.layout.streams[0].longest))


def coarsest(at_least: Sequence[torch.dtype], words: Iterable[str]) -> torch.dtype:
    """The dtype of the largest rounding that weights go through, stored and as they are run.

    >>> coarsest([torch.float32], ["F64", "BF16", "I64"])
    torch.bfloat16
    """
    held = [dtype for dtype in map(torch_dtype, set(words)) if dtype is not None and dtype.is_floating_point]
    return max([*at_least, *held], key=lambda dtype: torch.finfo(dtype).eps)


def noise_of(outputs: Sequence[Logits]) -> float:
    """How far a model is from itself, relative: each row in the other batches against the first one.

    >>> one = np.arange(6.0).reshape(2, 3)
    >>> noise_of([one[order] for order in ORDERS[:4]] + [one[ORDERS[4]] + 0.5])
    0.1
    """
    first = outputs[0]
    pairs = zip(ORDERS, outputs, strict=True)
    return max(farthest([first[order]], [found]).relative for order, found in pairs)


def farthest(before: Sequence[Logits], after: Sequence[Logits]) -> Apart:
    """Where outputs on the same batches are farthest apart; infinitely where they are no numbers."""
    scale = max(float(np.abs(each).max()) for each in before)
    worst = Apart(0.0, scale)
    for old, new in zip(before, after, strict=True):
        if old.shape != new.shape:
            return Apart(np.inf, scale, f"its outputs have shape {new.shape}, the small model's {old.shape}")
        gap = np.abs(new.astype(np.float64) - old)
        gap[~np.isfinite(gap)] = np.inf
        at = np.unravel_index(int(gap.argmax()), gap.shape)
        if float(gap[at]) > worst.absolute:
            place = ", ".join(f"{word} {n}" for word, n in zip(WORDS, at, strict=False))
            worst = Apart(float(gap[at]), scale, f"{place}: {new[at]:.6g} for {old[at]:.6g}")
    return worst
