"""Filling the files of a checkpoint: tensor by tensor, in slabs, from whatever holds the old ones."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from isogrow.numbers.filling import Stats, remembered
from isogrow.numbers.statistics import statistics
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import chunks
from isogrow.plans.pieces import Box, whole
from isogrow.plans.plan import Plan
from isogrow.stores.binding import check_range, fill_region_, reader
from isogrow.stores.carrying import dump
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.files import is_written, written
from isogrow.stores.items import Item
from isogrow.stores.shards import Shard, index_json, nbytes
from isogrow.stores.staging import write_file
from isogrow.stores.store import Output, Store, all_of

INDEX = "model.safetensors.index.json"
CHUNK = 1 << 21  # entries of a slab

Tick = Callable[[int], None]
Slab = tuple[str, Box, Tensor]  # a tensor's name, a region of it, and the region's entries


@dataclass(frozen=True)
class Source:
    """What is grown: a model seen through its layout, by which plan, and where its tensors are."""

    anatomy: Anatomy
    plan: Plan
    store: Store


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
) -> None:
    """Write safetensors files, and their index; those that an earlier run left whole stay. `tick` is told the
    bytes that are done, `limit` entries are made at a time."""
    filler, shards = Filler(source), tuple(shards)
    buffers = [torch.empty(limit * 8, dtype=torch.uint8) for _ in range(2)]
    for shard in shards:
        if is_written(folder, shard):
            tick(sum(map(nbytes, shard.tensors.values())))
            continue
        with written(folder, shard) as file:
            own = {name: tensors[name] for name in shard.tensors}
            _write(file, _slabs(own, filler, buffers, limit), tick)
    if len(shards) > 1:
        write_file(folder / INDEX, dump(index_json(shards)))


def items_of(tensors: Mapping[str, Stored], source: Source, under: tuple[str, ...] = ()) -> dict[str, Item]:
    """A grown model's tensors in a distributed checkpoint, below these keys; each is filled when it is
    written."""
    filler = Filler(source)
    return {
        ".".join((*under, name)): Item((*under, name), each.header, fill=partial(filler.filled, name, each))
        for name, each in tensors.items()
    }


class Filler:
    """Fills regions of one tensor after the other, and keeps what the first pass over a tensor found while it
    is that tensor's turn; the stds that new entries match stay."""

    def __init__(self, source: Source) -> None:
        self.source, self.read = source, reader(source.anatomy, source.store)
        self.stats, self.turn = Stats(), ""

    def filled(self, name: str, stored: Stored, region: Box) -> Tensor:
        """A region of a tensor, of its dtype."""
        entries = torch.empty([len(r) for r in region], dtype=torch_dtype(stored.header.dtype))
        self.fill_(entries, name, stored, region)
        return entries

    def fill_(self, entries: Tensor, name: str, stored: Stored, region: Box) -> None:
        """Fill a region, none of whose entries a conversion may make infinite."""
        plan = self.source.plan
        if name != self.turn:
            own = (block for _, block in stored.blocks(plan.target))
            self.stats = statistics(plan, own, self.read, Stats(self.stats.matched))
            self.drawings, self.turn = remembered(plan, self.read, self.stats), name
        fill_region_(entries, stored, region, plan, self.read, self.stats, self.drawings)
        check_range(entries, name, partial(all_of, self.source.store, stored.source))


def _slabs(
    tensors: Mapping[str, Stored], filler: Filler, buffers: list[Tensor], limit: int
) -> Iterator[Slab]:
    """A file's tensors in slabs of consecutive entries, in two buffers by turns: each holds until the slab
    after the next.

    The first pass goes tensor by tensor too, so that what it maps is still there when it is copied.
    """
    turns = cycle(buffers)
    for name, stored in tensors.items():
        dtype, shape = torch_dtype(stored.header.dtype), stored.header.shape
        assert dtype is not None, stored
        for region in chunks(whole(shape), tuple(range(len(shape))), limit):
            held = next(turns)[: prod(map(len, region)) * dtype.itemsize].view(dtype)
            entries = held.view([len(r) for r in region])
            filler.fill_(entries, name, stored, region)
            yield name, region, entries


def _write(out: Output, slabs: Iterable[Slab], tick: Tick) -> None:
    """While one slab is written, the next one is filled."""
    with ThreadPoolExecutor(1) as disk:
        before: Future[None] | None = None
        for name, region, entries in slabs:
            if before is not None:
                before.result()
            before = disk.submit(out.write, name, region, entries)
            tick(entries.nbytes)
        if before is not None:
            before.result()
