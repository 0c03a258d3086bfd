"""How large old and new blocks are, and their gradients, while a grown model trains.

A parameter of a grown model holds entries that were there before (kept, scaled or copied) and new ones. After
each growth the sums of squares of both are logged: new blocks wake when their gradient leaves zero, and grow
into their place as their norm nears that of the old ones beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from isogrow.growth.models import lineage_of
from isogrow.numbers.arithmetic import blocked
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.boxes import slices
from isogrow.plans.parts import made_of
from isogrow.plans.pieces import Source
from isogrow.plans.plan import Plan
from isogrow.stores.binding import outputs


@dataclass(frozen=True)
class Norms:
    """Root of the sum of squares over all old, and over all new, entries."""

    old: float
    new: float


def norms(tensors: dict[str, Tensor], anatomy: Anatomy, plan: Plan) -> Norms:
    """Norms of a grown model's tensors (or of gradients under the same names)."""
    sums = {True: 0.0, False: 0.0}
    for old, part in _parts(tensors, anatomy, plan):
        sums[old] += float(part.detach().to(torch.float32).square().sum())
    return Norms(sums[True] ** 0.5, sums[False] ** 0.5)


def _parts(tensors: dict[str, Tensor], anatomy: Anatomy, plan: Plan) -> Iterator[tuple[bool, Tensor]]:
    """(whether it was there before, a part) of every tensor that is given."""
    for stored in outputs(anatomy, plan):
        tensor = tensors.get(stored.name)
        if tensor is None:
            continue
        for view, piece in made_of(stored, plan):
            yield isinstance(piece.value, Source), blocked(tensor, view)[slices(piece.out)]


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
