"""How a trainer's model is sharded: by Accelerate's FSDP2, which shards the grown one as it did the old one.

What of a trainer's sharding can't grow is refused, in words, before its first step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from transformers import Trainer

from isogrow.errors import StateError
from isogrow.growth.shardable import spread_out
from isogrow.growth.sharding import Shard

# How a trainer may have its model spread over ranks other than by FSDP2, and where it says so.
OTHERS = {
    "is_deepspeed_enabled": "DeepSpeed",
    "is_fsdp_xla_enabled": "FSDP of XLA",
    "is_distributed_loading_by_transformers": "transformers' own distributed_config",
}


def shard_of(trainer: Trainer) -> Shard | None:
    """The function that shards a model as this trainer does; None: its model is whole on every rank.

    Raises `StateError` for a trainer whose model is sharded so that it can't grow in it.
    """
    accelerator: Any = trainer.accelerator
    other = next((what for name, what in OTHERS.items() if getattr(trainer, name, False)), None)
    if other is None and getattr(trainer, "is_fsdp_enabled", False) and not accelerator.is_fsdp2:
        other = "FSDP of version 1"
    if other is not None:
        raise StateError(
            f"this trainer spreads its model over ranks by {other}, in which it can't grow: train by FSDP2"
            ' (fsdp=True, fsdp_config={"version": 2}), or grow in a loop of your own by'
            " isogrow.grow_training(model, shard=…)"
        )
    if getattr(trainer, "is_fsdp_enabled", False):
        return sharded_by(accelerator)
    if spread_out(trainer.model):  # type: ignore[arg-type]
        raise StateError(
            "this trainer's model was sharded before the trainer got it, and how is not known: give the"
            " trainer the whole model and fsdp=True, or grow in a loop of your own by"
            " isogrow.grow_training(model, shard=…)"
        )
    return None


def sharded_by(accelerator: Any) -> Shard:
    """The function that shards a model without numbers as Accelerate's `accelerator.prepare` shards one.

    With it a prepared model grows where it stands: `isogrow.grow_(model, optimizer=optimizer,
    shard=isogrow.sharded_by(accelerator), ffn="x2")`. Raises `StateError` for an accelerator that does not
    shard by FSDP2.
    """
    if not accelerator.is_fsdp2:
        raise StateError(
            f"this accelerator's way to spread a model is {accelerator.distributed_type}, and FSDP of version"
            " 2 was expected: give one with FullyShardedDataParallelPlugin(fsdp_version=2), which Accelerate"
            " takes on accelerators alone; a model that it keeps whole grows without shard="
        )
    return partial(_sharded, accelerator)


def _sharded(accelerator: Any, large: Any) -> object:
    from accelerate.utils.fsdp_utils import (  # pyright: ignore[reportMissingTypeStubs]
        fsdp2_prepare_model,
    )

    plugin: Any = accelerator.state.fsdp_plugin
    loads, plugin.cpu_ram_efficient_loading = plugin.cpu_ram_efficient_loading, False  # there are no numbers
    try:
        return fsdp2_prepare_model(accelerator, large)
    finally:
        plugin.cpu_ram_efficient_loading = loads
