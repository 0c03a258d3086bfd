"""Writing a distributed checkpoint of torch (DCP), by torch's own writer: `dcp.load` reads it on any number
of ranks.

The writer asks for one chunk after the other, so no tensor is made before its turn, and none as a whole that
is larger than a chunk.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
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

from isogrow.plans.anatomy import Header
from isogrow.plans.boxes import chunks
from isogrow.plans.pieces import Box, whole
from isogrow.stores.dtypes import torch_dtype

Fill = Callable[[str, Box], Tensor]


def write_distributed(folder: Path, headers: Mapping[str, Header], fill: Fill, limit: int) -> None:
    """Write tensors as a distributed checkpoint into a folder that is there, in chunks of at most `limit`
    entries.

    `fill(name, region)` gives a region of a tensor, of its dtype, on the CPU; it is asked for each once,
    tensor by tensor. The names are at the root, as `dcp.save(model.state_dict())` has them.
    """
    planner = _Planner(tuple(_items(headers, limit)), fill)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        save({}, storage_writer=FileSystemWriter(folder), planner=planner, no_dist=True)


def _items(headers: Mapping[str, Header], limit: int) -> Iterator[WriteItem]:
    """What is to be written: each chunk of each tensor."""
    for name, header in headers.items():
        dtype = torch_dtype(header.dtype)
        assert dtype is not None, name
        box = whole(header.shape)
        parts = chunks(box, tuple(range(len(box))), limit) if prod(header.shape) else iter([box])
        for part in parts:
            offsets = torch.Size(r.start for r in part)
            chunk = ChunkStorageMetadata(offsets, torch.Size(map(len, part)))
            about = TensorWriteData(chunk, TensorProperties(dtype), torch.Size(header.shape))
            yield WriteItem(MetadataIndex(name, offsets), WriteItemType.SHARD, tensor_data=about)


class _Planner(SavePlanner):
    """What torch's writer asks: which chunks there are, and the numbers of each in its turn."""

    def __init__(self, items: tuple[WriteItem, ...], fill: Fill) -> None:
        self.items, self.fill = items, fill

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        pass

    def create_local_plan(self) -> SavePlan:
        return SavePlan(list(self.items))

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        return create_default_global_save_plan(all_plans)

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        return new_plan

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        about = write_item.tensor_data
        assert about is not None, write_item
        sides = zip(about.chunk.offsets, about.chunk.sizes, strict=True)
        return self.fill(write_item.index.fqn, tuple(range(o, o + n) for o, n in sides))
