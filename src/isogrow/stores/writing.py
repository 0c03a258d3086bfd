"""Filling the files of a checkpoint, by workers that need no order: each region's place is known beforehand.

What a tensor needs of the old model as a whole (`statistics`) is made ahead, while the tensors before it are
filled. A tensor that is an old one, byte for byte, is copied from file to file by the system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from threading import get_ident

import torch

from isogrow.numbers.filling import Drawings, Read, Stats, remembered
from isogrow.numbers.initializers import PARTS
from isogrow.numbers.statistics import statistics
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import chunks
from isogrow.plans.parts import made_of
from isogrow.plans.pieces import Box, Draw, whole
from isogrow.plans.plan import Plan
from isogrow.stores.binding import as_it_was, check_range, fill_region_, reader
from isogrow.stores.carrying import dump
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.files import File, copied, is_written, read_back, written
from isogrow.stores.items import Item
from isogrow.stores.shards import Shard, index_json, nbytes
from isogrow.stores.staging import write_file
from isogrow.stores.store import Filed, Store, all_of
from isogrow.stores.workers import Pool, pool, results

INDEX = "model.safetensors.index.json"
CHUNK = 1 << 20  # entries of a slab
COPIED = 1 << 24  # bytes that are copied at a time
AHEAD = 2  # tensors whose statistics are made before their turn

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Source:
    """What is grown: a model seen through its layout, by which plan, and where its tensors are."""

    anatomy: Anatomy
    plan: Plan
    store: Store


@dataclass(frozen=True)
class Turn:
    """A tensor that is to be written, and all that filling a region of it needs."""

    source: Source
    name: str
    stored: Stored
    read: Read
    stats: Stats
    drawings: Drawings

    def fill_(self, entries: torch.Tensor, region: Box) -> None:
        """Fill a region, none of whose entries a conversion may make infinite."""
        fill_region_(entries, self.stored, region, self.source.plan, self.read, self.stats, self.drawings)
        check_range(entries, self.name, partial(all_of, self.source.store, self.stored.source))


@contextmanager
def one_thread() -> Generator[None]:
    """Slabs are too small to share out: threads that wait for each other cost more than they copy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_shards(
    folder: Path,
    shards: Iterable[Shard],
    tensors: Mapping[str, Stored],
    source: Source,
    limit: int,
    tick: Tick,
    hashes: dict[str, str] | None = None,
) -> None:
    """Write safetensors files, and their index; those that an earlier run left whole stay. `tick` is told the
    bytes that are done, `limit` entries are made at a time by each worker. `hashes` gets the sha256 of
    each file that is written."""
    shards = tuple(shards)
    make, buffers = turns_of(source), dict[int, torch.Tensor]()
    with pool(alone=made_whole(tensors.values(), source.plan)) as workers:
        for shard in shards:
            if is_written(folder, shard):
                tick(sum(map(nbytes, shard.tensors.values())))
                continue
            hashed = None if hashes is None else hashlib.sha256(shard.header)
            with written(folder, shard) as file:
                own = ((name, tensors[name]) for name in shard.tensors)
                told = tick if hashed is None else _hashing(tick, hashed.update, file)
                slab = partial(_slab, buffers, limit)
                _write(file, ahead(own, make, workers), workers, slab, limit, told)
            if hashes is not None and hashed is not None:
                hashes[shard.file] = hashed.hexdigest()
    if len(shards) > 1:
        write_file(folder / INDEX, dump(index_json(shards)))


def _hashing(tick: Tick, update: Callable[[memoryview], object], file: File) -> Tick:
    """Ticks that hash what is done, which is done in the order of the file."""
    place = len(file.shard.header)

    def told(count: int) -> None:
        nonlocal place
        read_back(file.descriptor, place, count, update)
        place += count
        tick(count)

    return told


def items_of(tensors: Mapping[str, Stored], source: Source, under: tuple[str, ...] = ()) -> dict[str, Item]:
    """A grown model's tensors in a distributed checkpoint, below these keys; each is filled when it is
    written."""
    filled = regions_of(source)
    return {
        ".".join((*under, name)): Item((*under, name), each.header, fill=partial(filled, name, each))
        for name, each in tensors.items()
    }


def regions_of(source: Source) -> Callable[[str, Stored, Box], torch.Tensor]:
    """Makes regions of tensors, of their dtypes, one tensor after the other."""
    make, turns = turns_of(source), dict[str, Turn]()

    def filled(name: str, stored: Stored, region: Box) -> torch.Tensor:
        entries = torch.empty([len(r) for r in region], dtype=torch_dtype(stored.header.dtype))
        if name not in turns:
            turns.clear()
            turns[name] = make(name, stored)
        turns[name].fill_(entries, region)
        return entries

    return filled


def made_whole(tensors: Iterable[Stored], plan: Plan) -> bool:
    """Whether regions are made whole, which one thread does, the growth's own: one is held at a time, and a
    function of the user's is not asked twice at once."""
    values = (piece.value for stored in tensors for _, piece in made_of(stored, plan))
    return any(isinstance(value, Draw) and value.init.kind not in PARTS for value in values)


def turns_of(source: Source) -> Callable[[str, Stored], Turn]:
    """Makes the turns of tensors; the stds that new entries match are made once for all of them."""
    read, matched = reader(source.anatomy, source.store), Stats().matched

    def make(name: str, stored: Stored) -> Turn:
        nonlocal matched
        own = (block for _, block in stored.blocks(source.plan.target))
        stats = statistics(source.plan, own, read, Stats(matched))
        matched = {**matched, **stats.matched}
        return Turn(source, name, stored, read, stats, remembered(source.plan, read, stats))

    return make


def ahead(
    tensors: Iterable[tuple[str, Stored]], make: Callable[[str, Stored], Turn], workers: Pool
) -> Generator[Turn]:
    """The turns of tensors, made by workers before they are asked for."""
    return results((partial(make, name, stored) for name, stored in tensors), workers, AHEAD)


def _write(
    file: File,
    turns: Generator[Turn],
    workers: Pool,
    slab: Callable[[File, Turn, Box], int],
    limit: int,
    tick: Tick,
) -> None:
    """Fill a file. Whatever happens, nobody writes to it any more when this ends."""
    works = (work for turn in turns for work in _works(file, turn, slab, limit))
    with closing(turns), closing(results(works, workers, workers.count)) as done:
        for size in done:
            tick(size)


def _works(
    file: File, turn: Turn, slab: Callable[[File, Turn, Box], int], limit: int
) -> Iterator[Callable[[], int]]:
    """What is to be done for a tensor, in any order: each part says how many bytes it has written."""
    source, header = turn.source, turn.stored.header
    old = as_it_was(source.anatomy, source.plan, turn.stored)
    place = source.store.place(old) if old is not None and isinstance(source.store, Filed) else None
    if place is not None:
        path, start = place
        to, size = file.shard.starts[turn.name], nbytes(header)
        for at in range(0, size, COPIED):
            yield partial(copied, path, file.descriptor, start + at, to + at, min(COPIED, size - at))
        return
    for region in chunks(whole(header.shape), tuple(range(len(header.shape))), limit):
        yield partial(slab, file, turn, region)


def _slab(buffers: dict[int, torch.Tensor], limit: int, file: File, turn: Turn, region: Box) -> int:
    """Fill a region in the worker's own buffer, and write it."""
    entries = room(buffers, limit, turn.stored, region)
    turn.fill_(entries, region)
    file.write(turn.name, region, entries)
    return entries.nbytes


def room(buffers: dict[int, torch.Tensor], limit: int, stored: Stored, region: Box) -> torch.Tensor:
    """Room for a region of at most `limit` entries, in the buffer of this thread."""
    dtype = torch_dtype(stored.header.dtype)
    assert dtype is not None, stored
    if get_ident() not in buffers:
        buffers[get_ident()] = torch.empty(limit * 8, dtype=torch.uint8)
    held = buffers[get_ident()][: prod(map(len, region)) * dtype.itemsize].view(dtype)
    return held.view([len(r) for r in region])
