"""A script that `accelerate launch` starts: a loop of one's own, then a Trainer, both sharded by what the
launcher was asked for. Accelerate is told that CPUs may (`rehoming_job.accelerated`)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import accelerate.state as state
import rehoming_job
import sharded_job as job
import torch
from accelerate import Accelerator
from sharded_job import EVEN, apart, made, train_, whole

import isogrow


def loop() -> dict[str, Any]:
    """Steps, two growths where the prepared model stands, steps; and the same in one process."""
    accelerator = Accelerator(cpu=True)
    model, single = (made("llama", **EVEN) for _ in range(2))
    optimizer = job.OPTIMIZERS["adamw"](list(model.parameters()))
    alone = job.OPTIMIZERS["adamw"](list(single.parameters()))
    model, optimizer = accelerator.prepare(model, optimizer)
    for number, growth in enumerate(rehoming_job.GROWTHS):
        train_(model, optimizer, number)
        train_(single, alone, number)
        isogrow.grow_(model, optimizer=optimizer, shard=isogrow.sharded_by(accelerator), **growth)
        isogrow.grow_(single, optimizer=alone, **growth)
    train_(model, optimizer, 5)
    train_(single, alone, 5)
    pairs = zip(model.parameters(), single.parameters(), strict=True)
    return {
        "launched": os.environ["ACCELERATE_USE_FSDP"],
        "ranks": accelerator.num_processes,
        "kind": type(model).__name__,
        "apart": max(apart(whole(mine), theirs) for mine, theirs in pairs),
    }


def main(folder: Path) -> None:
    rehoming_job.accelerated()
    found = {"loop": loop()}
    state.AcceleratorState._reset_state()
    one = rehoming_job.trainer(folder / "run", 3, **rehoming_job.fsdp("SHARDED_STATE_DICT"))
    one.train()
    found["trainer"] = rehoming_job.told(one)
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
