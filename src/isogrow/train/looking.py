"""GradMax in a Trainer's run: it looks at what the run learns from, through the run's own loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from isogrow.errors import StateError
from isogrow.gradmax import NAME, Fitted, GradMax

BATCHES = 4


def init_of(trainer: Trainer, kind: str, seed: int, tell: Callable[[Fitted], None] | None = None) -> Any:
    """What a growth of this seed is filled by: GradMax, on batches that the seed draws, or what is named.

    `tell` is told what GradMax found. Raises `StateError` where the run's data are a stream, which can't be
    drawn from.
    """
    return GradMax(_batches(trainer, seed), _loss(trainer), tell) if kind == NAME else kind


def _batches(trainer: Trainer, seed: int) -> list[Any]:
    data: Any = trainer.train_dataset
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise StateError(
            f"init {NAME!r} looks at a few batches of the training data, and {type(data).__name__} has no"
            " items to draw: grow in a loop of your own with isogrow.GradMax(batches), or by another init"
        )
    private: Any = trainer
    collate = private._get_collator_with_removed_columns(trainer.data_collator)
    rows = trainer.args.train_batch_size
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[: BATCHES * rows]
    return [collate([data[i] for i in some.tolist()]) for some in order.split(rows)]


def _loss(trainer: Trainer) -> Any:
    private: Any = trainer

    def loss(model: Any, batch: Any) -> Tensor:
        with trainer.compute_loss_context_manager():
            return private.compute_loss(model, private._prepare_inputs(batch))

    return loss
