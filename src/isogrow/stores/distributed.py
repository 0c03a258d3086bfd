"""Distributed checkpoints of torch (DCP): what `.metadata` says, and where each chunk's bytes lie.

`.metadata` is a pickle, and torch itself unpickles whatever is in it. Here nothing but a few names is
allowed, and what they stand for is inert data of our own, so no code of a file is ever run, and no torch is
loaded. A chunk is an archive as `torch.save` writes it, its entries uncompressed: its numbers are mapped.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from isogrow.errors import CheckpointError
from isogrow.plans.anatomy import Header
from isogrow.plans.pieces import Box
from isogrow.stores.dtypes import BITS, WORDS

METADATA = ".metadata"
# What Accelerate calls the folder of a model's weights beside that of its optimizer's.
FOLDERS = ("pytorch_model_fsdp_0", "model")
MODEL = "model"  # the key of a model's state, where an optimizer's is saved beside it
OTHERS = ("state.", "param_groups.", "optimizer.", "optim.")  # how names begin that are no weights'
LIMIT = 1 << 30  # bytes of metadata: a checkpoint of a million chunks has about 200 MB
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
        """The keys that lead to the model's tensors."""
        below = any(each.path[0] == MODEL and len(each.path) > 1 for each in self.saved.values())
        return (MODEL,) if below else ()

    @cached_property
    def weights(self) -> Mapping[str, Saved]:
        """A model's tensors, by the names that the model has for them; each is all there."""
        tensors = ((fqn, each) for fqn, each in self.saved.items() if each.header is not None)
        named = {_weight(fqn, each.path, bool(self.under)): each for fqn, each in tensors}
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
    said = _unpickled(folder / METADATA)
    try:
        return _read(folder, said)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _broken(folder, f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Numbers:
    """Where a chunk's numbers lie: the byte of its file at which they begin, and their strides."""

    start: int
    strides: tuple[int, ...]


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
    starts = {tuple(r.start for r in chunk.box) for chunk in chunks}
    count = sum(prod(map(len, chunk.box)) for chunk in chunks)
    if not inside or len(starts) != len(chunks) or count != prod(header.shape):
        raise _broken(folder, f"its chunks of {name} are {count:,} of {prod(header.shape):,} entries")


# ── reading the pickle ──


class _Inert:
    """An object of torch's metadata as data: its fields, and nothing that could be called."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Inert) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        said: Any = self.__dict__
        return (said.get("fqn"), said.get("offset"), said.get("index"))


class _Properties(_Inert):
    """A tensor's properties, which torch saves in order: its dtype first."""

    def __setstate__(self, state: Any) -> None:
        self.dtype = state[0] if isinstance(state, tuple) else state["dtype"]


def _first(*given: Any) -> Any:
    """What was given, in place of what torch would make of it."""
    return given[0] if given else None


def _path(*parts: str) -> PurePosixPath:
    return PurePosixPath(*parts)


def _size(given: Any = ()) -> tuple[int, ...]:
    return tuple(given)


_OF = "torch.distributed.checkpoint."
RECORDS = (
    "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
    "TensorStorageMetadata",
)  # fmt: skip
ALLOWED: Mapping[tuple[str, str], Any] = {
    ("torch", "Size"): _size,
    ("torch.serialization", "_get_layout"): _first,
    ("pathlib", "PosixPath"): _path,
    ("pathlib._local", "PosixPath"): _path,
    ("pathlib", "PurePosixPath"): _path,
    (f"{_OF}filesystem", "_StorageInfo"): _Inert,
    (f"{_OF}metadata", "TensorProperties"): _Properties,
    (f"{_OF}metadata", "_MEM_FORMAT_ENCODING"): _first,
    **{(f"{_OF}metadata", name): _Inert for name in RECORDS},
    **{("torch", name): word for name, word in WORDS.items()},
}


class _Reader(pickle.Unpickler):
    """Unpickles nothing but what `ALLOWED` names, as what it says."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        found = ALLOWED.get((module_name, global_name))
        if found is None:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to data outside of it")


def _unpickled(path: Path) -> Any:
    if path.stat().st_size > LIMIT:
        raise CheckpointError(f"{path} is {path.stat().st_size:,} bytes long, which no metadata is")
    try:
        return _Reader(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # a pickle that is no metadata fails in any way
        raise CheckpointError(
            f"{path} holds more than the metadata of a distributed checkpoint, or is damaged, and nothing of"
            f" it was run ({error}): save the checkpoint again by torch.distributed.checkpoint"
        ) from error


# ── what it says ──


def _read(folder: Path, said: Any) -> Distributed:
    paths = {name: tuple(path) for name, path in (said.planner_data or {}).items()}
    places = {(index.fqn, _offset(index)): info for index, info in said.storage_data.items()}
    saved: dict[str, Saved] = {}
    for fqn, about in said.state_dict_metadata.items():
        tensor = hasattr(about, "chunks")
        header = Header(tuple(map(int, about.size)), str(about.properties.dtype)) if tensor else None
        parts = _chunks(folder, fqn, about, places) if tensor else _value(folder, fqn, places)
        saved[fqn] = Saved(paths.get(fqn) or (fqn,), header, tuple(parts))
    return Distributed(folder, saved)


def _weight(fqn: str, path: tuple[Any, ...], under: bool) -> str | None:
    """The name that a model has for an entry; None for what is none of its weights."""
    if under:
        return ".".join(map(str, path[1:])) if len(path) > 1 and path[0] == MODEL else None
    return None if fqn.startswith(OTHERS) else ".".join(map(str, path))


def _chunks(
    folder: Path, fqn: str, about: Any, places: Mapping[tuple[str, tuple[int, ...]], Any]
) -> Iterator[Chunk]:
    for each in about.chunks:
        box = tuple(range(o, o + n) for o, n in zip(each.offsets, each.sizes, strict=True))
        if all(box) or not box:
            info = places[fqn, tuple(each.offsets)]
            if getattr(info, "transform_descriptors", None):
                raise CheckpointError(f"{fqn} is stored compressed, which can't be mapped: save it as it is")
            yield Chunk(box, _file(folder, str(info.relative_path)), int(info.offset), int(info.length))


def _value(folder: Path, fqn: str, places: Mapping[tuple[str, tuple[int, ...]], Any]) -> Iterator[Chunk]:
    info = places[fqn, ()]
    yield Chunk((), _file(folder, str(info.relative_path)), int(info.offset), int(info.length))


def _offset(index: Any) -> tuple[int, ...]:
    return tuple(getattr(index, "offset", None) or ())


def _file(folder: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise CheckpointError(
            f"the metadata in {folder} names the file {name!r}, which is outside of it: nothing was read"
        )
    if not (folder / path).is_file():
        raise CheckpointError(f"{name} is missing from {folder}, and its metadata names it: copy it, too")
    return folder / path


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
            return _first
        if (module_name, global_name) == ("torch._utils", "_rebuild_parameter"):
            return _first
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
        f"the metadata in {folder} contradicts itself ({why}): save the checkpoint again by"
        " torch.distributed.checkpoint"
    )
