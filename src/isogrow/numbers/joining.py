"""A box put together from the parts that hold it: chunks of a file, shards, what other ranks gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod

import torch
from torch import Tensor

from isogrow.plans.boxes import counted_from, overlap, slices
from isogrow.plans.pieces import Box

Part = tuple[Box, Tensor]  # a box, with gaps or without, and its entries


def joined(
    box: Box,
    parts: Iterable[Part],
    dtype: torch.dtype | None = None,
    taken: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, int]:
    """A box (without gaps) from parts, and how many of its entries none of them holds (less those that
    several hold).

    A view of one part that holds all of it, a new tensor (of `dtype`, where there is no part) otherwise.
    `taken` is given each view that is looked at, and gives what has the same entries.

    >>> parts = [((range(2),), torch.tensor([5.0, 6.0])), ((range(2, 4),), torch.tensor([7.0, 8.0]))]
    >>> joined((range(1, 4),), parts)
    (tensor([6., 7., 8.]), 0)
    """
    out, left = None, prod(map(len, box))
    for held, entries in parts:
        common = overlap(held, box)
        if common is None:
            continue
        found = entries[slices(counted_from(held, common))]
        found = found if taken is None else taken(found)
        if common == box:
            return found, 0
        out = _empty(box, entries.dtype, entries.device) if out is None else out
        out[slices(counted_from(box, common))] = found
        left -= found.numel()
    return _empty(box, dtype) if out is None else out, left


def _empty(box: Box, dtype: torch.dtype | None, device: torch.device | None = None) -> Tensor:
    return torch.empty([len(r) for r in box], dtype=dtype, device=device)
