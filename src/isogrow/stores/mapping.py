"""A checkpoint's tensors as views of its files: mapped, not read, and let go of file by file."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from isogrow.errors import CheckpointError
from isogrow.stores.sources import WORDS, Checkpoint, load_bin

# safetensors' word -> torch's dtype
DTYPES: dict[str, torch.dtype] = {
    word: getattr(torch, name) for name, word in WORDS.items() if hasattr(torch, name)
}
KEPT = 2  # files that stay mapped: tensors come in the order of the files, more or less
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if hasattr(mmap, "MAP_DENYWRITE") else 0)

Get = Callable[[str], Tensor]


@contextmanager
def mapped(checkpoint: Checkpoint) -> Generator[Get]:
    """Gives every tensor of the checkpoint by its stored name.

    The tensors are the files' own pages: reading them costs no memory of the process, and writing to
    one changes neither the file nor the next reader's tensor.
    """
    opened: OrderedDict[Path, Get] = OrderedDict()

    def get(name: str) -> Tensor:
        path = checkpoint.files[name]
        if path not in opened:
            opened[path] = _opened(checkpoint, path)
            while len(opened) > KEPT:
                opened.popitem(last=False)
        opened.move_to_end(path)
        return opened[path](name)

    try:
        yield get
    finally:
        opened.clear()


def _opened(checkpoint: Checkpoint, path: Path) -> Get:
    if checkpoint.format == "bin":
        tensors = load_bin(path)
        return lambda name: tensors[name]
    pages = _pages(path)

    def get(name: str) -> Tensor:
        header, start = checkpoint.headers[name], checkpoint.starts[name]
        dtype, count = DTYPES[header.dtype], prod(header.shape)
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
