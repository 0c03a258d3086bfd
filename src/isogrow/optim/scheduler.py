"""Growing a learning-rate scheduler: its state knows no sizes, so it is bound to the new optimizer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from isogrow.errors import StateError

AnyScheduler = TypeVar("AnyScheduler")


def rebind(scheduler: AnyScheduler, old: Optimizer, new: Optimizer) -> AnyScheduler:
    """The same scheduler, at the same step, of another optimizer with the same groups.

    Those that it is made of (`SequentialLR`, `ChainedScheduler`) are bound anew as well. Raises as
    `scheduled` does.
    """
    scheduled(scheduler, (old,))
    if hasattr(old.step, "_wrapped_by_lr_sched"):
        _Watch(new, last_epoch=0)
    made: Any = copy.copy(scheduler)
    for name, value in vars(scheduler).items():
        if value is old:
            value = new
        elif isinstance(value, list):
            value = [rebind(x, old, new) if getattr(x, "optimizer", None) is old else x for x in value]
        elif isinstance(value, dict):
            value = dict(value)
        setattr(made, name, value)
    return made


def scheduled(scheduler: Any, optimizers: Sequence[Optimizer]) -> int:
    """Which of the optimizers a scheduler is of, by number; raises `StateError` for one of none of them."""
    for i, optimizer in enumerate(optimizers):
        if getattr(scheduler, "optimizer", None) is optimizer:
            return i
    raise StateError(
        f"{type(scheduler).__name__} does not schedule the optimizer that was given: give the two that"
        " belong together"
    )


class _Watch(LRScheduler):
    """Has torch note when an optimizer steps, as any scheduler's constructor does; it changes no rate."""

    def step(self, epoch: int | None = None) -> None:
        """Nothing: the scheduler that is bound anew does it."""
