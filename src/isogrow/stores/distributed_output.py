"""Writing a distributed checkpoint of torch (DCP), by torch's own writer: `dcp.load` reads it on any number
of ranks.

The writer asks for one chunk after the other, so no tensor is made before its turn, and none as a whole that
is larger than a chunk. Several ranks write at once, each a file of its own with its stretch of the chunks
(`shares`). Each knows what all of them write, so they only tell the first what became of it, which writes the
metadata.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
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
from isogrow.stores.writers import ONE, Writers
from isogrow.stores.writing import Tick

PART = 1 << 22  # entries of a chunk


def write_distributed(
    folder: Path,
    items: Mapping[str, Item],
    tick: Tick,
    limit: int | None = None,
    writers: Writers = ONE,
) -> None:
    """Write a distributed checkpoint into a folder that is there, in chunks of at most `limit` entries.

    Of each tensor each region is asked for once, tensor by tensor. `tick` is told the bytes that are done
    here.
    """
    asked = list(_asked(items, limit or PART))
    plans = [list[WriteItem]() for _ in range(writers.world)]
    for rank, each in dealt(Share(writers.world, sum(size for size, _ in asked)), asked):
        plans[rank].append(each)
    room = torch.empty(max((_bytes(item) for item in plans[writers.me]), default=0), dtype=torch.uint8)
    planner, writer = (
        _Planner(items, tick, room),
        FileSystemWriter(folder, per_thread_copy_ahead=0),
    )  # one by one
    writer.set_up_storage_writer(writers.me == 0)
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


def _bytes(item: WriteItem) -> int:
    about = item.tensor_data
    return 0 if about is None else prod(about.chunk.sizes) * about.properties.dtype.itemsize


class _Planner(SavePlanner):
    """What torch's writer asks: which chunks there are, and the numbers of each in its turn.

    The writer keeps what it has written until its file is closed (findings/writer_keeps_what_it_wrote.sh), so
    every chunk is made in the same `room`. It saves all of a chunk's storage, which has nothing else.
    """

    def __init__(self, items: Mapping[str, Item], tick: Tick, room: Tensor) -> None:
        self.items, self.tick, self.room = items, tick, room

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
        item, about = self.items[write_item.index.fqn], write_item.tensor_data
        if about is None:
            return io.BytesIO(item.data)
        assert item.fill is not None, write_item
        sides = zip(about.chunk.offsets, about.chunk.sizes, strict=True)
        made = self._room(about)
        item.fill(tuple(range(o, o + n) for o, n in sides), made)
        self.tick(made.nbytes)
        return made

    def _room(self, about: TensorWriteData) -> Tensor:
        dtype, shape = about.properties.dtype, about.chunk.sizes
        if not prod(shape):
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self.room.numpy(), dtype=dtype, count=prod(shape)).view(shape)
