"""Growth inside a run of Hugging Face's Trainer, whatever subclass of it.

    trainer = Trainer(model, args, train_dataset=data)
    growing(trainer, [Growth({"hidden": "x2"}, at=500), Growth({"layers": "+2"}, at=1000)])
    trainer.train(resume_from_checkpoint=True)

The run stays one run: steps, data order, learning rate, logs and checkpoints go on. The model, the optimizer
and the scheduler stay the objects that they are, and grow in place at the end of a step, before anything is
logged or saved at that step. Each growth is a record of the trainer's log, so a resumed run knows what a
checkpoint has behind it: the small model is grown again before the checkpoint's weights are loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from isogrow.errors import CheckpointError
from isogrow.gradmax import Fitted
from isogrow.growing import grow_
from isogrow.planning import expansions
from isogrow.train.looking import init_of
from isogrow.train.schedule import Growth, due, grown

STATE = "trainer_state.json"


def growing(
    trainer: Trainer, growths: Sequence[Growth], after: Callable[[nn.Module], None] | None = None
) -> Trainer:
    """The same trainer, which grows its model on schedule; `after` is called with the model at each growth.

    Raises `CheckpointError` when a checkpoint is resumed that these growths do not lead to.
    """
    trainer.add_callback(_Growing(trainer, tuple(growths), after))
    load = trainer._load_from_checkpoint  # pyright: ignore[reportPrivateUsage]  (no event comes before it)

    def grown_first(resume_from_checkpoint: str, model: Any = None) -> None:
        _catch_up_(trainer, growths, Path(resume_from_checkpoint))
        load(resume_from_checkpoint, model)

    trainer._load_from_checkpoint = grown_first  # type: ignore[method-assign]
    return trainer


class _Growing(TrainerCallback):
    """Trainer's own interface to what happens in a run."""

    def __init__(
        self, trainer: Trainer, growths: tuple[Growth, ...], after: Callable[[nn.Module], None] | None
    ) -> None:
        self.trainer, self.growths, self.after = trainer, growths, after

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        growth = due(self.growths, state.log_history, state.global_step)
        while growth is not None:
            model: Any = given["model"]
            before = _answers(model)
            count = sum(p.numel() for p in model.parameters())
            passes = _grow_(self.trainer, model, growth)
            record: dict[str, Any] = {
                "growth": grown(state.log_history) + 1,
                "growth_parameters_before": count,
                "growth_parameters": sum(p.numel() for p in model.parameters()),
                "growth_difference": _difference(before, _answers(model)),
                "growth_passes": passes,
            }
            state.log_history.append({**record, "step": state.global_step})
            if self.after is not None:
                self.after(model)
            growth = due(self.growths, state.log_history, state.global_step)


def _grow_(trainer: Trainer, model: nn.Module, growth: Growth, resumed: bool = False) -> int:
    """Grow the model and its optimizer; numbers that a checkpoint's will replace need not be chosen.

    Returns how many passes over a batch it took to choose numbers, if it looked at data.
    """
    found: list[Fitted] = []
    optimizer: Any = trainer.optimizer
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper keeps the same one
    grow_(
        model,
        *expansions(growth.sizes, growth.layers_at),
        optimizer=inner,
        policy=growth.policy,
        init="normal" if resumed else init_of(trainer, growth.init.kind, growth.seed, found.append),
        init_std=growth.init.std,
        seed=growth.seed,
    )
    return sum(each.passes for each in found)


def _catch_up_(trainer: Trainer, growths: Sequence[Growth], checkpoint: Path) -> None:
    """Grow the trainer's model (and optimizer, if there is one) to what a checkpoint holds."""
    history: Any = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["log_history"]
    behind = grown(history)
    if behind > len(growths):
        raise CheckpointError(
            f"{checkpoint.name} has {behind} growths behind it, and the schedule has {len(growths)}: give the"
            " schedule that it was made with"
        )
    model: Any = trainer.model
    if behind:
        trainer.create_optimizer()  # made anew otherwise, without what paces it
    for growth in growths[:behind]:
        _grow_(trainer, model, growth, resumed=True)
    said = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    now = json.loads(model.config.to_json_string(use_diff=False))
    other = [key for key, value in said.items() if isinstance(value, int) and now.get(key, value) != value]
    if other:
        raise CheckpointError(
            f"{checkpoint.name} has {other[0]} = {said[other[0]]}, and the schedule's first {behind} growths"
            f" lead to {now[other[0]]}: start from the model, and give the schedule, that it was made with"
        )


# ── is the function what it was? ──


def _answers(model: nn.Module) -> Tensor | None:
    """The model's logits (or hidden states) on a few of its tokens."""
    config: Any = getattr(model, "config", None)
    vocab = int(getattr(config, "vocab_size", 0) or 0)
    if not vocab:
        return None
    device = next(model.parameters()).device
    ids = torch.arange(64, device=device).reshape(8, 8) * 7919 % vocab
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            found: Any = type(model).forward(model, input_ids=ids)  # without autocast, which rounds
    finally:
        model.train(training)
    return (found.logits if hasattr(found, "logits") else found[0]).float()


def _difference(before: Tensor | None, after: Tensor | None) -> float | None:
    """The largest relative difference of old outputs."""
    if before is None or after is None:
        return None
    gap = (after[..., : before.shape[-1]] - before).abs().max()
    return float(gap / before.abs().max())
