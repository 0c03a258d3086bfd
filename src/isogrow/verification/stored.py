"""The stored weights against the exact ones: the plan carried out in float64, rounded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import torch
import transformers
from torch import Tensor, nn

from isogrow.growth.models import build_of
from isogrow.interpreters.module import grow_module, grown_state
from isogrow.numbers.arithmetic import blocked, rounded, same
from isogrow.numbers.filling import Read
from isogrow.numbers.statistics import statistics
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import slices
from isogrow.plans.matching import match
from isogrow.plans.parts import view_of
from isogrow.plans.pieces import Draw, pieces, whole
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes
from isogrow.stores.binding import fill_region_, outputs, reader
from isogrow.stores.mapping import mapped
from isogrow.stores.store import all_of
from isogrow.verification.float64 import build, float64
from isogrow.verification.pair import Pair
from isogrow.verification.report import Check


def proof(pair: Pair, small: nn.Module) -> nn.Module:
    """The large model's class and config around weights grown in float64, before they are rounded."""
    with float64():
        own = build_of(pair.small)
        if own is not None:
            return grow_module(small, pair.before, pair.plan, own)
        state = grown_state(small.state_dict(), pair.before, pair.plan)
    large = cast(transformers.PreTrainedModel, pair.large)
    return build(type(large), large.config, state)


def weights_(pair: Pair, exact: nn.Module) -> Check:
    """Every entry that the laws fix is stored as the `exact` one rounded once, bit by bit.

    Free entries may be anything: where they are not what the plan draws, `exact` takes the stored ones,
    so that what is compared next is the function of this model.
    """
    stored, state = pair.large.state_dict(), exact.state_dict()
    wrong: list[str] = []
    own = 0
    for tensor in pair.after.stored:
        name = tensor.source  # a model's own name for it, whatever the layout calls it
        if same(as_stored(pair, tensor, state[name]), stored[name]):
            continue
        # A tied tensor has no entries of its own: what it shares them with is looked at instead.
        own_slot = tensor.line.slot.name in pair.after.slots
        drawn = _drawn(pair, tensor) if own_slot else torch.zeros(tensor.header.shape, dtype=torch.bool)
        mixed = torch.where(drawn, stored[name].to(torch.float64), state[name])
        state[name].copy_(mixed)
        if same(as_stored(pair, tensor, mixed), stored[name]):
            own += 1
        else:
            wrong.append(name)
    detail = (
        f"first of {len(wrong)} that differ: {wrong[0]}" if wrong else f"{len(pair.after.stored)} tensors"
    )
    detail += f", {own} with free entries of their own" if own and not wrong else ""
    return Check("weights", not wrong, float(len(wrong)), 0.0, detail)


def as_stored(pair: Pair, tensor: Stored, exact: Tensor) -> Tensor:
    """Exact numbers of one of the large model's tensors rounded once, to the dtype in which its file holds
    each block, and in the dtype of the model that was loaded from it."""
    dtype = pair.large.state_dict()[tensor.source].dtype
    if not pair.stored:
        return rounded(exact, dtype)
    found, sizes = torch.empty(exact.shape, dtype=dtype), pair.plan.target
    for part, block in tensor.blocks(sizes):
        view = view_of(tensor, part, block, sizes)
        held = pair.stored.get((block.slot, block.index), dtype)
        blocked(found, view).copy_(rounded(blocked(exact, view), held))
    return found


def unread(pair: Pair) -> Iterator[Check]:
    """What the folders hold and the models' class leaves out: each tensor as the plan makes it, bit by bit.

    A BERT is often stored with more heads than the class in its config has. One that the large folder lacks
    is a fault, and free entries may be anything here too. Nothing is yielded where there are no such tensors,
    or where a model was not given as a folder.
    """
    if pair.files is None:
        return
    old, new = pair.files
    before, after = (match(pair.before.layout, each.config, each.headers) for each in (old, new))
    wanted = _left(pair, outputs(before, pair.plan))
    left = _left(pair, outputs(after, Plan(pair.plan.family, pair.plan.target)))
    if lost := missing("unread", wanted, after, pair.plan.target):
        yield lost
    elif left:
        with mapped(old) as store, mapped(new) as found:
            read = reader(before, store)
            wrong = [s.source for s in left if not _as_made(pair, s, read, all_of(found, s.source))]
        first = f"first of {len(wrong)} that differ: {wrong[0]}" if wrong else ""
        kept = f"{len(left)} tensors that {type(pair.large).__name__} has under other names, or not at all"
        yield Check("unread", not wrong, float(len(wrong)), 0.0, first or kept)


def _left(pair: Pair, tensors: Iterable[Stored]) -> list[Stored]:
    """Those of which the large model's class reads nothing."""
    read = pair.after.all_slots
    return [each for each in tensors if not any(slot.name in read for slot in each.line.slots)]


def missing(check: str, tensors: Iterable[Stored], held: Anatomy, sizes: Sizes) -> Check | None:
    """What fails where a block of these tensors is in none that is `held`."""
    blocks = {(b.slot, b.index) for tensor in tensors for _, b in tensor.blocks(sizes)}
    if lost := sorted(blocks - held.holders.keys()):
        slot, index = lost[0]
        at = "".join(f" of {axis} {i}" for axis, i in index)
        return Check(check, False, float(len(lost)), 0.0, f"{slot}{at} is not stored")
    return None


def _as_made(pair: Pair, stored: Stored, read: Read, found: Tensor) -> bool:
    """Whether a stored tensor is what the plan makes, but for free entries."""
    plan, shape = pair.plan, stored.header.shape
    exact = torch.empty(shape, dtype=torch.float64)
    stats = statistics(plan, (block for _, block in stored.blocks(plan.target)), read)
    fill_region_(exact, stored, whole(shape), plan, read, stats)
    mixed = torch.where(_drawn(pair, stored), found.to(torch.float64), exact)
    return same(rounded(mixed, found.dtype), found)


def _drawn(pair: Pair, stored: Stored) -> Tensor:
    """Which entries of a stored tensor the plan draws."""
    mask = torch.zeros(stored.header.shape, dtype=torch.bool)
    sizes = pair.plan.target
    for part, block in stored.blocks(sizes):
        target = blocked(mask, view_of(stored, part, block, sizes))
        for piece in pieces(pair.plan, block, whole(tuple(target.shape))):
            target[slices(piece.out)] = isinstance(piece.value, Draw)
    return mask
