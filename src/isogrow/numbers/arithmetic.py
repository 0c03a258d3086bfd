"""The arithmetic of tensors that all interpreters share: a stored tensor seen as a block, one rounding, sums
in a fixed order."""

from __future__ import annotations

import torch
from torch import Tensor

from isogrow.layouts.pattern import View

WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def blocked(stored: Tensor, view: View) -> Tensor:
    """A stored tensor seen as one block, without a copy.

    A view only splits dims and selects from them, so any strides and any device will do: whoever reads a box
    of the block moves that box alone.
    """
    x = stored.view(view.full)
    if view.narrow is not None:
        x = x.narrow(*view.narrow)
    x = x.view(view.split)
    for dim, i in sorted(view.select, reverse=True):
        x = x.select(dim, i)
    return x.permute(view.order)


def storage_order(x: Tensor) -> tuple[int, ...]:
    """A tensor's dims as they lie in storage, slowest first."""
    return tuple(sorted(range(x.dim()), key=lambda d: -x.stride(d)))


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 rounded once to `dtype` (torch itself goes through float32, which rounds twice).

    Rounding to odd in float32 (towards zero, the last bit set where that is inexact) keeps what the
    second rounding needs to know.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return x.to(dtype)
    single = x.to(torch.float32)
    back = single.to(torch.float64)
    bits = single.view(torch.int32)
    bits -= (back.abs() > x.abs()).to(torch.int32)
    bits |= (back != x).to(torch.int32)
    return single.to(dtype)


def tree_sum(x: Tensor, dim: int) -> Tensor:
    """The sum along `dim` (kept), as a tree of elementwise sums."""
    while x.shape[dim] > 1:
        half = (x.shape[dim] + 1) // 2
        rest = x.shape[dim] - half
        head = x.narrow(dim, 0, half).clone()
        head.narrow(dim, 0, rest).add_(x.narrow(dim, half, rest))
        x = head
    return x


def tree_total_(x: Tensor) -> float:
    """`tree_sum` of a flat tensor, which is overwritten: the same bits with half the passes over memory."""
    sums, count = x.numpy(), len(x)
    while count > 1:
        half = (count + 1) // 2
        low = sums[: count - half]
        low += sums[half:count]
        count = half
    return float(sums[0])


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal bit by bit, NaN and all.

    >>> same(torch.tensor(float("nan")), torch.tensor(float("nan"))), same(torch.zeros(1), -torch.zeros(1))
    (True, False)
    """
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    there = a.data_ptr() and a.data_ptr() == b.data_ptr() and a.stride() == b.stride()
    return bool(there) or torch.equal(words(a), words(b))


def words(x: Tensor) -> Tensor:
    """The bits of a tensor's numbers as integers, in one row, so that NaN is itself, and no zero another.

    Numbers of one byte each would do as well, and take four times as long to compare.

    >>> words(torch.tensor([1.0, -0.0])).tolist()
    [1065353216, -2147483648]
    """
    return x.reshape(-1).contiguous().view(WORDS.get(x.element_size(), torch.uint8))
