"""Writing safetensors files whose every offset is known before a byte is: any region of any tensor, in any
order, by `pwrite`.

A file is named `NAME.part` until it is whole and flushed. Its header is written last, so that a file without
one is not taken for a checkpoint by whoever looks at it meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from isogrow.plans.boxes import counted_from, runs, slices
from isogrow.plans.pieces import Box
from isogrow.stores.dtypes import BITS
from isogrow.stores.shards import Shard


@dataclass(frozen=True)
class File:
    """One safetensors file that is being written: an `Output` of the tensors that its shard holds."""

    shard: Shard
    descriptor: int

    def write(self, name: str, region: Box, entries: Tensor) -> None:
        """Write a region (without gaps) of a tensor: entries of the tensor's dtype on the CPU, in the shape
        of the region. Where they lie in order in memory and in the file, no byte is copied."""
        header, start = self.shard.tensors[name], self.shard.starts[name]
        for offset, box in runs(header.shape, region):
            part = entries[slices(counted_from(region, box))].contiguous()
            data = memoryview(part.view(-1).view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
            write_at(self.descriptor, data, start + offset * BITS[header.dtype] // 8)


@contextmanager
def written(folder: Path, shard: Shard) -> Generator[File]:
    """A file to write into, which has its name when the block ends without an error: then it is whole, and
    flushed. Whoever writes sees to it that each entry is written."""
    part = folder / f"{shard.file}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        yield File(shard, descriptor)
        write_at(descriptor, memoryview(shard.header), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(folder / shard.file)


def is_written(folder: Path, shard: Shard) -> bool:
    """Whether an earlier run left the file whole."""
    path = folder / shard.file
    return path.is_file() and path.stat().st_size == shard.size


def write_at(file: int, data: memoryview, start: int) -> None:
    """Write every byte (one call of the system may write fewer), and let the disk begin at once: a flush then
    has little left to wait for."""
    place, rest = start, data
    while rest:
        count = os.pwrite(file, rest, place)
        place, rest = place + count, rest[count:]
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, start, len(data), os.POSIX_FADV_DONTNEED)
