"""What a training step costs, by formula: two operations for each entry of each matrix and token.

    forward per token = 2 Σ |W| + 2 · length · Σ heads (key_dim + value_dim)
    training          = 3 × forward                       (the backward pass costs two forward passes)

Looking up an embedding costs nothing; a tied head is counted as the matrix that it is. Attention is counted
over the whole sequence, as most kernels compute it. Norms, softmax and biases are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from isogrow.layouts.layout import Attention
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.pieces import Block

BACKWARD = 2


def training_flops(anatomy: Anatomy, length: int) -> int:
    """Operations that one token of a sequence of `length` costs in training."""
    return (1 + BACKWARD) * forward_flops(anatomy, length)


def forward_flops(anatomy: Anatomy, length: int) -> int:
    """Operations that one token of a sequence of `length` costs in a forward pass."""
    matrices = sum(_entries(anatomy, slot, block.shape(anatomy.sizes)) for slot, block in _blocks(anatomy))
    head = anatomy.tokens * anatomy.sizes.of(anatomy.layout.residual) if _unstored(anatomy) else 0
    attention = sum(_met(anatomy, attention) for attention in anatomy.layout.attentions)
    return 2 * (matrices + head) + 2 * length * attention


def _blocks(anatomy: Anatomy) -> Iterator[tuple[str, Block]]:
    for stored in anatomy.stored:
        for _, block in stored.blocks(anatomy.sizes):
            yield block.slot, block


def _entries(anatomy: Anatomy, slot: str, shape: tuple[int, ...]) -> int:
    """The entries that are multiplied with what they read."""
    own = anatomy.all_slots[slot]
    looked_up = all(axis in anatomy.layout.fixed or axis.isdigit() for axis in own.consumed)
    return 0 if own.norm is not None or looked_up else prod(shape)


def _unstored(anatomy: Anatomy) -> bool:
    """Whether the head is the embedding, and not stored a second time."""
    tied = any(slot.tied and not slot.gain for slot in anatomy.all_slots.values())
    return anatomy.tied_head and not tied


def _met(anatomy: Anatomy, attention: Attention) -> int:
    """Channels in which a query meets a key, or takes a value, over all layers and heads."""
    if attention.query not in anatomy.slots or attention.factors:  # a state costs the same in any length
        return 0
    queries = [block for slot, block in _blocks(anatomy) if slot == attention.query]
    keys = sum(prod(block.shape(anatomy.sizes)[: -len(_read(anatomy, attention))]) for block in queries)
    heads = keys // anatomy.sizes.of(attention.axis)
    value_dim = (
        anatomy.sizes.of("value_dim") if anatomy.sizes.has("value_dim") else anatomy.sizes.of(attention.axis)
    )
    return keys + heads * value_dim


def _read(anatomy: Anatomy, attention: Attention) -> tuple[str, ...]:
    return anatomy.slots[attention.query].consumed
