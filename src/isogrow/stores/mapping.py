"""A checkpoint's tensors as views of its files: mapped, and let go of file by file. `fetching` reads what is
wanted of them."""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import RawIOBase
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from isogrow.errors import CheckpointError
from isogrow.plans.anatomy import Header
from isogrow.plans.boxes import strides
from isogrow.plans.pieces import whole
from isogrow.stores.distributed import Chunk, numbers_of
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.fetching import fetched, shortened
from isogrow.stores.laid import Laid, Numbers
from isogrow.stores.sources import Checkpoint, load_bin
from isogrow.stores.store import Part

# How many files stay mapped. Tensors come in the order of the files, more or less, and workers are at a few
# at once; of a distributed checkpoint each may be in the files of all ranks.
KEPT = {"safetensors": 8, "bin": 4, "distributed": 64, "gguf": 1}
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if hasattr(mmap, "MAP_DENYWRITE") else 0)


@dataclass(frozen=True)
class Pages:
    """A file that is open, and all of it mapped; both end when nobody has them any more."""

    file: RawIOBase
    mapped: mmap.mmap

    def place(self, view: Tensor) -> int | None:
        """From which byte of the file on a view of these pages lies; None for one of others."""
        start = view.data_ptr() - torch.frombuffer(self.mapped, dtype=torch.uint8, count=1).data_ptr()
        return start if 0 <= start < len(self.mapped) else None


@dataclass(frozen=True)
class Archive:
    """A `.bin` file of so many bytes, whose tensors torch has mapped."""

    size: int
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Mapped:
    """The store of a folder: each tensor is here as a whole, in the pages of its file; or in the chunks of a
    distributed checkpoint.

    Reading them costs no memory of the process, and writing to one changes neither the file nor the next
    reader's tensor.
    """

    checkpoint: Checkpoint
    opened: OrderedDict[Path, Any] = field(default_factory=OrderedDict[Path, Any])
    known: dict[Chunk, Numbers] = field(default_factory=dict[Chunk, Numbers])
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def headers(self) -> Mapping[str, Header]:
        return self.checkpoint.headers

    def parts(self, name: str) -> Iterator[Part]:
        held, header = self.checkpoint, self.headers[name]
        if held.format == "bin":
            archive: Archive = self._open(held.files[name], _archive)
            _check_length(held.files[name], archive.size)
            yield whole(header.shape), archive.tensors[name]
            return
        for laid in self._places(name, header):
            pages = self._open(laid.path, _pages).mapped
            _check_length(laid.path, len(pages))
            yield laid.box, _as(header.dtype, _view(pages, laid), laid.less)

    def fetched(self, name: str, view: Tensor) -> Tensor:
        """A view of what `parts` gave, in memory of its own where torch has not mapped it, and the view is
        no larger than `fetching.MOST`."""
        held = self.checkpoint
        chunks = [*held.chunks.get(name, ()), *held.laid.get(name, ())]
        paths = dict.fromkeys(chunk.path for chunk in chunks)
        for path in [held.files[name]] if held.format == "safetensors" else paths:
            pages: Pages = self._open(path, _pages)  # open for as long as it is read
            if (start := pages.place(view)) is not None:
                return fetched(path, pages.file.fileno(), start, view)
        return view

    def place(self, name: str) -> tuple[Path, int] | None:
        held = self.checkpoint
        return (held.files[name], held.starts[name]) if held.format == "safetensors" else None

    def _places(self, name: str, header: Header) -> Iterator[Laid]:
        """Each box of a tensor that is stored, and where its numbers lie."""
        held = self.checkpoint
        if held.format == "safetensors":
            numbers = Numbers(held.starts[name], strides(header.shape))
            yield Laid(whole(header.shape), held.files[name], numbers, header.dtype)
            return
        yield from held.laid.get(name, ())
        for chunk in held.chunks.get(name, ()):
            if chunk not in self.known:
                self.known[chunk] = numbers_of(chunk, header)
            yield Laid(chunk.box, chunk.path, self.known[chunk], header.dtype)

    def _open(self, path: Path, how: Callable[[Path], Any]) -> Any:
        """A file that stays open until others have been asked for since."""
        with self.lock:
            opened = self.opened
            if path not in opened:
                opened[path] = how(path)
                while len(opened) > KEPT[self.checkpoint.format]:
                    opened.popitem(last=False)
            opened.move_to_end(path)
            return opened[path]


@contextmanager
def mapped(checkpoint: Checkpoint) -> Generator[Mapped]:
    """The store of a checkpoint's folder, whose files are let go of when the block ends."""
    store = Mapped(checkpoint)
    try:
        yield store
    finally:
        store.opened.clear()


def _check_length(path: Path, before: int) -> None:
    """Refuse a file that has become shorter: the system ends a process that looks at pages behind its end.
    Asked for each region; of one that is not `fetched`, what is cut off while it is read is not seen."""
    try:
        now = path.stat().st_size
    except FileNotFoundError:  # its pages stay, and that it is gone is seen before the output gets its name
        return
    if now < before:
        raise shortened(path, f" ({now:,} bytes of {before:,})")


def _view(pages: mmap.mmap, laid: Laid) -> Tensor:
    """The numbers of a box in a mapped file."""
    shape, at = tuple(map(len, laid.box)), laid.numbers
    dtype = torch_dtype(laid.word)
    assert dtype is not None, laid.word  # what torch has no dtype for is refused when a folder is opened
    if prod(shape) == 0:
        return torch.empty(shape, dtype=dtype)
    count = 1 + sum((n - 1) * stride for n, stride in zip(shape, at.strides, strict=True))
    return torch.frombuffer(pages, dtype=dtype, count=count, offset=at.start).as_strided(shape, at.strides)


def _as(word: str, view: Tensor, less: float) -> Tensor:
    """The numbers as the tensor has them; what is made of those in the file is exact, which was looked at."""
    dtype = torch_dtype(word)
    return (view - less if less else view).to(dtype)


def _archive(path: Path) -> Archive:
    return Archive(path.stat().st_size, load_bin(path))


def _pages(path: Path) -> Pages:
    """The file, mapped privately: torch warns of pages that can't be written, so these can, but a write
    stays in the process. Nothing is reserved for writes that never come."""
    try:
        file = path.open("rb", buffering=0)
        both = mmap.PROT_READ | mmap.PROT_WRITE
        return Pages(file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | NORESERVE, prot=both))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be mapped ({error}): is it being changed?") from error
