"""Stored tensors and logical blocks: reading blocks of the old model, filling regions of grown tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from isogrow.errors import CheckpointError
from isogrow.layouts.pattern import View
from isogrow.numbers.arithmetic import blocked, same
from isogrow.numbers.filling import Drawings, Read, Stats, fill_
from isogrow.numbers.joining import Part, joined
from isogrow.plans.anatomy import Anatomy, Stored, grown_tensors
from isogrow.plans.boxes import boxes, chunks, slices, within
from isogrow.plans.parts import view_of
from isogrow.plans.pieces import Block, Box, OldBox, origin, pieces, whole
from isogrow.plans.plan import Plan
from isogrow.stores.fetching import MOST
from isogrow.stores.store import Fetching, Store
from isogrow.stores.store import read as read_part


def reader(anatomy: Anatomy, store: Store) -> Read:
    """Reads boxes of a model's blocks out of whatever parts of its tensors a store has: no entry is copied or
    moved that is not in the box, and none is copied at all where one part in memory has all of the tensor.

    Law, where `x` is all of the block: `reader(anatomy, store)(block, box)` is `x[slices(box)]`. Raises
    `CheckpointError` where no part has an entry of the box.
    """

    fetch = store.fetched if isinstance(store, Fetching) else None

    def read(block: Block, box: Box) -> Tensor:
        stored, part = anatomy.holders[block.slot, block.index]
        view = view_of(stored, part, block, anatomy.sizes)
        parts = tuple(store.parts(stored.source))
        if len(parts) == 1 and parts[0][0] == whole(stored.header.shape):
            found = blocked(parts[0][1], view)[slices(box)]
            return found if fetch is None else fetch(stored.source, found)
        counts = tuple(len(dim.factors) for dim in stored.line.parsed.dims)
        taken = None if fetch is None else partial(fetch, stored.source)
        found, left = joined(box, _in_parts(parts, view, counts), taken=taken)
        if left:
            raise CheckpointError(
                f"{stored.source} is not whole: {left:,} of the entries that are asked for "
                f"are in no part of it"
            )
        return found

    return read


def _in_parts(parts: Iterable[Part], view: View, counts: Sequence[int]) -> Iterator[Part]:
    """What each part of a stored tensor has of a block."""
    for region, entries in parts:
        for held, place, local in within(view, region, counts):
            yield held, blocked(entries[slices(place)], local)


def viewer(anatomy: Anatomy, get: Callable[[str], Tensor]) -> Callable[[Block], Tensor]:
    """Shows all of a block, for whoever has the stored tensors: a view, so writing to it writes to them."""

    def view(block: Block) -> Tensor:
        stored, part = anatomy.holders[block.slot, block.index]
        return blocked(get(stored.source), view_of(stored, part, block, anatomy.sizes))

    return view


def outputs(anatomy: Anatomy, plan: Plan) -> tuple[Stored, ...]:
    """The grown model's stored tensors; one that is tied is filled as the tensor it is tied to."""
    found: list[Stored] = []
    for stored in grown_tensors(anatomy, plan):
        if anatomy.shares(stored.line.slot):
            stored = dataclasses.replace(stored, line=anatomy.layout.homes[stored.line.slot.tied][0])
        found.append(stored)
    return tuple(found)


def source_of(anatomy: Anatomy, plan: Plan, stored: Stored) -> str:
    """The old tensor that a grown one is, or extends."""
    index = origin(plan, Block(stored.line.slot.name, stored.index, ())).index
    return anatomy.sources[stored.line, index]


def as_it_was(anatomy: Anatomy, plan: Plan, stored: Stored) -> str | None:
    """The old tensor that a grown one is, byte for byte; None if it is none."""
    found = set[str]()
    for part, block in stored.blocks(plan.target):
        box = whole(block.shape(plan.target))
        first, *others = pieces(plan, block, box)
        if others or not isinstance(first.value, OldBox) or (first.a, first.b) != (1.0, 0.0):
            return None
        old, held = anatomy.holders[first.value.block.slot, first.value.block.index]
        alike = old.line == stored.line and old.header == stored.header and held == part
        if not alike or first.value.box != box or first.out != box:
            return None
        found.add(old.source)
    return found.pop() if len(found) == 1 else None


def check_ties(anatomy: Anatomy, store: Store) -> None:
    """Where the config says that two stored tensors are one, they must be: transformers would keep them
    apart, with a warning, and the grown model's would be made from one of them."""
    stored_at = {(slot.name, stored.index): stored for stored in anatomy.stored for slot in stored.line.slots}
    for stored in (tensor for tensor in anatomy.stored if anatomy.shares(tensor.line.slot)):
        twin = stored_at.get((stored.line.slot.tied, stored.index))
        if twin is None or not {stored.source, twin.source} <= store.headers.keys():
            continue  # a running average may hold one of them alone
        if not _alike(store, stored.source, twin.source):
            raise CheckpointError(
                f"{stored.name} and {twin.name} differ, but "
                + (
                    "the model has one tensor for both: remove the one that is not meant"
                    if stored.line.slot.shared
                    else f"the config ties them ({_key(anatomy, stored)} is true): set it to false in the"
                    " config if both are meant"
                )
            )


def _alike(store: Store, one: str, other: str) -> bool:
    """Whether two tensors are the same, bit by bit; a part of each is here at a time."""
    header = store.headers[one]
    if header != store.headers[other]:
        return False
    parts = chunks(whole(header.shape), tuple(range(len(header.shape))), MOST)
    return all(same(read_part(store, one, part), read_part(store, other, part)) for part in parts)


def _key(anatomy: Anatomy, stored: Stored) -> str:
    """What the config says that ties a tensor."""
    return anatomy.layout.streams_of(stored.line.slot)[0].tie


def check_range(out: Tensor, name: str, old: Callable[[], Tensor]) -> None:
    """Refuse numbers that float16 made infinite, by a conversion or by a rule's scale."""
    if out.dtype == torch.float16 and bool(torch.isinf(out).any()) and not bool(torch.isinf(old()).any()):
        raise CheckpointError(
            f"{name} would hold numbers beyond float16's 65504: give --dtype bfloat16 (dtype='bfloat16'), or"
            " grow without what scales it"
        )


def fill_region_(
    out: Tensor,
    stored: Stored,
    region: Box,
    plan: Plan,
    read: Read,
    stats: Stats,
    drawings: Drawings | None = None,
) -> None:
    """Fill `out` (of its shape; any strides) with a region of a grown stored tensor: all of it, a slab of a
    file, a rank's shard, an item that a distributed checkpoint writes.

    `region` has a range, with gaps or without, for each of the tensor's dims; `stats` are `statistics` of the
    tensor's blocks, and `drawings` is as in `filling.fill_`. Law, where `x` is all of the tensor: `out`
    becomes equal to `x[slices(region)]`, bit by bit.
    """
    for held in boxes(stored, region, plan.target):
        target = blocked(out[slices(held.place)], held.view)
        fill_(target, held.block, held.box, plan, read, stats, drawings=drawings)
