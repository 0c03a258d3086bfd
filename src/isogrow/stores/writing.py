"""Filling the files of a checkpoint, by workers that need no order: each region's place is known beforehand.

What a tensor needs of the old model as a whole (`statistics`) is made ahead, while the tensors before it are
filled. A tensor that is an old one, byte for byte, is copied from file to file by the system. Several ranks
write at once, each its own stretch of all that is to be written (`shares`): most files are one rank's alone,
and have their names as soon as they are whole; those that two ranks meet in the first one begins and ends.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from threading import Lock, get_ident

import torch

from isogrow.numbers.filling import Drawings, Read, Stats, remembered
from isogrow.numbers.initializers import PARTS
from isogrow.numbers.statistics import statistics
from isogrow.plans.anatomy import Anatomy, Header, Stored
from isogrow.plans.boxes import chunks
from isogrow.plans.parts import made_of
from isogrow.plans.pieces import Box, Draw, whole
from isogrow.plans.plan import Plan
from isogrow.stores.binding import as_it_was, check_range, fill_region_, reader
from isogrow.stores.carrying import dump
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.files import (
    File,
    begin,
    copied,
    finish,
    is_written,
    part_written,
    read_back,
    written,
)
from isogrow.stores.items import Item
from isogrow.stores.shards import Shard, index_json, nbytes, region_bytes
from isogrow.stores.shares import Share, dealt, shared
from isogrow.stores.staging import write_file
from isogrow.stores.store import Filed, Store, all_of
from isogrow.stores.workers import MOST, Pool, computing, pool, results
from isogrow.stores.writers import ONE, Writers

INDEX = "model.safetensors.index.json"
CHUNK = 1 << 20  # entries of a slab
COPIED = 1 << 24  # bytes that are copied at a time
AHEAD = 2  # tensors whose statistics are made before their turn
NEIGHBOURS = MOST + 1  # tensors whose regions are asked for at a time

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
        with computing():
            fill_region_(entries, self.stored, region, self.source.plan, self.read, self.stats, self.drawings)
            check_range(entries, self.name, partial(all_of, self.source.store, self.stored.source))


@dataclass(frozen=True)
class ByteRange:
    """So many bytes of a tensor, from byte `at` of it on: a region that is filled, or (None) copied."""

    at: int
    size: int
    region: Box | None


@dataclass(frozen=True)
class Own:
    """What one process writes of a tensor, and where an old file has all of it, if it has."""

    place: tuple[Path, int] | None
    parts: tuple[ByteRange, ...]


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
    writers: Writers = ONE,
) -> None:
    """Write safetensors files, and their index; those that an earlier run left whole stay. `tick` is told the
    bytes that are done here, `limit` entries are made at a time by each worker. `hashes` gets the sha256 of
    each file that is written."""
    shards = tuple(shards)
    whole = writers.meet([shard.file for shard in shards if is_written(folder, shard)])[0]
    left = {shard.file: _size(shard) for shard in shards if shard.file not in whole}
    share, starts = shared(writers.world, left)
    owners = {file: share.owners(starts[file], size) for file, size in left.items()}
    parted = [shard for shard in shards if len(owners.get(shard.file, ())) > 1]
    _by_first(writers, partial(begin, folder), parted)
    make, buffers = turns_of(source), dict[int, torch.Tensor]()
    slab = partial(_slab, buffers, limit)
    with pool(made_whole(tensors.values(), source.plan), writers.beside) as workers:
        for shard in shards:
            if shard.file in whole:
                tick(_size(shard) // writers.world)
            elif writers.me in owners[shard.file]:
                own = _own(shard, tensors, source, limit, writers.me, share, starts[shard.file])
                alone = len(owners[shard.file]) == 1
                hashed = None if hashes is None or writers.world > 1 else hashlib.sha256(shard.header)
                with (written if alone else part_written)(folder, shard) as file:
                    turns = ahead(((name, tensors[name]) for name in own), make, workers)
                    told = tick if hashed is None else _hashing(tick, hashed.update, file)
                    _write(file, turns, own, workers, slab, told)
                if hashes is not None and hashed is not None:
                    hashes[shard.file] = hashed.hexdigest()
    _by_first(writers, partial(finish, folder), parted)
    if hashes is not None and writers.world > 1:
        own = {shard.file: hashed_file(folder / shard.file) for shard in shards[writers.me :: writers.world]}
        for said in writers.meet(own):
            hashes |= said
    if len(shards) > 1 and writers.me == 0:
        write_file(folder / INDEX, dump(index_json(shards)))


def hashed_file(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(shard: Shard) -> int:
    return sum(map(nbytes, shard.tensors.values()))


def _by_first(writers: Writers, work: Callable[[Shard], None], shards: Iterable[Shard]) -> None:
    """What the first rank does with files between two meetings, so that nobody is at work on them."""
    writers.meet(None)
    if writers.me == 0:
        for shard in shards:
            work(shard)
    writers.meet(None)


def _own(
    shard: Shard,
    tensors: Mapping[str, Stored],
    source: Source,
    limit: int,
    me: int,
    share: Share,
    start: int,
) -> dict[str, Own]:
    """What is written by this process of a file whose tensors begin at `start` of all that is shared."""
    found: dict[str, Own] = {}
    for name, header in shard.tensors.items():
        if me in share.owners(start, nbytes(header)):
            place = _place(source, tensors[name])
            parts = ((part.size, part) for part in _parts(header, limit, place is not None))
            own = tuple(part for who, part in dealt(share, parts, start) if who == me)
            found |= {name: Own(place, own)} if own else {}
        start += nbytes(header)
    return found


def _place(source: Source, stored: Stored) -> tuple[Path, int] | None:
    """Where an old file has the tensor as it is to be, byte for byte."""
    old = as_it_was(source.anatomy, source.plan, stored)
    return source.store.place(old) if old is not None and isinstance(source.store, Filed) else None


def _parts(header: Header, limit: int, copied: bool) -> Iterator[ByteRange]:
    """A tensor's bytes as they are written, in their order."""
    size, at = nbytes(header), 0
    if copied:
        yield from (ByteRange(at, min(COPIED, size - at), None) for at in range(0, size, COPIED))
        return
    for region in chunks(whole(header.shape), tuple(range(len(header.shape))), limit):
        part = ByteRange(at, region_bytes(region, header.dtype), region)
        yield part
        at += part.size


def _hashing(tick: Tick, update: Callable[[memoryview], object], file: File) -> Tick:
    """Ticks that hash what is done, which is done in the order of the file."""
    place = len(file.shard.header)

    def told(count: int) -> None:
        nonlocal place
        read_back(file.descriptor, place, count, update)
        place += count
        tick(count)

    return told


def items_of(
    tensors: Mapping[str, Stored], source: Source, under: tuple[str, ...], neighbours: int
) -> dict[str, Item]:
    """A grown model's tensors in a distributed checkpoint, below these keys; each is filled when it is
    written, so many at a time."""
    fill = regions_of(source, neighbours)
    return {
        ".".join((*under, name)): Item((*under, name), each.header, fill=partial(fill, name, each))
        for name, each in tensors.items()
    }


def regions_of(
    source: Source, neighbours: int = NEIGHBOURS
) -> Callable[[str, Stored, Box, torch.Tensor], None]:
    """Fills regions of tensors, one tensor after the other; several threads may be at neighbours, each of
    which one of them makes ready."""
    make, turns, lock = turns_of(source), OrderedDict[str, Future[Turn]](), Lock()

    def turn(name: str, stored: Stored) -> Turn:
        with lock:
            first = name not in turns
            found = turns.setdefault(name, Future[Turn]())
            while len(turns) > neighbours:
                turns.popitem(last=False)
        if first:
            try:
                found.set_result(make(name, stored))
            except BaseException as error:  # whoever waits for it hears of it
                found.set_exception(error)
        return found.result()

    def fill(name: str, stored: Stored, region: Box, entries: torch.Tensor) -> None:
        turn(name, stored).fill_(entries, region)

    return fill


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
    own: Mapping[str, Own],
    workers: Pool,
    slab: Callable[[File, Turn, Box], int],
    tick: Tick,
) -> None:
    """Fill what is this process's own of a file. Whatever happens, no thread writes to it any more when this
    ends."""
    works = (work for turn in turns for work in _works(file, turn, own[turn.name], slab))
    with closing(turns), closing(results(works, workers, workers.count)) as done:
        for size in done:
            tick(size)


def _works(
    file: File, turn: Turn, own: Own, slab: Callable[[File, Turn, Box], int]
) -> Iterator[Callable[[], int]]:
    """What is to be done for a tensor, in any order: each part says how many bytes it has written."""
    to = file.shard.starts[turn.name]
    for part in own.parts:
        if part.region is not None:
            yield partial(slab, file, turn, part.region)
        elif own.place is not None:
            path, start = own.place
            yield partial(copied, path, file.descriptor, start + part.at, to + part.at, part.size)


def _slab(buffers: dict[int, torch.Tensor], limit: int, file: File, turn: Turn, region: Box) -> int:
    """Fill a region in the worker's own buffer, and write it."""
    entries = room(buffers, limit, turn.stored.header.dtype, region)
    turn.fill_(entries, region)
    file.write(turn.name, region, entries)
    return entries.nbytes


def room(buffers: dict[int, torch.Tensor], limit: int, word: str, region: Box) -> torch.Tensor:
    """Room for a region of at most `limit` entries of this dtype, in the buffer of this thread."""
    dtype = torch_dtype(word)
    assert dtype is not None, word
    if get_ident() not in buffers:
        buffers[get_ident()] = torch.empty(limit * 8, dtype=torch.uint8)
    held = buffers[get_ident()][: prod(map(len, region)) * dtype.itemsize].view(dtype)
    return held.view([len(r) for r in region])
