"""What a recipe's run adds to Trainer, through Trainer's own interface: its end, its costs, its telling."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from isogrow.recipes.falling import falling
from isogrow.recipes.progress import last_step, stage_number
from isogrow.recipes.recipe import Recipe
from isogrow.recipes.starting import Outlook
from isogrow.train.kept import STATE
from isogrow.train.schedule import History, growths_of, last_growth, share


class Ending(TrainerCallback):
    """The run ends a known number of steps after its last growth, and the rate decays towards that.

    Each stage has a factor of its own on the rate, and may have a warmup and a decay.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.history = recipe, list[Any]()

    @property
    def end(self) -> int | None:
        return last_step(self.recipe, self.history)

    def share(self, step: int) -> float:
        """The part of the training's rate at a step."""
        recipe, training = self.recipe, self.recipe.training
        stage = recipe.stages[stage_number(recipe, self.history) - 1]
        lasts = recipe.longest(stage)
        own = share(step - last_growth(self.history), stage.warmup, falling(stage.decay, lasts), lasts)
        return stage.rate * own * share(step, training.warmup, training.decay, self.end)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        self.history = state.log_history

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        if self.end is not None and state.global_step >= self.end:
            control.should_training_stop = control.should_log = True
            control.should_evaluate = bool(self.recipe.data.held_out)
            control.should_save = True


def ended(recipe: Recipe, checkpoint: Path) -> bool:
    """Whether a checkpoint stands at the run's last step."""
    state = TrainerState.load_from_json(str(checkpoint / STATE))
    end = last_step(recipe, state.log_history)
    return end is not None and state.global_step >= end


class Costs(TrainerCallback):
    """Adds the operations so far, `flops`, to what is logged."""

    def __init__(self, recipe: Recipe, stages: tuple[Outlook, ...]) -> None:
        self.recipe, self.stages = recipe, stages

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        self.note_(state)

    def note_(self, state: TrainerState) -> None:
        """Add them to the last record."""
        state.log_history[-1]["flops"] = self.spent(state.log_history, state.num_input_tokens_seen)

    def spent(self, history: History, tokens: int) -> int:
        """Operations for so many tokens, each stage at its model's cost, and for what growths looked at."""
        records = growths_of(history)
        each = self.recipe.tokens_per_step  # for records of before tokens were noted
        seen = (record.get("num_input_tokens_seen", each * int(record["step"])) for record in records)
        marks = [0, *seen, tokens]
        costs = [stage.flops // stage.tokens for stage in self.stages]
        costs = [*costs[:1] * self.recipe.grows_at_once, *costs]  # before a growth at step 0: of no tokens
        learned = sum((b - a) * cost for (a, b), cost in zip(pairwise(marks), costs, strict=False))
        passes = zip((int(record.get("growth_passes", 0)) for record in records), costs[1:], strict=False)
        return (
            learned
            + sum(n * cost for n, cost in passes) * self.recipe.training.batch * self.recipe.data.length
        )


class TellProgress(TrainerCallback):
    """Tells after each step how far the run is."""

    def __init__(self, recipe: Recipe, steps: Callable[[int, int, float | None], None]) -> None:
        self.recipe, self.steps = recipe, steps

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        last = next((float(r["loss"]) for r in reversed(state.log_history) if "loss" in r), None)
        self.steps(state.global_step, stage_number(self.recipe, state.log_history), last)
