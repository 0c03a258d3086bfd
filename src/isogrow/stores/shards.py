"""The safetensors format, and how Hugging Face splits a checkpoint into shards: headers, no tensors.

    8 bytes, little-endian: the header's length n | n bytes of JSON | the tensors' bytes, row-major

The header says for every tensor its dtype, shape and [start, stop) counted from the header's end; so a
checkpoint's shapes are known without reading a weight, and its files are laid out before one is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, cast

from isogrow.errors import CheckpointError, OutputError
from isogrow.plans.anatomy import Header
from isogrow.plans.pieces import Box
from isogrow.stores.dtypes import BITS

HEADER_LIMIT = 100_000_000  # the format's own
UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}

Names = Mapping[str, Header]


@dataclass(frozen=True)
class Span:
    """Where one tensor's bytes lie: [start, stop) of a file."""

    header: Header
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """One file to be written: its name, and its tensors in the order in which they lie in it."""

    file: str
    tensors: Mapping[str, Header]

    @cached_property
    def header(self) -> bytes:
        return header_bytes(self.tensors)

    @property
    def size(self) -> int:
        """The whole file's bytes."""
        return len(self.header) + sum(map(nbytes, self.tensors.values()))

    @cached_property
    def starts(self) -> dict[str, int]:
        """The byte of the file at which each tensor begins."""
        ends = accumulate(map(nbytes, self.tensors.values()), initial=len(self.header))
        return dict(zip(self.tensors, ends, strict=False))


def nbytes(header: Header) -> int:
    """The bytes of a tensor.

    >>> nbytes(Header((3, 5), "BF16"))
    30
    """
    return prod(header.shape) * BITS[header.dtype] // 8


def region_bytes(region: Box, dtype: str) -> int:
    """The bytes of a region of a tensor.

    >>> region_bytes((range(2, 5), range(5)), "BF16")
    30
    """
    return nbytes(Header(tuple(map(len, region)), dtype))


# ── reading ──


LFS = b"version "  # how the pointer begins that Git LFS leaves where a file was not fetched


def read_spans(path: Path) -> dict[str, Span]:
    """Every tensor of a safetensors file, by name.

    Raises `CheckpointError` for a file that is cut off or whose header contradicts itself.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        check_fetched(path, start)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or (length + 8 > size and length <= HEADER_LIMIT):
            raise _cut_off(path, size, length + 8 if len(start) == 8 else 8)
        if length > HEADER_LIMIT:
            raise CheckpointError(
                f"{path.name} is no safetensors file: its header would be {length:,} bytes long"
            )
        raw = file.read(length)
    places = {
        name: _place(path, name, entry, length + 8)
        for name, entry in _header(path, raw).items()
        if name != "__metadata__"
    }
    end = max((place.stop for place in places.values()), default=0)
    if end > size:
        raise _cut_off(path, size, end)
    if max(end, length + 8) < size:
        raise CheckpointError(
            f"{path.name} has {size - max(end, length + 8):,} bytes after its last tensor: fetch it again"
        )
    return places


def check_fetched(path: Path, start: bytes) -> None:
    """Refuse a file that begins as the pointer does which stands for one that was not fetched."""
    if start.startswith(LFS):
        raise CheckpointError(
            f"{path.name} is a pointer of Git LFS, not the file that it stands for: run git lfs pull, or"
            " fetch the file itself"
        )


def _cut_off(path: Path, size: int, expected: int) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is cut off: it has {size:,} of at least {expected:,} bytes; fetch it again"
    )


def _header(path: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands in it twice")
        return found

    try:
        found = json.loads(raw, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} has a broken header ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path.name} has a broken header (no object): fetch it again")
    return cast("dict[str, Any]", found)


def _place(path: Path, name: str, entry: Any, base: int) -> Span:
    try:
        dtype, shape = str(entry["dtype"]), tuple(entry["shape"])
        start, stop = entry["data_offsets"]
        numbers = (*shape, start, stop)
        sound = {*map(type, numbers)} == {int} and min(numbers) >= 0
    except (KeyError, TypeError, ValueError):
        dtype, shape, start, stop, sound = "", (), 0, 0, False
    if not sound:
        raise CheckpointError(f"{path.name} has a broken header entry for {name!r}: fetch it again")
    if dtype not in BITS:
        raise CheckpointError(
            f"{name} in {path.name} is of dtype {dtype!r}, which is not known: convert the model to"
            " float32, float16 or bfloat16"
        )
    header = Header(shape, dtype)
    if stop - start != nbytes(header):
        raise CheckpointError(
            f"{name} in {path.name} is {dtype} {list(shape)}, {nbytes(header):,} bytes, but its header"
            f" gives it {stop - start:,}: fetch the file again"
        )
    return Span(header, base + start, base + stop)


# ── writing ──


def header_bytes(tensors: Names) -> bytes:
    """What stands before the tensors in a file that holds them in this order."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, header in tensors.items():
        offsets = [place, place + nbytes(header)]
        entries[name] = {
            "dtype": header.dtype,
            "shape": list(header.shape),
            "data_offsets": offsets,
        }
        place = offsets[1]
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def shards(tensors: Names, limit: int) -> tuple[Shard, ...]:
    """Tensors in files of at most `limit` bytes of tensors (or one tensor), under Hugging Face's names.

    >>> [s.file for s in shards({"a": Header((3,), "F32"), "b": Header((5,), "F32")}, 20)]
    ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """
    groups: list[dict[str, Header]] = [{}]
    filled = 0
    for name, header in tensors.items():
        if groups[-1] and filled + nbytes(header) > limit:
            groups.append({})
            filled = 0
        groups[-1][name] = header
        filled += nbytes(header)
    files = [
        "model.safetensors" if len(groups) == 1 else f"model-{i:05d}-of-{len(groups):05d}.safetensors"
        for i in range(1, len(groups) + 1)
    ]
    return tuple(Shard(file, _aligned(group)) for file, group in zip(files, groups, strict=True))


def _aligned(group: dict[str, Header]) -> dict[str, Header]:
    """Wider dtypes first, so that no tensor starts between two of its own numbers."""
    return dict(sorted(group.items(), key=lambda item: -BITS[item[1].dtype]))


def index_json(split: Iterable[Shard]) -> dict[str, Any]:
    """The contents of model.safetensors.index.json."""
    found = {name: (shard.file, header) for shard in split for name, header in shard.tensors.items()}
    total = sum(nbytes(header) for _, header in found.values())
    weight_map = {name: file for name, (file, _) in sorted(found.items())}
    return {"metadata": {"total_size": total}, "weight_map": weight_map}


def parse_bytes(size: int | str) -> int:
    """A number of bytes: `5_000_000_000` or `"5GB"`, in decimal units as Hugging Face counts.

    >>> parse_bytes("500MB"), parse_bytes("1.5GiB")
    (500000000, 1610612736)
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?) ?([KMGT]?)(I?)B?", str(size).strip().upper())
    count = 0
    if found is not None:
        count = int(float(found[1]) * (1024 if found[3] else 1000) ** UNITS[found[2]])
    if count < 1:
        raise OutputError(f"{size!r} is no number of bytes: give one like 5GB or 500MB")
    return count
