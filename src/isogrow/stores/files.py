"""Writing safetensors files whose every offset is known before a byte is: any region of any tensor, in any
order, by `pwrite`.

A file is named `NAME.part` until it is whole and flushed. Its header is written last, so that a file without
one is not taken for a checkpoint by whoever looks at it meanwhile.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from isogrow.plans.boxes import counted_from, runs, slices
from isogrow.plans.pieces import Box
from isogrow.stores.dtypes import BITS
from isogrow.stores.fetching import shortened, unreadable
from isogrow.stores.shards import Shard

# What file systems say that can't copy to each other; and where either fails: two steps tell which.
UNABLE = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF, errno.EIO)
STEP = 1 << 20


@dataclass(frozen=True)
class File:
    """One safetensors file that is being written: any region of the tensors that its shard holds, in any
    order, each entry once."""

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
    with _opened(folder, shard, os.O_CREAT | os.O_TRUNC) as file:
        yield file
        _end(file)
    _part(folder, shard).rename(folder / shard.file)


def begin(folder: Path, shard: Shard) -> None:
    """Make a file that several processes write parts of (`part_written`), of its whole length; `finish` gives
    it its name."""
    with _opened(folder, shard, os.O_CREAT | os.O_TRUNC) as file:
        os.ftruncate(file.descriptor, shard.size)


@contextmanager
def part_written(folder: Path, shard: Shard) -> Generator[File]:
    """A file that has been begun, to write a part of it into, which is flushed when the block ends."""
    with _opened(folder, shard) as file:
        yield file
        os.fsync(file.descriptor)


def finish(folder: Path, shard: Shard) -> None:
    """End a file all of whose entries are written and flushed."""
    with _opened(folder, shard) as file:
        _end(file)
    _part(folder, shard).rename(folder / shard.file)


def _part(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.file}.part"


@contextmanager
def _opened(folder: Path, shard: Shard, flags: int = 0) -> Generator[File]:
    flags |= os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(_part(folder, shard), flags, 0o666)
    try:
        yield File(shard, descriptor)
    finally:
        os.close(descriptor)


def _end(file: File) -> None:
    """The header, which makes a file of the format of what is written."""
    write_at(file.descriptor, memoryview(file.shard.header), 0)
    os.fsync(file.descriptor)


def is_written(folder: Path, shard: Shard) -> bool:
    """Whether an earlier run left the file whole."""
    path = folder / shard.file
    return path.is_file() and path.stat().st_size == shard.size


def copied(path: Path, file: int, start: int, to: int, count: int) -> int:
    """Copy so many bytes of a file, from `start` on, into an open one; they come into this process only where
    the system can't do it. Raises `CheckpointError` for a file that ends before, or can't be read."""
    source = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        done = 0
        while done < count:
            moved = _moved(path, source, file, start + done, to + done, count - done)
            if not moved:
                raise shortened(path)
            done += moved
    finally:
        os.close(source)
    begin_flush(file, to, count)
    return count


def _moved(path: Path, source: int, file: int, start: int, to: int, count: int) -> int:
    try:
        return os.copy_file_range(source, file, count, start, to)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in UNABLE:
            raise
    try:
        data = os.pread(source, min(count, STEP), start)
    except OSError as error:
        raise unreadable(path, start, error) from error
    write_at(file, memoryview(data), to)
    return len(data)


def write_at(file: int, data: memoryview, start: int) -> None:
    """Write every byte (one call of the system may write fewer)."""
    place, rest = start, data
    while rest:
        count = os.pwrite(file, rest, place)
        place, rest = place + count, rest[count:]
    begin_flush(file, start, len(data))


def read_back(file: int, start: int, count: int, told: Callable[[memoryview], object]) -> None:
    """Tell what stands in an open file, piece by piece; just written, it is still in memory."""
    done = 0
    while done < count:
        data = os.pread(file, min(STEP, count - done), start + done)
        assert data, "a file that is being written has become shorter"
        told(memoryview(data))
        done += len(data)


def begin_flush(file: int, start: int, count: int) -> None:
    """Let the disk begin with what is written: a flush then has little left to wait for."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, start, count, os.POSIX_FADV_DONTNEED)
