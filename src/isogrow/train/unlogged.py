"""The losses since a run's last log, kept in its checkpoints: so a resumed run logs what one that nothing
stopped does, and a growth that is decided by the log comes at the same step.

Trainer logs the mean of the losses since it last logged, keeps their sum in memory alone, and begins anew
with it when it resumes (transformers 5.23). So a checkpoint between two logs would lose what came before it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed
from transformers import Trainer

KEY = "isogrow.unlogged"  # among what Trainer's state keeps of callbacks


def note_(trainer: Trainer) -> None:
    """Put each rank's sum, and the step of the last log, into the state that is about to be saved.

    Where a log of this very step is due, it counts as made. Every rank has to call it.
    """
    own: Any = trainer
    if not hasattr(own, "_tr_loss"):  # before the first step; or a library that keeps it elsewhere
        return
    logs = own.control.should_log
    own.state.stateful_callbacks[KEY] = {
        "sums": _of_all(0.0 if logs else float(own._tr_loss)),
        "since": int(own.state.global_step if logs else own._globalstep_last_logged),
    }


def take_up_(trainer: Trainer) -> None:
    """Go on with the sum of the checkpoint that was resumed; with their mean, where ranks were others."""
    own: Any = trainer
    said = own.state.stateful_callbacks.pop(KEY, None)
    if said is None or not hasattr(own, "_tr_loss"):
        return
    sums, world = said["sums"], _world()
    mine = sums[distributed.get_rank() if world > 1 else 0] if len(sums) == world else sum(sums) / len(sums)
    own._tr_loss = torch.full_like(own._tr_loss, mine)
    own._globalstep_last_logged = said["since"]


def _world() -> int:
    there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1


def _of_all(value: float) -> list[float]:
    """A number of each rank, by rank."""
    if _world() == 1:
        return [value]
    found: list[Any] = [None] * _world()
    distributed.all_gather_object(found, value)
    return found
