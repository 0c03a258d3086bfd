"""What `torch.save` writes around a tensor's numbers, so that the numbers can be written by themselves.

A distributed checkpoint holds each chunk as such an archive. All of it but the numbers and their checksum is
known from shape and dtype: torch is asked once for each, and who has the numbers puts them between.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from isogrow.plans.pieces import Box
from isogrow.stores.distributed import LOCAL, ZIP

NUMBERS = b"/data/"  # in the name of the archive's entry that holds them
LONG = 1 << 16  # what else torch writes is shorter
# What stands behind an entry, and what the archive's index has before an entry's name; where in each the
# checksum of the entry's bytes is.
BEHIND, INDEX, INDEX_LENGTH = b"PK\x07\x08", b"PK\x01\x02", 46
IN_BEHIND, IN_INDEX = 4, 16


@dataclass(frozen=True)
class Frame:
    """The bytes before a tensor's numbers, how many those have, and the bytes after them; `name` is what the
    archive calls them."""

    before: bytes
    size: int
    after: bytes
    name: bytes

    @property
    def length(self) -> int:
        """How many bytes the archive has."""
        return len(self.before) + self.size + len(self.after)

    def ended(self, checksum: int) -> bytes:
        """The bytes after numbers of this checksum (zlib's crc32)."""
        if not self.size:  # torch writes no more than the entry's name
            return self.after
        after = bytearray(self.after)
        entry = after.index(self.name, after.index(INDEX)) - INDEX_LENGTH
        assert after.startswith(BEHIND) and after.startswith(INDEX, entry), self.name
        for at in (IN_BEHIND, entry + IN_INDEX):
            after[at : at + 4] = checksum.to_bytes(4, "little")
        return bytes(after)


@dataclass(frozen=True)
class Place:
    """Where a chunk of a tensor, or a value, stands in the file of the rank that writes it; `frame` is what
    torch puts around a chunk's numbers."""

    name: str
    box: Box
    start: int
    length: int
    frame: Frame | None


def frame_of(shape: tuple[int, ...], dtype: torch.dtype) -> Frame:
    """What torch writes around the numbers of such a tensor.

    >>> frame, file = frame_of((2, 3), torch.float32), io.BytesIO()
    >>> torch.save(torch.ones(2, 3), file)
    >>> frame.length == len(file.getvalue()), file.getvalue().startswith(frame.before)
    (True, True)
    """
    outline, size = _Outline(), prod(shape) * dtype.itemsize
    torch.save(torch.zeros(shape, dtype=dtype), outline)
    kept = outline.getvalue()
    local = kept.rindex(ZIP, 0, kept.index(NUMBERS))
    name, extra = (int.from_bytes(kept[local + at : local + at + 2], "little") for at in (26, 28))
    start = local + LOCAL + name + extra
    end = start if outline.dropped else start + size
    return Frame(kept[:start], size, kept[end:], kept[local + LOCAL : local + LOCAL + name])


class _Outline(io.BytesIO):
    """A file that keeps what is written into it, but for what is long: the numbers."""

    dropped = False

    def write(self, data: Any, /) -> int:
        if len(data) < LONG:
            return super().write(data)
        self.dropped = True
        return len(data)
