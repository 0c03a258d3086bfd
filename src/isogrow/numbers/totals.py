"""The sum of a box's numbers and that of their squares, as one tree of elementwise sums."""

from __future__ import annotations

from threading import local

import torch
from torch import Tensor

from isogrow.numbers.arithmetic import tree_total_

_OWN = local()

Sums = tuple[float, float]  # of entries, of their squares


def sums(x: Tensor) -> Sums:
    """The sum of a tensor's entries and that of their squares, in float64.

    >>> sums(torch.tensor([1.0, 2.0, 3.0]))
    (6.0, 14.0)
    """
    entries, squares = (kept[: x.numel()] for kept in _scratch(x.numel()))
    entries.view(x.shape).copy_(x)
    torch.mul(entries, entries, out=squares)
    return tree_total_(entries), tree_total_(squares)


def _scratch(count: int) -> tuple[Tensor, Tensor]:
    """Two arrays of this thread, kept from one sum to the next: made anew for each, they would scatter its
    memory."""
    kept: tuple[Tensor, Tensor] | None = getattr(_OWN, "kept", None)
    if kept is None or len(kept[0]) < count:
        kept = torch.empty(count, dtype=torch.float64), torch.empty(count, dtype=torch.float64)
        _OWN.kept = kept
    return kept
