"""Carry out a recipe: from nothing, or from wherever a killed run of it stopped."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import accelerate as accelerate  # pyright: ignore[reportMissingTypeStubs]  (Trainer needs it)
import torch
from transformers import PrinterCallback, Trainer, TrainerState, TrainingArguments

from isogrow.growth.api import grow_
from isogrow.growth.meeting import TRAINING, together
from isogrow.interpreters.checkpoint import versions
from isogrow.plans.expansions import expansions
from isogrow.plans.plan import Init
from isogrow.recipes.callbacks import Costs, Ending, TellProgress, ended
from isogrow.recipes.card import card
from isogrow.recipes.corpus import Sequences, files, sequences, settle, vocabulary
from isogrow.recipes.folder import Outcome, claim, finished, folder_of, last_complete, left_as_it_was, told
from isogrow.recipes.norms import BlockNorms
from isogrow.recipes.recipe import Recipe
from isogrow.recipes.releasing import apart, due, ended_at, lasted, save
from isogrow.recipes.sharing import FSDP, check_held, check_shared, gathered, shared
from isogrow.recipes.starting import Outlook, outlook, started
from isogrow.stores.writers import Writers, first_alone
from isogrow.train.kept import CORPUS, OUTCOME, STAGES, STATE, TOKENS, write
from isogrow.train.schedule import Growth, Plateau
from isogrow.train.trainer import growing

Tell = Callable[[str], None]
Steps = Callable[[int, int, float | None], None]
Start = Callable[[Path], None]


def checked(recipe: Recipe, base: Path) -> tuple[Outlook, ...]:
    """Each stage before it is run. Raises `RecipeError` for a missing file, or sizes that can't be."""
    for names, where in ((recipe.data.train, "train"), (recipe.data.held_out, "held_out")):
        files(names, base, where)
    return outlook(recipe, base, vocabulary(recipe.data, base).size)


def device() -> torch.device:
    """Where a recipe trains here: on the accelerator, if there is one."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def timed(recipe: Recipe, base: Path, steps: int) -> float:
    """Seconds that a step of the first stage takes where it would train (`device`), on made-up tokens."""
    words, training, where = vocabulary(recipe.data, base), recipe.training, device()
    model: Any = started(recipe, base, words.size).train().to(where)
    first = recipe.stages[0]
    if first.sizes:
        grow_(model, *expansions(first.sizes, first.layers_at, first.sizes))
    ids = torch.arange(training.batch * recipe.data.length).reshape(training.batch, -1) % words.size
    ids, taken = ids.to(where), list[float]()
    for _ in range(steps):
        start = time.monotonic()
        half = training.precision == "bfloat16"
        with torch.autocast(where.type, torch.bfloat16) if half else nullcontext():
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()  # work is only queued there
        taken.append(time.monotonic() - start)
    return training.accumulate * min(taken)


def run(recipe: Recipe, base: Path, tell: Tell, steps: Steps) -> Outcome:
    """Train a recipe to its end; a run that was killed goes on from its last complete checkpoint.

    Called on every rank of a job, all of them train it, each with its share of every batch
    (`isogrow.recipes.sharing`). `base` is what the recipe's paths are relative to. `tell` is told what is
    done, `steps` after each step its number, that of its stage and the last loss. Raises
    `RecipeError` where the run's folder holds another recipe's run, or the files that it began to learn from
    are others now.
    """
    with together(purpose=TRAINING) as ranks:
        return _run(recipe, base, folder_of(recipe, base), tell, steps, ranks)


def _run(
    recipe: Recipe,
    base: Path,
    home: Path,
    tell: Tell,
    steps: Steps,
    ranks: Writers,
    start: Start | None = None,
) -> Outcome:
    """A run, or one of the run in `home`'s releases, which begins with the checkpoint that `start` makes."""
    folder = folder_of(recipe, base)
    stages = checked(recipe, base)
    check_shared(recipe, ranks.world)
    ended_before, checkpoint, fresh = first_alone(ranks, partial(_entered, folder, recipe, stages))
    if ended_before:
        return told(folder)
    if checkpoint is None and start is not None:
        start(folder)
        checkpoint = first_alone(ranks, partial(last_complete, folder))
    with left_as_it_was(folder, fresh and start is None and ranks.me == 0):
        corpora = _settled(recipe, base, home, checkpoint is not None, ranks)
        trainer = prepared(recipe, base, corpora, stages, tell, steps, ranks)
    tell(f"going on from {checkpoint.name}" if checkpoint else f"starting in {folder}")
    if checkpoint is None or not ended(recipe, checkpoint):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    else:  # killed between its last checkpoint and its end, or released as it was
        _load_(trainer, checkpoint, recipe.sharded)
        if "held_out" in corpora and not _measured(trainer.state):
            trainer.evaluate()
    made = partial(card, recipe, stages, ended=trainer.state.global_step, versions=versions())
    weights = gathered(trainer) if recipe.sharded else None
    return first_alone(ranks, partial(finished, folder, trainer, made, weights))


def _measured(state: TrainerState) -> bool:
    """Whether the held-out loss is that of the last step."""
    return any("eval_loss" in record and record["step"] == state.global_step for record in state.log_history)


def _load_(trainer: Trainer, checkpoint: Path, sharded: bool) -> None:
    """The trainer's model as a checkpoint has it; one that is sharded is before it is loaded."""
    own: Any = trainer
    if sharded:
        own._prepare_for_training(own.args.max_steps, None, str(checkpoint))
    else:
        own._load_from_checkpoint(str(checkpoint))
    trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))


def _entered(folder: Path, recipe: Recipe, stages: tuple[Outlook, ...]) -> tuple[bool, Path | None, bool]:
    """The run's folder is this recipe's from here on: whether the run has ended, else its last checkpoint,
    and whether it is new there."""
    fresh = claim(folder, recipe)
    if (folder / OUTCOME).exists():
        return True, None, fresh
    write(folder / STAGES, [dataclasses.asdict(stage) for stage in stages])
    return False, last_complete(folder), fresh


def _corpora(recipe: Recipe, base: Path, home: Path) -> dict[str, Sequences]:
    """What the recipe learns from and is measured on; tokens are kept in `home`, the folder of the run."""
    read, data = partial(sequences, recipe.data, base=base, cache=home / TOKENS), recipe.data
    held_out = {"held_out": read(data.held_out, "held_out")} if data.held_out else {}  # first: it is shorter
    return {"train": read(data.train, "train"), **held_out}


def _settled(recipe: Recipe, base: Path, home: Path, going_on: bool, ranks: Writers) -> dict[str, Sequences]:
    """The same, noted by the first rank, which makes the tokens that the others then find."""
    read = partial(_corpora, recipe, base, home)
    found = read() if ranks.me == 0 else {}
    if found:
        settle(found, home / CORPUS, going_on)
    ranks.meet(None)
    return found or read()


def _release(recipe: Recipe, number: int, base: Path, trunk: Trainer, tell: Tell, ranks: Writers) -> None:
    """Finish the model of the stage that ends now, beside the run. What is finished already stays."""
    branch = ended_at(recipe, number, lasted(trunk))
    first, last = trunk.state.global_step, trunk.state.global_step + branch.training.decay

    def steps(step: int, stage: int, loss: float | None) -> None:
        tell(f"releasing stage {number}: {step - first} of {last - first} steps")

    def quiet(what: str) -> None:
        """The trunk's own word is that it releases."""

    with apart(trunk):
        _run(branch, base, folder_of(recipe, base), quiet, steps, ranks, partial(save, trunk))


def prepared(
    recipe: Recipe,
    base: Path,
    corpora: Mapping[str, Sequences],
    stages: tuple[Outlook, ...],
    tell: Tell,
    steps: Steps,
    ranks: Writers,
) -> Trainer:
    """The trainer of a recipe at its first stage, with its growths and releases."""
    trainer = _trainer(recipe, base, corpora, ranks.world)
    check_held(trainer, recipe.training.sharding)
    ending = Ending(recipe)
    trainer.create_optimizer()
    optimizer: Any = trainer.optimizer
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, ending.share)
    costs = Costs(recipe, stages)
    for callback in (ending, costs, BlockNorms(), TellProgress(recipe, steps)):
        trainer.add_callback(callback)
    trainer.remove_callback(PrinterCallback)  # the library does not print

    def after(model: Any) -> None:
        _set_rate_(trainer, ending)
        costs.note_(trainer.state)

    def before(model: Any) -> None:
        number = due(recipe, trainer)
        if number is not None:
            _release(recipe, number, base, trainer, tell, ranks)

    return growing(trainer, growths(recipe), after, before)


def _trainer(recipe: Recipe, base: Path, corpora: Mapping[str, Sequences], world: int) -> Trainer:
    """The trainer of the first stage's model, on the recipe's data."""
    words = vocabulary(recipe.data, base)
    model = started(recipe, base, words.size)
    train, held_out = corpora["train"], corpora.get("held_out")
    options = arguments(recipe, folder_of(recipe, base), held_out is not None)
    if world == 1:
        return Trainer(
            model, options, train_dataset=train, eval_dataset=held_out, processing_class=words.tokenizer
        )
    return shared(recipe, model, options, train, held_out, words.tokenizer, world)


def _set_rate_(trainer: Trainer, ending: Ending) -> None:
    """The next step's rate again: the scheduler set it before the growth."""
    scheduler: Any = trainer.lr_scheduler
    part = ending.share(trainer.state.global_step)
    scheduler._last_lr = [rate * part for rate in scheduler.base_lrs]
    for group, rate in zip(scheduler.optimizer.param_groups, scheduler._last_lr, strict=True):
        group["lr"] = rate


def arguments(recipe: Recipe, folder: Path, evaluated: bool) -> TrainingArguments:
    """The recipe's training in Trainer's words."""
    training = recipe.training
    every = training.evaluate_every if evaluated else 0
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=sum(recipe.longest(stage) for stage in recipe.stages),
        per_device_train_batch_size=training.batch,
        per_device_eval_batch_size=training.batch,
        gradient_accumulation_steps=training.accumulate,
        learning_rate=training.rate,
        weight_decay=training.weight_decay,
        adam_beta1=training.betas[0],
        adam_beta2=training.betas[1],
        max_grad_norm=training.clip,
        bf16=training.precision == "bfloat16",
        use_cpu=device().type == "cpu",
        seed=training.seed,
        logging_steps=training.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if every else "no",
        eval_steps=every or None,
        save_strategy="steps" if training.save_every else "no",
        save_steps=training.save_every or 500,
        save_total_limit=training.keep,
        include_num_input_tokens_seen="all",
        report_to=["tensorboard"] if _has("tensorboard") else [],
        disable_tqdm=True,
        dataloader_pin_memory=torch.accelerator.is_available(),
        **(FSDP if recipe.sharded else {}),
    )


def growths(recipe: Recipe) -> tuple[Growth, ...]:
    """When each stage begins, and to which sizes it grows; the first only if it grows."""
    found: list[Growth] = [_growth(recipe, 0, 0)] if recipe.grows_at_once else []
    start: int | None = 0
    for number, before in enumerate(recipe.stages[:-1], 1):
        slope, length = before.slope, recipe.longest(before)
        at: int | Plateau
        if slope is not None:
            at, start = Plateau(slope.below, slope.at_most, slope.window, slope.at_least), None
        elif start is not None:
            at = start = start + length
        else:  # after a stage whose end is not known: so many steps after the growth before
            at = Plateau(0.0, length, length, length)
        found.append(_growth(recipe, number, at))
    return tuple(found)


def _growth(recipe: Recipe, number: int, at: int | Plateau) -> Growth:
    """That with which the stage after so many begins."""
    stage = recipe.stages[number]
    init, policy, seed = Init(stage.init, stage.init_std), recipe.policy(stage), recipe.training.seed + number
    return Growth(stage.sizes, at, stage.layers_at, init, policy, seed)


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
