"""An attention as it was measured: how many heads there are, what its scale is, which channels turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from isogrow.drafting.tracing import Attended

CLOSE = 1e-9
LATER = 5  # a token whose channels have turned; of fewer the last one


@dataclass(frozen=True)
class Turning:
    """How many channels of a head turn, and how they are paired, in the order of the weights."""

    channels: int
    pairs: Literal["half", "adjacent"]


@dataclass(frozen=True)
class AttentionSizes:
    """The sizes of an attention, and its scale."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int

    @classmethod
    def of(cls, attended: Attended) -> AttentionSizes:
        """Those of an attention that was seen."""
        query, key, value = attended.query, attended.key, attended.value
        return cls(query.shape[1], key.shape[1], query.shape[-1], value.shape[-1])


def order(made: Tensor, part: Tensor) -> Tensor | None:
    """Where a part's numbers (heads × dim, of the first token) lie in an output; None where they do not.

    A part that is a multiple of the output lies where it does.
    """
    flat, wanted = made.flatten(), part.flatten()
    near = (flat[None, :] - wanted[:, None]).abs()
    best = near.min(dim=1)
    if bool((best.values <= CLOSE * wanted.abs().max()).all()):
        return best.indices
    if flat.numel() == wanted.numel() and multiple(flat, wanted) is not None:
        return torch.arange(flat.numel())
    return None


def multiple(flat: Tensor, wanted: Tensor) -> float | None:
    """The number by which one vector is another; None if there is none."""
    ratio = float(wanted @ flat / (flat @ flat))
    close = torch.allclose(ratio * flat, wanted, rtol=0, atol=CLOSE * float(wanted.abs().max()))
    return ratio if close and ratio > CLOSE else None


def turning(made: Tensor, part: Tensor) -> Turning | None:
    """Which channels of a part (heads × tokens × dim) turn, against the output that it is made of
    (tokens × …); None where nothing turns, or where it is not told."""
    at = order(made[0], part[:, 0])
    if at is None:
        return None
    count, dim = part.shape[0], part.shape[-1]
    flat = made.flatten(1)
    share = multiple(flat[0][at], part[:, 0].flatten()) or 1.0
    later = min(LATER, len(flat) - 1)
    before, after = share * flat[later][at].reshape(count, dim), part[:, later]
    moved = ((before - after).abs() > CLOSE * after.abs().max()).any(0)
    channels = int(moved.sum())
    if not channels or channels % 2:
        return None
    rotating = torch.nonzero(moved)[:, 0]
    partner = _partners(before[:, rotating], after[:, rotating])
    if partner is None:
        return None
    stored = at.reshape(count, dim)[0] - at.reshape(count, dim)[0].min()
    pairs = {tuple(sorted((int(stored[rotating[i]]), int(stored[rotating[j]])))) for i, j in partner}
    if all(b - a == 1 and a % 2 == 0 for a, b in pairs):
        return Turning(channels, "adjacent")
    return Turning(channels, "half") if all(b - a == channels // 2 for a, b in pairs) else None


def _partners(before: Tensor, after: Tensor) -> list[tuple[int, int]] | None:
    """The pairs of channels whose lengths stay, among the usual ways to pair them."""
    n = before.shape[-1]
    ways = ([(i, i + n // 2) for i in range(n // 2)], [(i, i + 1) for i in range(0, n, 2)])
    return next((way for way in ways if _kept(before, after, way)), None)


def _kept(before: Tensor, after: Tensor, way: Sequence[tuple[int, int]]) -> bool:
    lengths = [
        torch.stack([each[:, i].square() + each[:, j].square() for i, j in way]) for each in (before, after)
    ]
    return torch.allclose(*lengths, rtol=1e-8, atol=1e-10)
