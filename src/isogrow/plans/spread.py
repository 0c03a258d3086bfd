"""Where a process's part of a sharded tensor lies: pure data, so that any rank can say it of any other.

A mesh has dims, and a rank a coordinate on each. Along a mesh dim a tensor is whole on every rank, or one of
its dims is cut into as many parts as the mesh dim is long. How it is cut is `torch.chunk`'s way: parts of
⌈n / parts⌉, the last ones short or empty.

    7 rows over 3 ranks: 0..3, 3..6, 6..7        2 rows over 3 ranks: 0..1, 1..2, 2..2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isogrow.errors import SizeError
from isogrow.plans.pieces import Box, whole


@dataclass(frozen=True)
class Cut:
    """What a mesh dim does to a tensor: dim `dim` is cut, or (None) nothing is.

    A `late` one cuts what the mesh dims behind it have left, as FSDP does around tensor parallelism.
    """

    dim: int | None = None
    late: bool = False


def chunk(r: range, parts: int, at: int) -> range:
    """The part of a range, of those that `torch.chunk` makes; empty ones lie at its end.

    >>> [chunk(range(7), 3, at) for at in range(3)]
    [range(0, 3), range(3, 6), range(6, 7)]
    """
    size = -(-len(r) // parts)
    return range(min(r.start + at * size, r.stop), min(r.start + (at + 1) * size, r.stop))


def local_box(
    shape: Sequence[int], mesh: Sequence[int], coordinate: Sequence[int], cuts: Sequence[Cut]
) -> Box:
    """The region of a tensor of this shape that the rank at a coordinate of the mesh holds: always one box.

    Cuts are made from the mesh's first dim to its last, the late ones afterwards, from the last to the first.

    >>> local_box((8, 6), (2, 2), (1, 0), (Cut(0, late=True), Cut(0)))
    (range(2, 4), range(0, 6))
    """
    box = list(whole(tuple(shape)))
    dims = range(len(cuts))
    early = [d for d in dims if not cuts[d].late]
    for d in (*early, *(d for d in reversed(dims) if cuts[d].late)):
        dim = cuts[d].dim
        if dim is not None:
            box[dim] = chunk(box[dim], mesh[d], coordinate[d])
    return tuple(box)


def check_even(name: str, shape: Sequence[int], parts: Mapping[int, int]) -> None:
    """Refuse a dim other than the first that is cut into parts which differ (`SizeError`); `parts` says into
    how many each dim is cut."""
    for dim, count in parts.items():
        size = shape[dim]
        if dim and size % count:
            below, above = size - size % count, size - size % count + count
            raise SizeError(
                f"{name} would be {list(shape)}, and its dim {dim} is cut into {count} parts, which have to"
                f" be alike: choose sizes that make it {below} or {above}"
            )
