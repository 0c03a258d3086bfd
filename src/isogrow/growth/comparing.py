"""A grown checkpoint compared with what its plan makes of its source, byte by byte: no model is made or run.

Each part of each tensor is made once more, as `grow_checkpoint` made it, and held against the file's bytes.
What is in memory at once is a few slabs, however large the tensors are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from isogrow.growth.opening import Opened, opened
from isogrow.interpreters.checkpoint import FLOATS, laid_out, named_in_full
from isogrow.numbers.arithmetic import words
from isogrow.planning.request import Saved, read_plan
from isogrow.plans.anatomy import Stored
from isogrow.plans.boxes import chunks
from isogrow.plans.pieces import Box, whole
from isogrow.plans.plan import Plan
from isogrow.stores.asking import grown_config, here
from isogrow.stores.mapping import Mapped, mapped
from isogrow.stores.shards import nbytes
from isogrow.stores.sources import Checkpoint, open_checkpoint
from isogrow.stores.store import Store, read
from isogrow.stores.workers import pool, results
from isogrow.stores.writing import CHUNK, Source, Turn, ahead, made_whole, one_thread, room, turns_of

DTYPES = ("dtype", "torch_dtype")  # by which a config says it


@dataclass(frozen=True)
class WrongBytes:
    """A part of a tensor whose bytes are not the plan's: the first entry's place, and how many entries."""

    name: str
    at: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Compared:
    """What was compared, and what was found: `faults` tensor by tensor, in the order of the tensors."""

    tensors: int
    size: int
    faults: tuple[WrongBytes, ...]
    missing: tuple[str, ...]
    foreign: tuple[str, ...]
    config: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all is as the plan makes it."""
        return not (self.faults or self.missing or self.foreign or self.config)

    def __str__(self) -> str:
        """One sentence."""
        if self.passed:
            return f"{self.tensors:,} tensors, {self.size / 1e9:.3g} GB: every byte is what the plan makes"
        return "; ".join(self._told())

    def _told(self) -> Iterator[str]:
        if self.faults:
            first, count = self.faults[0], sum(fault.count for fault in self.faults)
            tensors = len({fault.name for fault in self.faults})
            yield (
                f"{first.name}{list(first.at)} is the first entry that differs, of {count:,} in {tensors:,}"
                f" of {self.tensors:,} tensors"
            )
        if self.missing:
            yield f"{self.missing[0]} is not as it should be there (and {len(self.missing) - 1:,} more)"
        if self.foreign:
            yield f"{self.foreign[0]} is in no plan (and {len(self.foreign) - 1:,} more)"
        if self.config:
            yield f"config.json differs in {', '.join(self.config)}"


def compare_bytes(
    small: str | Path | Opened,
    large: str | Path | Checkpoint,
    *,
    plan: Saved | None = None,
    progress: Callable[[int, int], None] | None = None,
    chunk: int = CHUNK,
) -> Compared:
    """Compare every byte of a grown checkpoint's tensors with what the plan makes of its source.

    The plan is the one that came with the grown checkpoint, or `plan`. A grown checkpoint in another dtype is
    compared in that dtype, tensor by tensor. `progress` is called with the bytes done and in all.
    """
    source = opened(small)
    grown = large if isinstance(large, Checkpoint) else open_checkpoint(large)
    made = read_plan(grown.folder if plan is None else plan)
    found = grown.headers
    format = "distributed" if grown.format == "distributed" else "safetensors"
    job = laid_out(source.checkpoint, source.anatomy, made, None, "5GB", None, format)
    job = named_in_full(job, here(job.config))
    wanted = {name: _as_found(stored, grown, name) for name, stored in job.tensors.items()}
    kept = all(stored.header.dtype == job.tensors[name].header.dtype for name, stored in wanted.items())
    held = {name: stored for name, stored in wanted.items() if found.get(name) == stored.header}
    total, faults = sum(nbytes(stored.header) for stored in held.values()), list[WrongBytes]()
    done = 0
    with mapped(source.checkpoint) as old, mapped(grown) as new, one_thread():
        for size, fault in _compared(Source(source.anatomy, made, old), new, held, chunk):
            done += size
            faults += [fault] if fault is not None else []
            if progress is not None:
                progress(done, total)
    return Compared(
        len(held),
        total,
        tuple(faults),
        tuple(name for name in wanted if name not in held),
        tuple(name for name in found if name not in wanted),
        tuple(_edits(source.checkpoint, grown, made, kept)),
    )


def _as_found(stored: Stored, grown: Checkpoint, name: str) -> Stored:
    """The tensor in the dtype that the grown file has it in, where both are floats."""
    words = FLOATS.values()
    there = grown.headers.get(name)
    if there is None or there.dtype not in words or stored.header.dtype not in words:
        return stored
    return replace(stored, header=replace(stored.header, dtype=there.dtype))


def _edits(small: Checkpoint, large: Checkpoint, plan: Plan, kept: bool) -> Iterator[str]:
    """The keys of config.json that are not as growing writes them: its dtype is the old config's, where the
    tensors have `kept` theirs, or that of all tensors."""
    wanted = json.loads(json.dumps(grown_config(small.config, plan, None)))
    held = {header.dtype for header in large.headers.values()} & set(FLOATS.values())
    words = {word for word, code in FLOATS.items() if held == {code}}
    for key in sorted(wanted.keys() | large.config.keys()):
        right, found = wanted.get(key, ...), large.config.get(key, ...)
        if key in DTYPES and found in words or right == found and (kept or key not in DTYPES or found is ...):
            continue
        yield key


def _compared(
    source: Source, new: Mapped, tensors: dict[str, Stored], limit: int
) -> Iterator[tuple[int, WrongBytes | None]]:
    """(bytes, what is wrong with them), part by part, in the order of the tensors."""
    buffers = dict[int, Tensor]()
    with (
        pool(alone=made_whole(tensors.values(), source.plan)) as workers,
        closing(ahead(tensors.items(), turns_of(source), workers)) as turns,
    ):
        works = (
            partial(_part, buffers, limit, turn, new, region)
            for turn in turns
            for region in _regions(turn.stored, limit)
        )
        with closing(results(works, workers, workers.count)) as done:
            yield from done


def _regions(stored: Stored, limit: int) -> Iterable[Box]:
    shape = stored.header.shape
    return chunks(whole(shape), tuple(range(len(shape))), limit)


def _part(
    buffers: dict[int, Tensor], limit: int, turn: Turn, new: Store, region: Box
) -> tuple[int, WrongBytes | None]:
    """Compare a region."""
    entries = room(buffers, limit, turn.stored.header.dtype, region)
    turn.fill_(entries, region)
    there = read(new, turn.name, region)
    one, two = words(entries), words(there)
    if torch.equal(one, two):
        return entries.nbytes, None
    wrong = torch.ne(one, two)
    first = int(torch.argmax(wrong.to(torch.uint8)))
    inside = np.unravel_index(first, [len(r) for r in region])
    at = tuple(int(r[int(i)]) for r, i in zip(region, inside, strict=True))
    return entries.nbytes, WrongBytes(turn.name, at, int(wrong.sum()))
