"""Distributed checkpoints of torch (DCP): what `.metadata` says, and where each chunk's bytes lie.

A chunk is an archive as `torch.save` writes it, its entries uncompressed: its numbers are mapped.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from isogrow.errors import CheckpointError
from isogrow.plans.anatomy import Header
from isogrow.plans.boxes import overlap
from isogrow.plans.pieces import Box
from isogrow.stores.dtypes import BITS
from isogrow.stores.inert import first, unpickled
from isogrow.stores.laid import Numbers

METADATA = ".metadata"
# What Accelerate calls the folder of a model's weights beside that of its optimizer's.
FOLDERS = ("pytorch_model_fsdp_0", "model")
MODEL = "model"  # the key of a model's state, where an optimizer's is saved beside it
OTHERS = ("state.", "param_groups.", "optimizer.", "optim.")  # how names begin that are no weights'
ZIP, LOCAL = b"PK\x03\x04", 30  # how an archive's entry begins, and how long that is without its name


@dataclass(frozen=True)
class Chunk:
    """A box of a tensor, and where it is stored: `length` bytes of a file from `start` on, as an archive."""

    box: Box
    path: Path
    start: int
    length: int


@dataclass(frozen=True)
class Saved:
    """What is saved under one name: a tensor in chunks, or (`header` is None) a value in one.

    `path` are the keys that lead to it in the state dict that was saved.
    """

    path: tuple[str | int, ...]
    header: Header | None
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Distributed:
    """What a distributed checkpoint holds, by the names in its metadata."""

    folder: Path
    saved: Mapping[str, Saved]

    @property
    def headers(self) -> dict[str, Header]:
        """Those of the model's tensors."""
        return headers_of(self.weights)

    @property
    def chunks(self) -> dict[str, tuple[Chunk, ...]]:
        """Those of the model's tensors."""
        return {name: each.chunks for name, each in self.weights.items()}

    @cached_property
    def under(self) -> tuple[str, ...]:
        """The keys that lead to the model's tensors: none, or those down to `MODEL`, the fewest there are."""
        paths = (each.path[:-1] for each in self.saved.values())
        ways = {path[: path.index(MODEL) + 1] for path in paths if MODEL in path}
        return tuple(map(str, min(ways, key=len, default=())))

    @cached_property
    def weights(self) -> Mapping[str, Saved]:
        """A model's tensors, by the names that the model has for them; each is all there."""
        tensors = ((fqn, each) for fqn, each in self.saved.items() if each.header is not None)
        named = {_weight(fqn, each.path, self.under): each for fqn, each in tensors}
        found = {name: each for name, each in named.items() if name is not None}
        for name, each in found.items():
            check_all_there(self.folder, name, each)
        return found


def headers_of(tensors: Mapping[str, Saved]) -> dict[str, Header]:
    """The headers of what is a tensor."""
    return {name: each.header for name, each in tensors.items() if each.header is not None}


def folder_of(folder: Path) -> Path | None:
    """The folder that holds the weights' `.metadata`: this one, or the one in it; None if there is none."""
    places = (folder, *(folder / name for name in FOLDERS))
    return next((place for place in places if (place / METADATA).is_file()), None)


def read_distributed(folder: Path) -> Distributed:
    """What the metadata of a distributed checkpoint says.

    Raises `CheckpointError` for metadata that holds anything but what torch writes, that contradicts itself,
    or that names files outside the folder or missing from it.
    """
    said = unpickled(folder / METADATA)
    try:
        return _read(folder, said)
    except CheckpointError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _broken(folder, f"{type(error).__name__}: {error}") from error


def numbers_of(chunk: Chunk, header: Header) -> Numbers:
    """Where a chunk's numbers lie. Raises `CheckpointError` where its archive holds anything but them."""
    with chunk.path.open("rb") as file:
        try:
            with zipfile.ZipFile(_Part(file, chunk.start, chunk.length)) as held:
                (entry,) = (entry for entry in held.infolist() if "/data/" in entry.filename)
                strides = _strides(held, tuple(map(len, chunk.box)))
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != _bytes(chunk, header):
                raise ValueError(f"it has {entry.file_size:,} of {_bytes(chunk, header):,} bytes")
            file.seek(chunk.start + entry.header_offset)
            local = file.read(LOCAL)
            if local[:4] != ZIP:
                raise ValueError("it has no entry where its index says")
        except (zipfile.BadZipFile, pickle.UnpicklingError, ValueError, KeyError, OSError) as error:
            raise CheckpointError(
                f"{chunk.path.name} does not hold the numbers that its metadata says at byte"
                f" {chunk.start:,} ({error}): save the checkpoint again"
            ) from error
    name, extra = int.from_bytes(local[26:28], "little"), int.from_bytes(local[28:30], "little")
    return Numbers(chunk.start + entry.header_offset + LOCAL + name + extra, strides)


def _bytes(chunk: Chunk, header: Header) -> int:
    return prod(map(len, chunk.box)) * BITS[header.dtype] // 8


def check_all_there(folder: Path, name: str, saved: Saved) -> None:
    """Refuse a tensor whose chunks do not hold each of its entries once: they lie apart, and are as many."""
    header, chunks = saved.header, saved.chunks
    assert header is not None, name
    if header.dtype not in BITS:
        raise CheckpointError(f"{name} is of dtype {header.dtype!r}, which is not known")
    inside = all(
        r.start >= 0 and r.stop <= n for chunk in chunks for r, n in zip(chunk.box, header.shape, strict=True)
    )
    count = sum(prod(map(len, chunk.box)) for chunk in chunks)
    if not inside or count != prod(header.shape):
        raise _broken(folder, f"its chunks of {name} are {count:,} of {prod(header.shape):,} entries")
    if not _are_apart([chunk.box for chunk in chunks]):
        raise _broken(folder, f"two of its chunks of {name} hold the same entries, and none holds others")


def _are_apart(boxes: Sequence[Box]) -> bool:
    """Whether no two boxes share an entry: each is held against those that reach as far as it begins."""
    if not boxes or not boxes[0]:
        return len(boxes) < 2
    dim = max(range(len(boxes[0])), key=lambda d: len({box[d].start for box in boxes}))
    before: list[Box] = []
    for box in sorted(boxes, key=lambda box: box[dim].start):
        before = [other for other in before if other[dim].stop > box[dim].start]
        if any(overlap(other, box) is not None for other in before):
            return False
        before.append(box)
    return True


# ── what it says ──


def _read(folder: Path, said: Any) -> Distributed:
    paths = {name: tuple(path) for name, path in (said.planner_data or {}).items()}
    places = {(index.fqn, _offset(index)): info for index, info in said.storage_data.items()}
    chunk = partial(_chunk, folder, cache(partial(_file, folder)))  # one look at each file, not at each chunk
    saved: dict[str, Saved] = {}
    for fqn, about in said.state_dict_metadata.items():
        tensor = hasattr(about, "chunks")
        header = Header(tuple(map(int, about.size)), str(about.properties.dtype)) if tensor else None
        parts = tuple(_chunks(chunk, fqn, about, places)) if tensor else (chunk((), places[fqn, ()]),)
        saved[fqn] = Saved(paths.get(fqn) or (fqn,), header, parts)
    return Distributed(folder, saved)


def _weight(fqn: str, path: tuple[Any, ...], under: tuple[str, ...]) -> str | None:
    """The name that a model has for an entry; None for what is none of its weights."""
    if under:
        behind = path[len(under) :]
        return ".".join(map(str, behind)) if behind and path[: len(under)] == under else None
    return None if fqn.startswith(OTHERS) else ".".join(map(str, path))


def _chunks(
    chunk: Callable[[Box, Any], Chunk],
    fqn: str,
    about: Any,
    places: Mapping[tuple[str, tuple[int, ...]], Any],
) -> Iterator[Chunk]:
    for each in about.chunks:
        box = tuple(range(o, o + n) for o, n in zip(each.offsets, each.sizes, strict=True))
        if all(box) or not box:
            info = places[fqn, tuple(each.offsets)]
            if getattr(info, "transform_descriptors", None):
                raise CheckpointError(f"{fqn} is stored compressed, which can't be mapped: save it as it is")
            yield chunk(box, info)


def _offset(index: Any) -> tuple[int, ...]:
    return tuple(getattr(index, "offset", None) or ())


def _chunk(folder: Path, file: Callable[[str], tuple[Path, int]], box: Box, info: Any) -> Chunk:
    path, size = file(str(info.relative_path))
    start, length = int(info.offset), int(info.length)
    if start < 0 or length < 0 or start + length > size:
        raise CheckpointError(
            f"{path.name} in {folder} has {size:,} bytes, and by the metadata numbers lie at byte {start:,}"
            f" to {start + length:,}: it is cut off, or another checkpoint's; copy it again"
        )
    return Chunk(box, path, start, length)


def _file(folder: Path, name: str) -> tuple[Path, int]:
    """A file of the folder, and how many bytes it has."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise CheckpointError(
            f"the metadata in {folder} names the file {name!r}, which is outside of it: nothing was read"
        )
    if not (folder / path).is_file():
        raise CheckpointError(f"{name} is missing from {folder}, and its metadata names it: copy it, too")
    return folder / path, (folder / path).stat().st_size


def _strides(held: zipfile.ZipFile, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of an archive's tensor, which must be of this shape, dense and little-endian."""
    order = next((name for name in held.namelist() if name.endswith("/byteorder")), None)
    if order is not None and held.read(order) != b"little":
        raise ValueError("its numbers are big-endian")
    pickled = next(name for name in held.namelist() if name.endswith("/data.pkl"))
    found: list[tuple[Any, ...]] = []
    _Tensor(io.BytesIO(held.read(pickled)), found).load()
    ((start, size, strides),) = found
    last = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if start or tuple(size) != shape or min(strides, default=0) < 0 or (all(shape) and last >= prod(shape)):
        raise ValueError(f"its tensor is of shape {list(size)}, strides {list(strides)}")
    return tuple(strides)


class _Tensor(pickle.Unpickler):
    """Of a tensor that torch saved: where its numbers begin, its shape and its strides."""

    def __init__(self, file: io.BytesIO, found: list[tuple[Any, ...]]) -> None:
        super().__init__(file)
        self.found = found

    def find_class(self, module_name: str, global_name: str, /) -> Callable[..., Any]:
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return dict
        if module_name == "torch._utils" and global_name.startswith("_rebuild_tensor"):
            return self._tensor
        if module_name in ("torch", "torch.storage"):
            return first
        if (module_name, global_name) == ("torch._utils", "_rebuild_parameter"):
            return first
        raise ValueError(f"it names {module_name}.{global_name}")

    def persistent_load(self, pid: Any) -> Any:
        return None

    def _tensor(self, storage: Any, start: int, size: Any, stride: Any, *_: Any) -> None:
        self.found.append((start, tuple(size), tuple(stride)))


class _Part(io.RawIOBase):
    """A part of an open file, as a file of its own."""

    def __init__(self, file: Any, start: int, length: int) -> None:
        self.file, self.start, self.length, self.at = file, start, length, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.length}[whence]
        self.at = max(0, base + offset)
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self.length - self.at)
        self.file.seek(self.start + self.at)
        data = self.file.read(left if size < 0 else min(size, left))
        self.at += len(data)
        return data


def _broken(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"the metadata in {folder} contradicts itself ({why:.300}): save the checkpoint again by"
        " torch.distributed.checkpoint"
    )
