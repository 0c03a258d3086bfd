"""What a grown stored tensor is made of, and where its parts lie: no tensor is read, and no torch loaded."""

from __future__ import annotations

from collections.abc import Iterator

from isogrow.layouts.pattern import View
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.pieces import Block, Piece, pieces, whole
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes


def made_of(stored: Stored, plan: Plan) -> Iterator[tuple[View, Piece]]:
    """What a grown stored tensor is made of: each piece, and where the block that it is a part of lies."""
    for part, block in stored.blocks(plan.target):
        view = view_of(stored, part, block, plan.target)
        for piece in pieces(plan, block, whole(block.shape(plan.target))):
            yield view, piece


def view_of(stored: Stored, part: str, block: Block, sizes: Sizes) -> View:
    """Where a block lies in the tensor that stores it."""
    return stored.line.parsed.view(part, dict(block.index), lambda axis: sizes.of(axis, block.index))


def is_tied(anatomy: Anatomy, stored: Stored) -> bool:
    """Whether this name is only another one for a tensor that is stored elsewhere."""
    return stored.name in anatomy.second_names
