"""Stored tensors and logical blocks: which stored tensor holds a block, and how to fill a grown one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from isogrow.anatomy import Anatomy, Stored, grown_tensors
from isogrow.arithmetic import Filler, Read, blocked
from isogrow.errors import CheckpointError
from isogrow.parts import view_of
from isogrow.pieces import Block, origin
from isogrow.plan import Plan
from isogrow.sizes import Sizes


def reader(anatomy: Anatomy, get: Callable[[str], Tensor]) -> Read:
    """Blocks of the old model, read from stored tensors that `get` gives by name."""
    where: dict[tuple[str, tuple[tuple[str, int], ...]], tuple[Stored, str]] = {}
    for stored in anatomy.stored:
        for part, block in stored.blocks(anatomy.sizes):
            where[block.slot, block.index] = (stored, part)

    def read(block: Block) -> Tensor:
        stored, part = where[block.slot, block.index]
        return blocked(get(stored.source), view_of(stored, part, block, anatomy.sizes))

    return read


def outputs(anatomy: Anatomy, plan: Plan) -> tuple[Stored, ...]:
    """The grown model's stored tensors; one that is tied is filled as the tensor it is tied to."""
    found: list[Stored] = []
    for stored in grown_tensors(anatomy, plan.target, lambda block: origin(plan, block)):
        if anatomy.shares(stored.line.slot):
            stored = dataclasses.replace(stored, line=anatomy.layout.homes[stored.line.slot.tied][0])
        found.append(stored)
    return tuple(found)


def source_of(anatomy: Anatomy, plan: Plan, stored: Stored) -> str:
    """The old tensor that a grown one is, or extends."""
    index = origin(plan, Block(stored.line.slot.name, stored.index, ())).index
    return anatomy.sources[stored.line, index]


def check_ties(anatomy: Anatomy, get: Callable[[str], Tensor]) -> None:
    """Where the config says that two stored tensors are one, they must be: transformers would keep them
    apart, with a warning, and the grown model's would be made from one of them."""
    stored_at = {(slot.name, stored.index): stored for stored in anatomy.stored for slot in stored.line.slots}
    for stored in (tensor for tensor in anatomy.stored if anatomy.shares(tensor.line.slot)):
        twin = stored_at.get((stored.line.slot.tied, stored.index))
        if twin is not None and not _same(get(stored.source), get(twin.source)):
            raise CheckpointError(
                f"{stored.name} and {twin.name} differ, but "
                + (
                    "the model has one tensor for both: remove the one that is not meant"
                    if stored.line.slot.shared
                    else f"the config ties them ({_key(anatomy, stored)} is true): set it to false in the"
                    " config if both are meant"
                )
            )


def _key(anatomy: Anatomy, stored: Stored) -> str:
    """The config's key that ties a tensor."""
    return anatomy.layout.streams_of(stored.line.slot)[0].tie


def check_range(out: Tensor, name: str, old: Callable[[], Tensor]) -> None:
    """Refuse numbers that float16 made infinite, by a conversion or by a rule's scale."""
    if out.dtype == torch.float16 and bool(torch.isinf(out).any()) and not bool(torch.isinf(old()).any()):
        raise CheckpointError(
            f"{name} would hold numbers beyond float16's 65504: give --dtype bfloat16 (dtype='bfloat16'), or"
            " grow without what scales it"
        )


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same bytes."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
        return True
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def fill_(out: Tensor, stored: Stored, filler: Filler, sizes: Sizes) -> None:
    """Fill one grown stored tensor (contiguous), block by block."""
    for part, block in stored.blocks(sizes):
        view = view_of(stored, part, block, sizes)
        target = blocked(out, view)
        order = tuple(sorted(range(target.dim()), key=lambda d: -target.stride(d)))
        filler.fill_(target, block, order)
