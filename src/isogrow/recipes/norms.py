"""How large old and new blocks are, and their gradients, while a grown model trains.

A parameter of a grown model holds entries that were there before (kept, scaled or copied) and new ones. After
each growth the sums of squares of both are logged: new blocks wake when their gradient leaves zero, and grow
into their place as their norm nears that of the old ones beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, distributed, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from isogrow.growth.models import lineage_of
from isogrow.numbers.arithmetic import blocked
from isogrow.numbers.local import box_of, is_sharded, local_of, parts_of
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import boxes, contiguous, slices
from isogrow.plans.pieces import OldBox, pieces
from isogrow.plans.plan import Plan
from isogrow.stores.binding import outputs


@dataclass(frozen=True)
class Norms:
    """Root of the sum of squares over all old, and over all new, entries."""

    old: float
    new: float


def norms(tensors: Mapping[str, Tensor], anatomy: Anatomy, plan: Plan) -> Norms:
    """Norms of a grown model's tensors (or of gradients under the same names); of what is spread over ranks
    each adds up its parts, and every rank has to ask."""
    sums = torch.zeros(2, dtype=torch.float64)
    for stored in outputs(anatomy, plan):
        if stored.name in tensors:
            sums += _squares(tensors[stored.name], stored, plan)
    if any(map(is_sharded, tensors.values())):
        where = next(local_of(x).device for x in tensors.values() if is_sharded(x))
        sent = sums.to(where)
        distributed.all_reduce(sent)
        sums = sent.cpu()
    old, new = sums.sqrt().tolist()
    return Norms(old, new)


def _squares(x: Tensor, stored: Stored, plan: Plan) -> Tensor:
    """The sums of squares of old and of new entries in this rank's part, which no other rank holds too."""
    assert not is_sharded(x) or prod(parts_of(x).values()) == distributed.get_world_size()
    local, sums = local_of(x), [0.0, 0.0]
    for held in boxes(stored, box_of(x), plan.target):
        seen = blocked(local[slices(held.place)], held.view)
        for place, box in contiguous(held.box):
            for piece in pieces(plan, held.block, box):
                part = seen[slices(place)][slices(piece.out)].to(torch.float32)
                sums[not isinstance(piece.value, OldBox)] += float(part.square().sum())
    return torch.tensor(sums, dtype=torch.float64)


class BlockNorms(TrainerCallback):
    """Adds `weight_norm_old`, `weight_norm_new`, `grad_norm_old`, `grad_norm_new` to what is logged.

    Not at the step of a growth, whose gradients are those of other parameters.
    """

    def __init__(self) -> None:
        self.gradients: tuple[Plan, Norms] | None = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        model: nn.Module = given["model"]
        known = lineage_of(model)
        if known is not None and (state.global_step + 1) % state.logging_steps == 0:
            found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
            self.gradients = known[1], norms(found, *known)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        model: nn.Module = given["model"]
        known, record = lineage_of(model), state.log_history[-1]
        if known is None or self.gradients is None or "loss" not in record:
            return
        plan, gradients = self.gradients
        self.gradients = None
        if plan is known[1]:
            weights = norms(dict(model.named_parameters()), *known)
            record |= {"weight_norm_old": weights.old, "weight_norm_new": weights.new}
            record |= {"grad_norm_old": gradients.old, "grad_norm_new": gradients.new}
