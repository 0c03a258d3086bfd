"""A GGUF file as the `gguf` package reads it: its metadata, and where each tensor's numbers lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from struct import Struct
from typing import Any

from isogrow.errors import CheckpointError

FLOATS = ("F32", "F16", "BF16", "F64")  # ggml's words for these are safetensors'
ENDING, MAGIC = ".gguf", b"GGUF"
ARRAY = Struct("<IQ")  # of which type its values are, and how many
LENGTH = Struct("<Q")  # in bytes, before each string


@dataclass(frozen=True)
class Entry:
    """A tensor of a file: its shape as torch would say it, its dtype, and the byte at which it begins."""

    shape: tuple[int, ...]
    word: str
    start: int


@dataclass(frozen=True)
class File:
    """What a file says: its metadata by their keys, and its tensors by llama.cpp's names."""

    path: Path
    said: Mapping[str, Any]
    entries: Mapping[str, Entry]

    @property
    def architecture(self) -> str:
        return str(self.said.get("general.architecture"))


def read_file(path: Path) -> File:
    """What a GGUF file says; none of its numbers are read.

    Raises `CheckpointError` where the `gguf` package is missing, where the file is damaged, is one of
    several, holds no model, or has tensors that are quantized.
    """
    if find_spec("gguf") is None:
        raise CheckpointError(
            f"{path.name} is a GGUF file, which the package gguf reads, and that is not installed: pip"
            " install 'isogrow[gguf]'"
        )
    gguf: Any = import_module("gguf")
    try:
        reader = _reader(gguf)(path)
        said = {name: _value(field) for name, field in reader.fields.items()}
        found = {tensor.name: tensor for tensor in reader.tensors}
    except Exception as error:  # it raises half a dozen kinds, in numpy's words for views of arrays
        raise CheckpointError(_damaged(path, error)) from error
    _check_model(path, said, reader.endianess.name)
    return File(path, said, {name: _entry(path, each) for name, each in found.items()})


def begins(path: Path) -> bool:
    """Whether a file is a GGUF file by its first bytes: caches call theirs by what they hash to."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _damaged(path: Path, error: Exception) -> str:
    """What is wrong with a file that can't be read."""
    if isinstance(error, PermissionError):
        return f"{path.name} may not be read by this user: change who may"
    if not begins(path):
        return f"{path.name} is no GGUF file, which begin with the letters GGUF: fetch it again"
    return (
        f"{path.name} is a GGUF file that was cut off, is damaged or of a version that the package gguf does"
        f" not read ({type(error).__name__}: {str(error):.200}): fetch it again"
    )


def _reader(gguf: Any) -> Any:
    """The package's reader, which takes a list at once: it looks at each of its values otherwise, and a
    vocabulary has so many that a file would take half a minute to open. Of strings it knows how many alone.
    """
    plain, kinds = gguf.GGUFReader, gguf.GGUFValueType

    def parts(self: Any, start: int, kind: int) -> Any:
        if kind != kinds.ARRAY or self.byte_order != "I":
            return plain._get_field_parts(self, start, kind)
        inner, count = ARRAY.unpack_from(held := memoryview(self.data), start)
        types, first = [kinds.ARRAY, kinds(inner)], start + ARRAY.size
        if inner == kinds.STRING:
            return _behind(held, first, count) - start, [], [0] * count, types
        found = self._get(first, self.gguf_scalar_to_np[inner], count)
        if len(found) < count:
            raise ValueError("a list ends behind the end of the file")
        return ARRAY.size + found.nbytes, [found], [0] if count else [], types

    return type("Reader", (plain,), {"_get_field_parts": parts})


def _behind(held: memoryview, at: int, count: int) -> int:
    """The byte behind so many strings."""
    for _ in range(count):
        at += LENGTH.size + LENGTH.unpack_from(held, at)[0]
    return at


def _value(field: Any) -> Any:
    """The value of a field; of a list of strings only how many they are, since no config has them."""
    kinds = [kind.name for kind in field.types]
    return len(field.data) if kinds[-1:] == ["STRING"] and len(kinds) > 1 else field.contents()


def _check_model(path: Path, said: Mapping[str, Any], order: str) -> None:
    if said.get("general.type", "model") != "model":
        raise CheckpointError(
            f"{path.name} holds no model but a part of one (its general.type is {said['general.type']!r}):"
            " give the model's file"
        )
    if said.get("split.count", 0) not in (0, 1):
        raise CheckpointError(
            f"{path.name} is one of {said['split.count']} files: join them by llama.cpp's llama-gguf-split"
            " --merge, and give the file that it writes"
        )
    if order != "LITTLE":
        raise CheckpointError(f"{path.name} is big-endian, which can't be mapped: convert it again")


def _entry(path: Path, tensor: Any) -> Entry:
    kind = tensor.tensor_type.name
    if kind not in FLOATS:
        raise CheckpointError(
            f"{path.name} is quantized ({tensor.name} is {kind}), and growing needs the weights themselves:"
            " give the file in F32, F16 or BF16, or the model that it was made from"
        )
    shape = tuple(reversed([int(n) for n in tensor.shape]))
    return Entry(shape, kind, int(tensor.data_offset))
