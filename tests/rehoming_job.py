"""One rank of two: sharded models that grow where they stand, in a loop, under Accelerate and in Trainer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import accelerate.state as state
import sharded_job as job
import tiny
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from joining import joined
from sharded_job import EVEN, apart, ids, made, shard_as, tied, train_, whole
from torch import nn
from transformers import Trainer, TrainingArguments

import isogrow

Report = dict[str, Any]
GROWTHS = ({"ffn": 44, "layers": "+1"}, {"heads": 8, "kv_heads": 4, "hidden": 80})


class Held(nn.Module):
    """A root that has a parameter of its own, and its model within."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model


def in_place(kind: str, **changes: Any) -> Report:
    """Steps, a growth, steps, another growth, steps; and the same in one process, out of place."""
    model, single = (made("llama", **EVEN, **changes) for _ in range(2))
    shard = shard_as(kind)
    shard(model)
    runs: list[int] = []
    model.register_forward_hook(lambda *_: runs.append(1))
    optimizer = job.OPTIMIZERS["adamw"](list(model.parameters()))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    train_(model, optimizer, 1)
    schedule.step()
    alone = job.gathered(model, optimizer, single, "adamw")
    alone.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"]
    before, found = id(model), dict[str, Any]()
    for number, growth in enumerate(GROWTHS):
        plan = isogrow.grow_(model, optimizer=optimizer, shard=shard, seed=number, **growth)
        one = isogrow.grow_training(single, optimizer=alone, seed=number, **growth)
        single, alone = one.model, one.optimizer
        assert isogrow.plan_of(model) is plan
        for seed in (3, 4):
            train_(model, optimizer, seed)
            train_(single, alone, seed)
        pairs = list(zip(model.parameters(), single.parameters(), strict=True))
        found[f"apart {number}"] = max(apart(whole(mine), theirs) for mine, theirs in pairs)
    schedule.step()
    with torch.no_grad():
        logits, wanted = (each(input_ids=ids(each, 5)).logits for each in (model, single))
    return found | {
        "same": id(model) == before,
        "function": apart(whole(logits), wanted),
        "hooked": len(runs),
        "tied": tied(model) == tied(single),
        "rate": optimizer.param_groups[0]["lr"],
        "moments": sum(len(state) for state in optimizer.state.values()),
    }


def left_alone() -> Report:
    """The same, but the old root's state stays: the proof that it is seen."""
    from isogrow.growth import api
    from isogrow.growth.adopting import adopt_

    true = api.rehome_
    api.rehome_ = adopt_
    try:
        return in_place("fsdp")
    except Exception as error:
        return {"error": type(error).__name__}
    finally:
        api.rehome_ = true


def layers_alone(shard: Any) -> Any:
    """The function that shards each layer, and not the model around them."""

    def sharded(model: Any) -> None:
        for layer in model.model.layers:
            shard(layer)

    return sharded


def refused() -> dict[str, str]:
    """What can't grow where it stands, in the words of this rank."""
    from isogrow.growth import rehoming

    rank, shard = torch.distributed.get_rank(), shard_as("fsdp")
    model = made("llama", **EVEN)
    shard(model)
    held = Held(made("llama", **EVEN))
    shard(held)
    found: dict[str, str] = {}

    def tried(name: str, attempt: Any) -> None:
        try:
            attempt()
            found[name] = "nothing"
        except ValueError as error:
            found[name] = f"{type(error).__name__}: {error}"

    tried("no function", lambda: isogrow.grow_(model, ffn="x2"))
    tried("on one", lambda: isogrow.grow_(model, ffn=1 if rank else "x2", shard=shard))
    tried("held", lambda: isogrow.grow_(held.model, ffn="x2", shard=shard))
    needed, rehoming.NEEDED = rehoming.NEEDED, ("_of_another_torch",)
    tried("another torch", lambda: isogrow.grow_(model, ffn="x2", shard=shard))
    rehoming.NEEDED = needed
    optimizer = torch.optim.AdamW(model.parameters())
    train_(model, optimizer, 1)
    had = len(optimizer.state)
    tried("root left", lambda: isogrow.grow_(model, optimizer=optimizer, ffn="x2", shard=layers_alone(shard)))
    found["kept"] = str(len(optimizer.state) == had > 0)
    found["as it was"] = str(model.config.intermediate_size)
    return found


# ── under Accelerate ──


def accelerated() -> None:
    """Accelerate takes FSDP on accelerators alone; from here on it takes it on CPUs as well."""
    true = state.AcceleratorState.__init__

    def told(self: Any, *given: Any, **said: Any) -> None:
        true(self, *given, **said)
        if said.get("fsdp_plugin") is not None:
            self.fsdp_plugin, self.distributed_type = said["fsdp_plugin"], DistributedType.FSDP
            state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    state.AcceleratorState.__init__ = told


def prepared() -> Report:
    """A loop of one's own: a model and an optimizer that are prepared, and grow between steps."""
    refused = ""
    try:
        isogrow.sharded_by(Accelerator(cpu=True))
    except ValueError as error:
        refused = str(error)
    state.AcceleratorState._reset_state(True)
    accelerated()
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=True
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    model, single = (made("llama", **EVEN) for _ in range(2))
    optimizer = job.OPTIMIZERS["adamw"](list(model.parameters()))
    model, optimizer = accelerator.prepare(model, optimizer)
    alone = job.OPTIMIZERS["adamw"](list(single.parameters()))
    for growth in (None, *GROWTHS):
        if growth is not None:
            shard = isogrow.sharded_by(accelerator)
            isogrow.grow_(model, optimizer=optimizer, shard=shard, **growth)
            isogrow.grow_(single, optimizer=alone, **growth)
        for seed in (1, 2):
            train_(model, optimizer, seed)
            train_(single, alone, seed)
    pairs = list(zip(model.parameters(), single.parameters(), strict=True))
    return {
        "refused": refused,
        "apart": max(apart(whole(mine), theirs) for mine, theirs in pairs),
        "units": sum("FSDP" in type(part).__name__ for part in model.modules()),
        "layers": model.config.num_hidden_layers,
        "loads": plugin.cpu_ram_efficient_loading,
    }


def trainer(folder: Path, batch: int, **sharded: Any) -> Trainer:
    """Eight steps with two growths, in batches of six together."""
    data = [torch.randint(0, 32, (7,), generator=torch.Generator().manual_seed(i)) for i in range(60)]
    options = TrainingArguments(
        str(folder), max_steps=8, per_device_train_batch_size=batch, save_steps=2, save_strategy="steps",
        logging_steps=1, learning_rate=1e-3, report_to=[], use_cpu=True, disable_tqdm=True, **sharded,
    )  # fmt: skip
    growths = [isogrow.Growth({"ffn": "x2", "layers": "+1"}, at=3), isogrow.Growth({"hidden": "x2"}, at=6)]
    model = tiny.model("LlamaForCausalLM")
    return isogrow.growing(
        Trainer(model, options, train_dataset=[{"input_ids": x, "labels": x} for x in data]), growths
    )


def fsdp(form: str) -> dict[str, Any]:
    return {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": form}}


def told(one: Trainer) -> Report:
    records = one.state.log_history
    return {
        "losses": [record["loss"] for record in records if "loss" in record],
        "differences": [record["growth_difference"] for record in records if "growth" in record],
        "kind": type(one.model).__name__,
        "sizes": [one.model.config.hidden_size, one.model.config.num_hidden_layers],  # type: ignore[union-attr]
    }


def trained(folder: Path, form: str) -> Report:
    one = trainer(folder, 6 // job.world(), **fsdp(form))
    one.train()
    return told(one)


def resumed(folder: Path, form: str) -> Report:
    """From within the first growth's stage, saved by another number of ranks."""
    one = trainer(folder, 6 // job.world(), **fsdp(form))
    one.train(resume_from_checkpoint=str(folder / "checkpoint-4"))
    return told(one)


def others(folder: Path, rank: int, count: int) -> None:
    """The same run, gone on with by so many ranks."""
    started(folder / f"ranks{count}", rank, count)
    accelerated()
    found = {form: resumed(folder / form, form) for form in FORMS}
    (folder / f"ranks{count}" / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


FORMS = ("SHARDED_STATE_DICT", "FULL_STATE_DICT")
CASES = {
    "fsdp": lambda: in_place("fsdp"),
    "tied": lambda: in_place("fsdp", tie_word_embeddings=True),
    "tp": lambda: in_place("tp"),
    "offloaded": lambda: in_place("offloaded"),
    "left alone": left_alone,
    "refused": refused,
}


def started(folder: Path, rank: int, count: int) -> None:
    where = {"MASTER_ADDR": "localhost", "MASTER_PORT": "0", "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {**where, "RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
    joined(folder, rank, count, 300)


def main(folder: Path, rank: int, count: int) -> None:
    started(folder, rank, count)
    found = {name: case() for name, case in CASES.items()}
    found["prepared"] = prepared()
    state.AcceleratorState._reset_state()
    found |= {form: trained(folder / form, form) for form in FORMS}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
