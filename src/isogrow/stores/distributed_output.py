"""Writing a distributed checkpoint of torch (DCP): `dcp.load` reads it on any number of ranks.

Each chunk is an archive whose length is known before its numbers are (`frames`), so that all chunks have
their places beforehand, and workers fill them in any order, slab by slab, each where it belongs. Several
ranks write at once, each a file of its own with its stretch of the chunks (`shares`). Each knows what all of
them write, so nothing is said about it, and the first writes the metadata (`distributed_metadata`).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from isogrow.plans.boxes import chunks
from isogrow.plans.pieces import Box, whole
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.files import write_at
from isogrow.stores.frames import Frame, Place, frame_of
from isogrow.stores.items import Item
from isogrow.stores.shards import region_bytes
from isogrow.stores.shares import Share, dealt
from isogrow.stores.workers import pool, results
from isogrow.stores.writers import ONE, Writers
from isogrow.stores.writing import CHUNK, Tick, room

PART = 1 << 22  # entries of a chunk
Named = tuple[str, Box]  # a tensor's name and a chunk of it, or a value's and no box
Framed = Callable[[tuple[int, ...], str], Frame]
Also = Callable[[], Mapping[str, tuple[tuple[str | int, ...], str]]]


def write_distributed(
    folder: Path,
    items: Mapping[str, Item],
    tick: Tick,
    limit: int | None = None,
    writers: Writers = ONE,
    alone: bool = False,
    also: Also = dict,
) -> None:
    """Write a distributed checkpoint into a folder that is there, in chunks of at most `limit` entries.

    Of each tensor each region is asked for once, by threads that are at neighbouring chunks (`alone`: by this
    one). `tick` is told the bytes that are done here. `also` is asked at the end, by the first of the
    writers: further names, each with its keys and the name of the tensor that has it too.
    """
    asked = [(size, (name, box)) for name, item in items.items() for size, box in _asked(item, limit or PART)]
    plans = [list[Named]() for _ in range(writers.world)]
    for rank, each in dealt(Share(writers.world, sum(size for size, _ in asked)), asked):
        plans[rank].append(each)
    framed = cache(_framed)
    if plans[writers.me]:
        own = list(_placed(items, plans[writers.me], framed))
        _write(folder / _file(writers.me), items, own, tick, writers.beside, alone)
    writers.meet(None)
    if writers.me == 0:
        # torch.distributed loads with it: at the end, when other processes may have to be waited for anyway.
        from isogrow.stores.distributed_metadata import write_metadata

        places = {_file(rank): list(_placed(items, own, framed)) for rank, own in enumerate(plans)}
        write_metadata(folder, items, places, also())


def clear(folder: Path) -> None:
    """Remove what a run on other ranks left in a folder that is to be written."""
    for path in (*folder.glob("*.distcp"), *folder.glob(".metadata*")):
        path.unlink()


# ── what is written where ──


def _asked(item: Item, limit: int) -> Iterator[tuple[int, Box]]:
    """An item's chunks, and of how many bytes each is."""
    if item.header is None:
        yield len(item.data), ()
        return
    box = whole(item.header.shape)
    parts = chunks(box, tuple(range(len(box))), limit) if prod(item.header.shape) else iter([box])
    yield from ((region_bytes(part, item.header.dtype), part) for part in parts)


def _placed(items: Mapping[str, Item], plan: Iterable[Named], framed: Framed) -> Iterator[Place]:
    """What one rank writes, one after the other."""
    start = 0
    for name, box in plan:
        item = items[name]
        frame = None if item.header is None else framed(tuple(map(len, box)), item.header.dtype)
        length = len(item.data) if frame is None else frame.length
        yield Place(name, box, start, length, frame)
        start += length


def _framed(shape: tuple[int, ...], word: str) -> Frame:
    dtype = torch_dtype(word)
    assert dtype is not None, word
    return frame_of(shape, dtype)


def _file(rank: int) -> str:
    """The name that torch's own writer gives it."""
    return f"__{rank}_0.distcp"


# ── writing ──


def _write(
    path: Path, items: Mapping[str, Item], places: Sequence[Place], tick: Tick, beside: int, alone: bool
) -> None:
    """One rank's file. Whatever happens, no thread writes to it any more when this ends."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)
    file, rooms = os.open(path, flags, 0o666), dict[int, Tensor]()
    try:
        with pool(alone, beside) as workers:
            works = (partial(_put, file, items[each.name], each, rooms) for each in places)
            with closing(results(works, workers, workers.count)) as done:
                for size in done:
                    tick(size)
        os.fsync(file)
    finally:
        os.close(file)


def _put(file: int, item: Item, place: Place, rooms: dict[int, Tensor]) -> int:
    """Write a value, or fill a chunk slab by slab; says how many bytes it has."""
    if place.frame is None:
        write_at(file, memoryview(item.data), place.start)
        return len(item.data)
    write_at(file, memoryview(place.frame.before), place.start)
    at, checksum = place.start + len(place.frame.before), 0
    for data in _slabs(item, place.box, rooms):
        write_at(file, data, at)
        at, checksum = at + len(data), zlib.crc32(data, checksum)
    write_at(file, memoryview(place.frame.ended(checksum)), at)
    return place.frame.size


def _slabs(item: Item, box: Box, rooms: dict[int, Tensor]) -> Iterator[memoryview]:
    """The bytes of a chunk in their order, each slab in this thread's room."""
    assert item.header is not None and item.fill is not None, item.path
    for region in chunks(box, tuple(range(len(box))), CHUNK) if all(box) else ():
        entries = room(rooms, CHUNK, item.header.dtype, region)
        item.fill(region, entries)
        yield memoryview(entries.view(-1).view(torch.uint8).numpy())  # pyright: ignore[reportArgumentType]
