"""Entries of a mapped file, read instead of looked at.

The system ends a process that looks at a page behind a file's end, or at one that its disk can't read. A read
of the same bytes says so, and costs no more.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from isogrow.errors import CheckpointError

MOST = 1 << 20  # entries that are read at once; whoever asks for more looks at them as they are mapped
DENSE = 2  # in units of the entries that are wanted: how many between the first and the last are read, too
PARTS = 16  # reads that one view is made of; one that lies in more is looked at, which is faster
LITTLE = 1 << 15  # entries that are read however few of them are wanted


def fetched(path: Path, file: int, start: int, view: Tensor) -> Tensor:
    """The same numbers as a view of a mapped file that begins at byte `start` of it, in memory of their own;
    what is more of them than `MOST`, or lies in more than `PARTS` parts of the file, stays as it is.

    Raises `CheckpointError` where the file ends before, or can't be read.
    """
    count = view.numel()
    if not 0 < count <= MOST:
        return view
    shape, strides = tuple(view.shape), view.stride()
    span = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if span <= max(DENSE * count, LITTLE):
        entries = torch.empty(span, dtype=view.dtype)
        data = memoryview(entries.view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
        _read_(path, file, data, start)
        return entries.as_strided(shape, strides)
    dim = max((d for d, n in enumerate(shape) if n > 1), key=strides.__getitem__)
    if shape[dim] > PARTS:
        return view
    step = strides[dim] * view.element_size()
    parts = [fetched(path, file, start + i * step, view.select(dim, i)) for i in range(shape[dim])]
    return torch.stack(parts, dim)


def _read_(path: Path, file: int, data: memoryview, start: int) -> None:
    while data:
        try:
            count = os.preadv(file, [data], start)
        except OSError as error:
            raise unreadable(path, start, error) from error
        if not count:
            raise shortened(path)
        data, start = data[count:], start + count


def shortened(path: Path, words: str = "") -> CheckpointError:
    """What is said of a file that ends before what was in it."""
    return CheckpointError(f"{path} has become shorter while it was read{words}: is it being changed?")


def unreadable(path: Path, start: int, error: OSError) -> CheckpointError:
    """What is said of a file that the system can't read."""
    return CheckpointError(
        f"{path} can't be read at byte {start:,} ({error.strerror}): copy it from elsewhere, or fetch it"
        " again"
    )
