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
        _watch_(new)
    return _bound(scheduler, old, new, {})


def _bound(value: Any, old: Optimizer, new: Optimizer, made: dict[int, Any]) -> Any:
    """The same value with `new` in place of `old`, in schedulers within it as well; `made` is what has been
    bound by what it was."""
    if value is old:
        return new
    if type(value) in (list, tuple):
        return type(value)(_bound(each, old, new, made) for each in value)
    if type(value) is dict:
        return {key: _bound(each, old, new, made) for key, each in value.items()}
    if getattr(value, "optimizer", None) is not old:
        return value
    if id(value) not in made:
        made[id(value)] = moved = copy.copy(value)
        for name, each in vars(value).items():
            setattr(moved, name, _bound(each, old, new, made))
    return made[id(value)]


def scheduled(scheduler: Any, optimizers: Sequence[Optimizer]) -> int:
    """Which of the optimizers a scheduler is of, by number; raises `StateError` for one of none of them."""
    for i, optimizer in enumerate(optimizers):
        if getattr(scheduler, "optimizer", None) is optimizer:
            return i
    if hasattr(getattr(scheduler, "scheduler", None), "optimizer"):
        raise StateError(
            f"{type(scheduler).__name__} wraps another scheduler: give the one inside (.scheduler), and wrap"
            " it again, or grow in place by isogrow.grow_"
        )
    raise StateError(
        f"{type(scheduler).__name__} does not schedule the optimizer that was given: give the two that"
        " belong together"
    )


def _watch_(optimizer: Optimizer) -> None:
    """Have torch note when an optimizer steps, as any scheduler's constructor does."""
    lacking = [group for group in optimizer.param_groups if "initial_lr" not in group]
    _Watch(optimizer)
    for group in lacking:
        del group["initial_lr"]


class _Watch(LRScheduler):
    """A scheduler that changes no rate."""

    def step(self, epoch: int | None = None) -> None:
        """Nothing: the scheduler that is bound anew does it."""
