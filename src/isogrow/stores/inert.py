"""The pickle of a distributed checkpoint's `.metadata`, read as data.

torch itself unpickles whatever is in it. Here nothing but a few names is allowed, and what they stand for is
inert data of our own, so no code of a file is ever run, and no torch is loaded.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from isogrow.errors import CheckpointError
from isogrow.stores.dtypes import WORDS

LIMIT = 1 << 30  # bytes of metadata: a checkpoint of a million chunks has about 200 MB


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


def first(*given: Any) -> Any:
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
    ("torch.serialization", "_get_layout"): first,
    ("pathlib", "PosixPath"): _path,
    ("pathlib._local", "PosixPath"): _path,
    ("pathlib", "PurePosixPath"): _path,
    (f"{_OF}filesystem", "_StorageInfo"): _Inert,
    (f"{_OF}metadata", "TensorProperties"): _Properties,
    (f"{_OF}metadata", "_MEM_FORMAT_ENCODING"): first,
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


def unpickled(path: Path) -> Any:
    """What a `.metadata` says, as inert data. Raises `CheckpointError` for one that holds anything else."""
    if path.stat().st_size > LIMIT:
        raise CheckpointError(f"{path} is {path.stat().st_size:,} bytes long, which no metadata is")
    try:
        return _Reader(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # a pickle that is no metadata fails in any way
        raise CheckpointError(
            f"{path} holds more than the metadata of a distributed checkpoint, or is damaged, and nothing of"
            f" it was run ({error}): save the checkpoint again by torch.distributed.checkpoint"
        ) from error
