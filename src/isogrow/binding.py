"""Stored tensors and logical blocks: which stored tensor holds a block, and how to fill a grown one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor

from isogrow.anatomy import Anatomy, Stored, grown_tensors
from isogrow.arithmetic import Filler, Read, blocked
from isogrow.pattern import View
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
        return blocked(get(stored.source), _view(stored, part, block, anatomy.sizes))

    return read


def outputs(anatomy: Anatomy, plan: Plan) -> tuple[Stored, ...]:
    """The grown model's stored tensors; one that is tied is filled as the tensor it is tied to."""
    found: list[Stored] = []
    slots = anatomy.layout.slots
    for stored in grown_tensors(anatomy, plan.target, lambda block: origin(plan, block)):
        if anatomy.tied and stored.weight.tied in anatomy.all_slots:
            stored = dataclasses.replace(stored, weight=slots[stored.weight.tied][0])
        found.append(stored)
    return tuple(found)


def fill_(out: Tensor, stored: Stored, filler: Filler, sizes: Sizes) -> None:
    """Fill one grown stored tensor (contiguous), block by block."""
    for part, block in stored.blocks(sizes):
        view = _view(stored, part, block, sizes)
        target = blocked(out, view)
        order = tuple(sorted(range(target.dim()), key=lambda d: -target.stride(d)))
        filler.fill_(target, block, order)


def _view(stored: Stored, part: str, block: Block, sizes: Sizes) -> View:
    return stored.weight.parsed.view(part, dict(block.index), lambda axis: sizes.of(axis, block.index))
