"""A recipe's run that several ranks train: each learns its share of every batch, and holds the model, or its
part of it (`sharding: fsdp`, which is Trainer's and Accelerate's).

Law: the batches, in their order, are those of one process, and so is what each sequence weighs; so losses,
gradients and tokens are one process's but for the order of sums, and a run goes on with any number of ranks.
An epoch's last batch may be short. It is filled up by sequences that nothing is learned from, since every
rank has to have a share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import accelerate.data_loader as data_loader  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor, distributed, nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from isogrow.errors import RecipeError
from isogrow.gradmax import NAME
from isogrow.recipes.corpus import Sequences
from isogrow.recipes.recipe import Recipe

# How Accelerate's launcher may spread a model, by where Trainer says so, and the recipe's word for it.
SPREAD = {
    "is_fsdp_enabled": ("FSDP (ACCELERATE_USE_FSDP)", "fsdp"),
    "is_deepspeed_enabled": ("DeepSpeed (ACCELERATE_USE_DEEPSPEED)", ""),
}
# What Trainer is told of `sharding: fsdp`: checkpoints in shards, which any number of ranks reads.
FSDP: Mapping[str, Any] = {
    "fsdp": True,
    "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"},
}
UNCOUNTED = -100  # the label of a token that is not to be told


def check_shared(recipe: Recipe, world: int) -> None:
    """Refuse what several ranks can't train as one process does. Raises `RecipeError`, the same on each."""
    if world == 1:
        if recipe.sharded:
            raise RecipeError(
                "training, sharding is fsdp, which spreads the model over the ranks of a job, and here is one"
                " process: start several by torchrun --nproc-per-node N -m isogrow train …, or leave it out"
            )
        return
    batch = recipe.training.batch
    if batch % world:
        near = " or ".join(str(size) for size in (batch // world * world, -(-batch // world) * world) if size)
        raise RecipeError(
            f"training, batch is {batch}, which {world} ranks can't share alike: give {near}, or start a"
            " number of ranks that divides it"
        )
    looks = next((number for number, stage in enumerate(recipe.stages, 1) if stage.init == NAME), None)
    if looks is not None:
        raise RecipeError(
            f"stage {looks}: init {NAME} looks at batches, which {world} ranks would each do for themselves:"
            " choose another init, or train it in one process"
        )


def check_held(trainer: Trainer, sharding: str = "none") -> None:
    """Refuse a trainer that the environment has told to spread its model otherwise than the recipe says, and
    one that does not spread it though the recipe says so. Raises `RecipeError`."""
    spread = [(what, word) for name, (what, word) in SPREAD.items() if getattr(trainer, name, False)]
    asked = next((what for what, word in spread if word != sharding), None)
    if asked is not None:
        raise RecipeError(
            f"the environment asks for {asked}, and by the recipe every rank holds the whole model, or its"
            " part by training, sharding: fsdp: start it by torchrun, without that; what is sharded otherwise"
            " grows by isogrow.growing in a Trainer of one's own"
        )
    accelerator: Any = trainer.accelerator
    if sharding == "fsdp" and not accelerator.is_fsdp2:
        raise RecipeError(
            "training, sharding is fsdp, and Accelerate shards models on accelerators alone, of which this"
            " machine has none: leave it out, and every rank holds the whole model"
        )


def shared(
    recipe: Recipe,
    model: nn.Module,
    options: TrainingArguments,
    train: Sequences,
    held_out: Sequences | None,
    tokenizer: Any,
    world: int,
) -> Trainer:
    """A trainer like that of one process, of one rank of `world`."""
    batch = recipe.training.batch
    options.per_device_train_batch_size = batch // world
    options.log_level_replica = "critical"  # the first rank speaks
    options.ddp_find_unused_parameters = False  # every parameter of a known family learns
    if held_out is not None:
        options.per_device_eval_batch_size = share_of(len(held_out), batch // world)
    data = Filled(train, batch)
    trainer = Sharing(model, options, train_dataset=data, eval_dataset=held_out, processing_class=tokenizer)
    if len(data) > len(train) and not trainer.model_accepts_loss_kwargs:
        raise RecipeError(
            f"training, batch is {batch}, which does not divide the {len(train)} sequences, and this model's"
            " loss is a mean of each rank's own, so a short batch can't be shared: train it in one process"
        )
    trainer.add_callback(InStep(data, recipe))
    return trainer


def gathered(trainer: Trainer) -> dict[str, Tensor]:
    """All of a sharded model, in the first rank's memory; every rank has to ask. The others have nothing."""
    accelerator: Any = trainer.accelerator
    return accelerator.get_state_dict(trainer.model)


def share_of(count: int, most: int) -> int:
    """How many of `count` sequences a rank is measured on at a time: so many that none has a share in which
    what it is given twice, to fill the last ones, stands beside what counts.

    >>> share_of(12, 5), share_of(7, 4)
    (4, 1)
    """
    return next(size for size in range(most, 0, -1) if count % size == 0)


class Filled(Dataset[dict[str, Tensor]]):
    """Sequences, and so many more that batches come out even, of which nothing is to be told."""

    def __init__(self, sequences: Sequences, batch: int) -> None:
        self.sequences, self.batch, self.epoch = sequences, batch, 0

    def __len__(self) -> int:
        return -(-len(self.sequences) // self.batch) * self.batch

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        if i < len(self.sequences):
            return self.sequences[i]
        filler = self.sequences[0]
        return {**filler, "labels": filler["labels"].clone().fill_(UNCOUNTED)}


class InOrder(Sampler[int]):
    """The order of one process in the data's epoch, and what fills the last batch behind it."""

    def __init__(self, data: Filled) -> None:
        self.data = data
        self.order: Any = data_loader.SeedableRandomSampler(data.sequences)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[int]:
        self.order.set_epoch(self.data.epoch)
        yield from self.order
        yield from range(len(self.data.sequences), len(self.data))


class Sharing(Trainer):
    """A rank's trainer, by Trainer's own interface to what is learned next, which is a subclass."""

    def _get_train_sampler(self, train_dataset: Any = None) -> InOrder:
        return InOrder(self.train_dataset)  # type: ignore[arg-type]

    def _save_rng_state(self, output_dir: str) -> None:
        """Each rank saves its own, and all are there before the state is, the mark of a whole checkpoint."""
        super()._save_rng_state(output_dir)
        distributed.barrier()


class InStep(TrainerCallback):
    """Keeps the order of an epoch, and the count of tokens, what they are in one process.

    The epoch follows from the step: accelerate tells it to samplers of its own alone.
    """

    def __init__(self, data: Filled, recipe: Recipe) -> None:
        self.data, self.length = data, recipe.data.length
        self.each = recipe.training.batch * recipe.training.accumulate

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the tokens that were learned from before it."""
        count = len(self.data.sequences)
        epoch, within = divmod(step, -(-count // self.each))
        return epoch, (epoch * count + within * self.each) * self.length

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        self.data.epoch, _ = self.place(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        _, state.num_input_tokens_seen = self.place(state.global_step)
