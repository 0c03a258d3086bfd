"""Growth inside a run of Hugging Face's Trainer, whatever subclass of it.

    trainer = Trainer(model, args, train_dataset=data)
    growing(trainer, [Growth({"hidden": "x2"}, at=500), Growth({"layers": "+2"}, at=1000)])
    trainer.train(resume_from_checkpoint=True)

The run stays one run: steps, data order, learning rate, logs and checkpoints go on. The model, the optimizer
and the scheduler stay the objects that they are, and grow in place at the end of a step, before anything is
logged or saved at that step. Each growth is a record of the trainer's log, so a resumed run knows what a
checkpoint has behind it: the small model is grown again before the checkpoint's weights are loaded. So that
its log is that of a run that nothing stopped, a checkpoint holds the losses since the last log, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    IntervalStrategy,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from isogrow.errors import CheckpointError, StateError
from isogrow.gradmax import Fitted
from isogrow.growth.api import grow_
from isogrow.growth.shardable import spread_out
from isogrow.plans.expansions import expansions
from isogrow.train.kept import STATE
from isogrow.train.looking import init_of
from isogrow.train.possible import check_growable, check_possible
from isogrow.train.schedule import Growth, check, check_kinds, due, grown
from isogrow.train.sharding import shard_of
from isogrow.train.unlogged import note_, take_up_


def growing(
    trainer: Trainer,
    growths: Sequence[Growth],
    after: Callable[[nn.Module], None] | None = None,
    before: Callable[[nn.Module], None] | None = None,
) -> Trainer:
    """The same trainer, which grows its model on schedule.

    `before` and `after` are called with the model just before and after each growth. With a `before`, which
    may prepare them, optimizers are asked at the growth alone whether they can grow.

    A growth forgets the best checkpoint before it, which is of other sizes: `load_best_model_at_end` loads
    the best since the last growth.

    Raises `StateError` for what is no trainer, or one that grows already, and `SizeError` for what is no
    growth; when training begins, `SizeError` for growths out of order, for one that the run ends before, for
    a plateau that can't be seen and for sizes that can't be had, and `StateError` for a trainer whose model
    another run has grown; after the first step `StateError` for an optimizer that no law grows;
    `CheckpointError` when a checkpoint is resumed that these growths do not lead to.
    """
    if not isinstance(trainer, Trainer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StateError(
            f"growing() is given a {type(trainer).__name__} and wants a transformers.Trainer: in a loop of"
            " your own call isogrow.grow_"
        )
    if any(isinstance(each, _Growing) for each in trainer.callback_handler.callbacks):
        raise StateError("this trainer grows already: give all growths in one call of growing()")
    check_kinds(growths)
    grower = _Growing(trainer, tuple(growths), after, before)
    trainer.add_callback(grower)
    load = trainer._load_from_checkpoint  # pyright: ignore[reportPrivateUsage]  (no event comes before it)

    def grown_first(resume_from_checkpoint: str, model: Any = None) -> None:
        grower.catch_up_(Path(resume_from_checkpoint))
        load(resume_from_checkpoint, model)

    save: Callable[..., None] = trainer._save_checkpoint  # pyright: ignore[reportPrivateUsage]

    def noted_first(*given: Any, **named: Any) -> None:
        note_(trainer)
        save(*given, **named)

    trainer._load_from_checkpoint = grown_first  # type: ignore[method-assign]
    trainer._save_checkpoint = noted_first  # type: ignore[method-assign]
    return trainer


class _Growing(TrainerCallback):
    """Trainer's own interface to what happens in a run. `done`: growths that the trainer's model has had."""

    def __init__(
        self,
        trainer: Trainer,
        growths: tuple[Growth, ...],
        after: Callable[[nn.Module], None] | None,
        before: Callable[[nn.Module], None] | None,
    ) -> None:
        self.trainer, self.growths, self.done = trainer, growths, 0
        self.after, self.before = after, before
        self.asked = False  # whether the optimizer can grow, in this call of train()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        if self.growths:
            shard_of(self.trainer)
        logged = state.logging_steps if args.logging_strategy == IntervalStrategy.STEPS else None
        check(self.growths, logged, state.max_steps)
        self.asked = self.before is not None  # what is called just before a growth may make it possible
        self._check_done(grown(state.log_history), "this run")
        check_possible(self.trainer.model, self.growths, self.done)
        if state.global_step == 0:
            self._grow_due_(args, state, given["model"])
        else:
            take_up_(self.trainer)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        if not self.asked:
            self.asked = check_growable(given["model"], self.trainer.optimizer, self.growths, self.done)
        self._grow_due_(args, state, given["model"])

    def _grow_due_(self, args: TrainingArguments, state: TrainerState, model: nn.Module) -> None:
        """Every growth whose time has come, and a record of each."""
        growth = due(self.growths, state.log_history, state.global_step)
        while growth is not None:
            if self.before is not None:
                self.before(model)
            at_once = sum(each.at == 0 for each in self.growths[: self.done + 1])
            record: dict[str, Any] = {"stage": self.done + 2 - at_once}
            if growth.sizes:
                number = 1 + sum("growth" in before for before in state.log_history)
                record = {"growth": number, **self._grow_(model, growth)}
                state.best_metric = state.best_model_checkpoint = state.best_global_step = None  # too small
            self.done += 1
            record |= {"step": state.global_step}
            if args.include_num_input_tokens_seen != "no":
                record |= {"num_input_tokens_seen": state.num_input_tokens_seen}
            state.log_history.append(record)
            if self.after is not None:
                self.after(model)
            growth = due(self.growths, state.log_history, state.global_step)

    def _grow_(self, model: nn.Module, growth: Growth) -> dict[str, Any]:
        """Grow, and say what was grown."""
        before, count = _answers(model), _count(model)
        passes = _grow_(self.trainer, model, growth)
        return {
            "growth_parameters_before": count,
            "growth_parameters": _count(model),
            "growth_difference": _difference(before, _answers(model)),
            "growth_passes": passes,
        }

    def catch_up_(self, checkpoint: Path) -> None:
        """Grow the trainer's model (and optimizer, if there is one) to what a checkpoint holds."""
        history: Any = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["log_history"]
        behind = grown(history)
        if behind > len(self.growths):
            raise CheckpointError(
                f"{checkpoint.name} has {behind} growths behind it, and the schedule has {len(self.growths)}:"
                " give the schedule that it was made with"
            )
        model: Any = self.trainer.model
        self._check_done(min(behind, self.done), checkpoint.name)
        if behind:
            self.trainer.create_optimizer()  # made anew otherwise, without what paces it
        for growth in self.growths[self.done : behind]:
            if growth.sizes:
                _grow_(self.trainer, model, growth, resumed=True)
            self.done += 1
        _check_led(checkpoint, model, behind, history)

    def _check_done(self, behind: int, where: str) -> None:
        if self.done != behind:
            raise StateError(
                f"this trainer's model has had {self.done} growths, and {where} has {behind} behind it: make"
                " a new trainer from the model that the run starts with"
            )


def _check_led(checkpoint: Path, model: Any, behind: int, history: Any) -> None:
    """Refuse a model that is not the checkpoint's: by its config, or, of one in shards that has none, by the
    parameters that the last growth led to."""
    config = checkpoint / "config.json"
    if config.is_file():
        said = json.loads(config.read_text(encoding="utf-8"))
        now = json.loads(model.config.to_json_string(use_diff=False))
    else:
        counts = [record["growth_parameters"] for record in history if "growth_parameters" in record]
        said, now = {"parameters": counts[-1]} if counts else {}, {"parameters": _count(model)}
    other = [key for key, value in said.items() if isinstance(value, int) and now.get(key, value) != value]
    if other:
        raise CheckpointError(
            f"{checkpoint.name} has {other[0]} = {said[other[0]]}, and the schedule's first {behind}"
            f" growths lead to {now[other[0]]}: start from the model, and give the schedule, that it was"
            " made with"
        )


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _grow_(trainer: Trainer, model: nn.Module, growth: Growth, resumed: bool = False) -> int:
    """Grow the model and its optimizer; numbers that a checkpoint's will replace need not be chosen.

    Returns how many passes over a batch it took to choose numbers, if it looked at data.
    """
    found: list[Fitted] = []
    optimizer: Any = trainer.optimizer
    grow_(
        model,
        *expansions(growth.sizes, growth.layers_at, growth.sizes),  # asked before the run's first step
        optimizer=optimizer,
        policy=growth.policy,
        init="normal" if resumed else init_of(trainer, growth.init.kind, growth.seed, found.append),
        init_std=growth.init.std,
        seed=growth.seed,
        shard=shard_of(trainer),
    )
    return sum(each.passes for each in found)


# ── is the function what it was? ──


def _answers(model: nn.Module) -> Tensor | None:
    """The model's logits (or hidden states) on a few of its tokens."""
    config: Any = getattr(model, "config", None)
    vocab = int(getattr(config, "vocab_size", 0) or 0)
    if not vocab:
        return None
    device = next(model.parameters()).device
    length = min(8, int(getattr(config, "max_position_embeddings", None) or 8))
    ids = torch.arange(8 * length, device=device).reshape(8, length) * 7919 % vocab
    training = model.training
    batch = {"input_ids": ids}
    if getattr(config, "is_encoder_decoder", False):
        batch["decoder_input_ids"] = ids
    model.eval()
    try:
        with torch.no_grad():
            # Without autocast, which rounds; but what gathers a sharded model's parts are hooks.
            run = model if spread_out(model) else partial(type(model).forward, model)
            found: Any = run(**batch)
    finally:
        model.train(training)
    return (found.logits if hasattr(found, "logits") else found[0]).float()


def _difference(before: Tensor | None, after: Tensor | None) -> float | None:
    """The largest relative difference of old outputs."""
    if before is None or after is None:
        return None
    gap = (after[..., : before.shape[-1]] - before).abs().max()
    return float(gap / before.abs().max())
