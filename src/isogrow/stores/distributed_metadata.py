"""The metadata of a distributed checkpoint that is written, by torch's own classes and writer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed.checkpoint.filesystem import (
    FileSystemWriter,
    _StorageInfo,  # pyright: ignore[reportPrivateUsage]
)
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.storage import WriteResult

from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.frames import Place
from isogrow.stores.items import Item

Keys = tuple[str | int, ...]


def write_metadata(
    folder: Path,
    items: Mapping[str, Item],
    places: Mapping[str, Iterable[Place]],
    also: Mapping[str, tuple[Keys, str]],
) -> None:
    """Say where all that is written stands, file by file, and which further names (with their keys) some of
    it has."""
    metadata = Metadata({name: _about(item) for name, item in items.items()})
    metadata.planner_data = {name: item.path for name, item in items.items()}
    found = [result for file, own in places.items() for result in _results(file, own, metadata)]
    FileSystemWriter(folder).finish(metadata, [found, list(_named(metadata, found, also))])


def _about(item: Item) -> TensorStorageMetadata | BytesStorageMetadata:
    if item.header is None:
        return BytesStorageMetadata()
    dtype = torch_dtype(item.header.dtype)
    assert dtype is not None, item.path
    return TensorStorageMetadata(TensorProperties(dtype), torch.Size(item.header.shape), [])


def _results(file: str, places: Iterable[Place], metadata: Metadata) -> Iterator[WriteResult]:
    """What torch's writer would tell of a file; the metadata gets its chunks."""
    for each in places:
        index, about = MetadataIndex(each.name), metadata.state_dict_metadata[each.name]
        if isinstance(about, TensorStorageMetadata):
            offsets = torch.Size(r.start for r in each.box)
            index = MetadataIndex(each.name, offsets, len(about.chunks))
            about.chunks.append(ChunkStorageMetadata(offsets, torch.Size(map(len, each.box))))
        yield WriteResult(index, each.length, _StorageInfo(file, each.start, each.length))


def _named(
    metadata: Metadata, found: Iterable[WriteResult], also: Mapping[str, tuple[Keys, str]]
) -> Iterator[WriteResult]:
    """The same chunks under further names, which the metadata gets."""
    others = defaultdict[str, list[str]](list)
    for name, (path, home) in also.items():
        metadata.state_dict_metadata[name] = metadata.state_dict_metadata[home]
        metadata.planner_data[name] = path
        others[home].append(name)
    for each in found:
        for name in others[each.index.fqn]:
            yield replace(each, index=replace(each.index, fqn=name))
