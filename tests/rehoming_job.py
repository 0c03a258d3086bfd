"""One rank of two: sharded models that grow where they stand, in a loop, under Accelerate and in Trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sharded_job as job
import torch
from sharded_job import EVEN, apart, ids, joined, made, shard_as, tied, train_, whole
from torch import nn

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
    found["as it was"] = str(model.config.intermediate_size)
    return found


CASES = {
    "fsdp": lambda: in_place("fsdp"),
    "tied": lambda: in_place("fsdp", tie_word_embeddings=True),
    "tp": lambda: in_place("tp"),
    "offloaded": lambda: in_place("offloaded"),
    "left alone": left_alone,
    "refused": refused,
}


def main(folder: Path, rank: int, count: int) -> None:
    joined(folder, rank, count)
    found = {name: case() for name, case in CASES.items()}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
