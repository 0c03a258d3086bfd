"""Writing a distributed checkpoint of torch (DCP), by torch's own writer: `dcp.load` reads it on any number
of ranks.

The writer asks for one chunk after the other, so no tensor is made before its turn, and none as a whole that
is larger than a chunk.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
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
from torch.distributed.checkpoint.state_dict_saver import save

from isogrow.plans.boxes import chunks
from isogrow.plans.pieces import whole
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.items import Item
from isogrow.stores.writing import Tick

PART = 1 << 23  # entries of a chunk


def write_distributed(folder: Path, items: Mapping[str, Item], tick: Tick, limit: int | None = None) -> None:
    """Write a distributed checkpoint into a folder that is there, in chunks of at most `limit` entries.

    Of each tensor each region is asked for once, tensor by tensor. `tick` is told the bytes that are done.
    """
    planner = _Planner(items, tuple(_asked(items, limit or PART)), tick)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        save({}, storage_writer=FileSystemWriter(folder), planner=planner, no_dist=True)


def _asked(items: Mapping[str, Item], limit: int) -> Iterator[WriteItem]:
    """What is to be written: each chunk of each tensor, and each value."""
    for name, item in items.items():
        if item.header is None:
            yield WriteItem(MetadataIndex(name), WriteItemType.BYTE_IO)
            continue
        dtype = torch_dtype(item.header.dtype)
        assert dtype is not None, name
        box = whole(item.header.shape)
        parts = chunks(box, tuple(range(len(box))), limit) if prod(item.header.shape) else iter([box])
        for part in parts:
            offsets = torch.Size(r.start for r in part)
            chunk = ChunkStorageMetadata(offsets, torch.Size(map(len, part)))
            about = TensorWriteData(chunk, TensorProperties(dtype), torch.Size(item.header.shape))
            yield WriteItem(MetadataIndex(name, offsets), WriteItemType.SHARD, tensor_data=about)


class _Planner(SavePlanner):
    """What torch's writer asks: which chunks there are, and the numbers of each in its turn."""

    def __init__(self, items: Mapping[str, Item], asked: tuple[WriteItem, ...], tick: Tick) -> None:
        self.items, self.asked, self.tick = items, asked, tick

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        pass

    def create_local_plan(self) -> SavePlan:
        return SavePlan(list(self.asked))

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
        made = item.fill(tuple(range(o, o + n) for o, n in sides))
        self.tick(made.nbytes)
        return made
