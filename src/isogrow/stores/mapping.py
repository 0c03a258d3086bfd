"""A checkpoint's tensors as views of its files: mapped, not read, and let go of file by file."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from isogrow.errors import CheckpointError
from isogrow.plans.anatomy import Header
from isogrow.plans.pieces import whole
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.sources import Checkpoint, load_bin
from isogrow.stores.store import Part

KEPT = 2  # files that stay mapped: tensors come in the order of the files, more or less
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if hasattr(mmap, "MAP_DENYWRITE") else 0)

Get = Callable[[str], Tensor]


@dataclass(frozen=True)
class Mapped:
    """The store of a folder: each tensor is here as a whole, in the pages of its file.

    Reading them costs no memory of the process, and writing to one changes neither the file nor the next
    reader's tensor.
    """

    checkpoint: Checkpoint
    opened: OrderedDict[Path, Get] = field(default_factory=OrderedDict[Path, Get])

    @property
    def headers(self) -> Mapping[str, Header]:
        return self.checkpoint.headers

    def parts(self, name: str) -> tuple[Part, ...]:
        path, opened = self.checkpoint.files[name], self.opened
        if path not in opened:
            opened[path] = _opened(self.checkpoint, path)
            while len(opened) > KEPT:
                opened.popitem(last=False)
        opened.move_to_end(path)
        return ((whole(self.headers[name].shape), opened[path](name)),)


@contextmanager
def mapped(checkpoint: Checkpoint) -> Generator[Mapped]:
    """The store of a checkpoint's folder, whose files are let go of when the block ends."""
    store = Mapped(checkpoint)
    try:
        yield store
    finally:
        store.opened.clear()


def _opened(checkpoint: Checkpoint, path: Path) -> Get:
    if checkpoint.format == "bin":
        tensors = load_bin(path)
        return lambda name: tensors[name]
    pages = _pages(path)

    def get(name: str) -> Tensor:
        header, start = checkpoint.headers[name], checkpoint.starts[name]
        dtype, count = torch_dtype(header.dtype), prod(header.shape)
        assert dtype is not None, name  # what torch has no dtype for is refused when a folder is opened
        if count == 0:
            return torch.empty(header.shape, dtype=dtype)
        return torch.frombuffer(pages, dtype=dtype, count=count, offset=start).view(header.shape)

    return get


def _pages(path: Path) -> mmap.mmap:
    """The file, mapped privately: torch warns of pages that can't be written, so these can, but a write
    stays in the process. Nothing is reserved for writes that never come."""
    try:
        with path.open("rb") as file:
            both = mmap.PROT_READ | mmap.PROT_WRITE
            return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | NORESERVE, prot=both)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be mapped ({error}): is it being changed?") from error
