"""Writing a distributed checkpoint of torch (DCP), by torch's own writer: `dcp.load` reads it on any number
of ranks.

The writer asks for one chunk after the other, so no tensor is made before its turn, and none as a whole that
is larger than a chunk. Several ranks write at once, each a file of its own with its stretch of the chunks
(`shares`). Each knows what all of them write, so they only tell the first what became of it, which writes the
metadata.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    SavePlanner,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

from isogrow.plans.boxes import chunks
from isogrow.plans.pieces import whole
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.items import Item
from isogrow.stores.shards import region_bytes
from isogrow.stores.shares import Share, dealt
from isogrow.stores.workers import Pool, pool, results
from isogrow.stores.writers import ONE, Writers
from isogrow.stores.writing import Tick

PART = 1 << 22  # entries of a chunk
Made = tuple[MetadataIndex, Tensor]  # a chunk, and its entries


def write_distributed(
    folder: Path,
    items: Mapping[str, Item],
    tick: Tick,
    limit: int | None = None,
    writers: Writers = ONE,
    alone: bool = False,
) -> None:
    """Write a distributed checkpoint into a folder that is there, in chunks of at most `limit` entries.

    Of each tensor each region is asked for once, tensor by tensor, by a thread that is one chunk ahead of
    what is written (`alone`: by this one). `tick` is told the bytes that are done here.
    """
    asked = list(_asked(items, limit or PART))
    plans = [list[WriteItem]() for _ in range(writers.world)]
    for rank, each in dealt(Share(writers.world, sum(size for size, _ in asked)), asked):
        plans[rank].append(each)
    writer = FileSystemWriter(folder, per_thread_copy_ahead=0)  # one by one
    writer.set_up_storage_writer(writers.me == 0)
    with pool(alone, writers.beside) as workers, closing(_made(items, plans[writers.me], workers)) as made:
        planner = _Planner(items, tick, made)
        ready, metadata = planner.create_global_plan([SavePlan(own) for own in plans])
        own = writer.prepare_global_plan(ready)[writers.me]
        with _unhidden():
            done = writer.write_data(own, planner).wait() if own.items else []
    found = writers.meet(done)
    if writers.me == 0:
        with _unhidden():
            writer.finish(metadata, found)


def clear(folder: Path) -> None:
    """Remove what a run on other ranks left in a folder that is to be written."""
    for path in (*folder.glob("*.distcp"), *folder.glob(".metadata*")):
        path.unlink()


@contextmanager
def _unhidden() -> Generator[None]:
    """What the system refuses (a full disk) is an `OSError`, which torch hides."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _asked(items: Mapping[str, Item], limit: int) -> Iterator[tuple[int, WriteItem]]:
    """What is to be written, and of how many bytes it is: each chunk of each tensor, and each value."""
    for name, item in items.items():
        if item.header is None:
            yield len(item.data), WriteItem(MetadataIndex(name), WriteItemType.BYTE_IO)
            continue
        dtype = torch_dtype(item.header.dtype)
        assert dtype is not None, name
        box = whole(item.header.shape)
        parts = chunks(box, tuple(range(len(box))), limit) if prod(item.header.shape) else iter([box])
        for part in parts:
            offsets = torch.Size(r.start for r in part)
            chunk = ChunkStorageMetadata(offsets, torch.Size(map(len, part)))
            about = TensorWriteData(chunk, TensorProperties(dtype), torch.Size(item.header.shape))
            yield (
                region_bytes(part, item.header.dtype),
                WriteItem(MetadataIndex(name, offsets), WriteItemType.SHARD, tensor_data=about),
            )


def _made(items: Mapping[str, Item], plan: Iterable[WriteItem], workers: Pool) -> Generator[Made]:
    """A rank's chunks in their order, each in the memory of the last but one."""
    ahead = min(1, workers.count)
    own = [each for each in plan if each.tensor_data is not None]
    most = max(map(_bytes, own), default=0)
    rooms = [torch.empty(most, dtype=torch.uint8) for _ in range(ahead + 1)]
    works = (partial(_fill, items, each, rooms[i % len(rooms)]) for i, each in enumerate(own))
    yield from results(works, workers, ahead)


def _fill(items: Mapping[str, Item], chunk: WriteItem, room: Tensor) -> Made:
    """A chunk in this room. Torch saves all of its storage, which therefore has nothing else."""
    about, fill = chunk.tensor_data, items[chunk.index.fqn].fill
    assert about is not None and fill is not None, chunk
    dtype, shape = about.properties.dtype, about.chunk.sizes
    entries = torch.empty(shape, dtype=dtype)
    if prod(shape):
        entries = torch.frombuffer(room.numpy(), dtype=dtype, count=prod(shape)).view(shape)
        fill(tuple(range(o, o + n) for o, n in zip(about.chunk.offsets, shape, strict=True)), entries)
    return chunk.index, entries


def _bytes(chunk: WriteItem) -> int:
    about = chunk.tensor_data
    return 0 if about is None else prod(about.chunk.sizes) * about.properties.dtype.itemsize


class _Planner(SavePlanner):
    """What torch's writer asks: which chunks there are, and the numbers of each in its turn.

    The writer keeps what it has written until its file is closed (findings/writer_keeps_what_it_wrote.sh), so
    chunks are made in the same places again and again.
    """

    def __init__(self, items: Mapping[str, Item], tick: Tick, made: Iterator[Made]) -> None:
        self.items, self.tick, self.made = items, tick, made

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        pass

    def create_local_plan(self) -> SavePlan:
        raise NotImplementedError("the plans of all ranks are made at once")

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        plans, metadata = create_default_global_save_plan(all_plans)
        paths = {name: item.path for name, item in self.items.items()}
        return plans, replace(metadata, planner_data=paths)

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        return new_plan

    def resolve_data(self, write_item: WriteItem) -> Tensor | io.BytesIO:
        if write_item.tensor_data is None:
            return io.BytesIO(self.items[write_item.index.fqn].data)
        index, entries = next(self.made)
        assert index == write_item.index, f"{write_item.index} is asked for, and {index} is next"
        self.tick(entries.nbytes)
        return entries
