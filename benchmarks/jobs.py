"""A running job that grows over 1, 2 and 4 ranks: its time in training steps, and the memory that it needs.

    python benchmarks/jobs.py            measure, and write the rows and the page
    python benchmarks/jobs.py --page     write the page alone

All ranks are on one machine, the model is sharded by FSDP2 with gloo, and AdamW's moments grow with it.
Memory is what a rank has of its own at the peak of the growth, above what it has when the old parts and their
moments are there (what steps have freed is given back to the system first). The bound is its new parts and
moments, three times the largest tensor's part, and 64 MB.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ranked import reported, watched

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "jobs.jsonl", HERE / "jobs.md"
WORLDS, ROUNDS = (1, 2, 4), 2
SIZES = dict(hidden_size=512, intermediate_size=1376, num_hidden_layers=6, num_attention_heads=8)
GROWTH = dict(ffn="x2", heads="x2", layers="+2")
BATCH, LENGTH, SLACK = 4, 256, 64e6
PAUSE = 0.002  # seconds between two looks at a rank's memory
Row = Mapping[str, Any]


def rank() -> None:
    """Train, grow and train on as one rank, and report on stdout."""
    import torch
    from torch.distributed.fsdp import fully_shard
    from transformers import LlamaConfig, LlamaForCausalLM

    import isogrow

    torch.distributed.init_process_group("gloo")

    def shard(model: Any) -> None:
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)

    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=4096, **SIZES))
    shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(model: Any, optimizer: Any) -> None:
        ids = torch.randint(4096, (BATCH, LENGTH))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    taken = [watched(lambda: step(model, optimizer), PAUSE)[1] for _ in range(2)]
    model.reshard()
    isogrow.plan(model, **GROWTH)  # type: ignore[arg-type]  # what is imported is there
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    grown, seconds, memory = watched(
        lambda: isogrow.grow_training(model, optimizer=optimizer, shard=shard, **GROWTH),  # type: ignore[arg-type]
        PAUSE,
    )
    parts = [p.to_local().nbytes for p in grown.model.parameters()]
    said = {"step": min(taken), "growth": seconds, "memory": memory}
    said |= {"new": 3 * sum(parts), "largest": max(parts)}
    torch.distributed.barrier()
    print(json.dumps(said))
    torch.distributed.destroy_process_group()


def measured(world: int) -> Row:
    """So many ranks, once: the slowest one's times, and the memory of each."""
    found = reported(__file__, world)
    slowest = {name: max(each[name] for each in found) for name in ("step", "growth")}
    own = {name: [each[name] for each in found] for name in ("memory", "new", "largest")}
    return {
        "ranks": world,
        **slowest,
        **own,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def page(rows: Iterable[Row]) -> str:
    """The page: medians of times over rounds, the most memory of any rank in any round."""
    kept = list(rows)
    load = statistics.median(row["load"] for row in kept)
    rounds = sum(row["ranks"] == kept[0]["ranks"] for row in kept)
    lines = [
        "# A running job that grows",
        "",
        f"A Llama of {SIZES['hidden_size']} hidden channels and {SIZES['num_hidden_layers']} layers in"
        f" float32, sharded by FSDP2, and its AdamW grow ({', '.join(f'{k} {v}' for k, v in GROWTH.items())})"
        f" by `grow_training` on one machine of {kept[0]['cores']} cores, over gloo; a step learns {BATCH}"
        f" sequences of {LENGTH} tokens on each rank; imports are done. Rounds: {rounds}. Other work ran"
        f" beside (the load was {load:.0f}), so seconds are an order"
        " alone, and growth and step are of one run. Memory is that of the rank that comes nearest to its"
        " bound, above the old parts and their moments, and less the new ones and theirs; the bound is these,"
        " three times the largest tensor's part, and 64 MB."
        " `python benchmarks/jobs.py` makes the rows (jobs.jsonl) and this page.",
        "",
        "| ranks | a step before | growth | in steps | memory | beside new parts | its bound |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for world in dict.fromkeys(row["ranks"] for row in kept):
        own = [row for row in kept if row["ranks"] == world]
        step, growth = (statistics.median(row[name] for row in own) for name in ("step", "growth"))
        lasted = statistics.median(row["growth"] / row["step"] for row in own)
        memory, new, bound = max((rank for row in own for rank in _memory(row)), key=lambda r: r[0] - r[2])
        lines.append(
            f"| {world} | {step:.2f} s | {growth:.2f} s | {lasted:.1f} | {memory / 1e6:,.0f} MB"
            f" | {(memory - new) / 1e6:,.0f} MB | {bound / 1e6:,.0f} MB |"
        )
    return "\n".join(lines) + "\n"


def _memory(row: Row) -> list[tuple[int, int, float]]:
    """Of each rank its memory, its new parts and moments, and its bound."""
    each = zip(row["memory"], row["new"], row["largest"], strict=True)
    return [(memory, new, new + 3 * largest + SLACK) for memory, new, largest in each]


if __name__ == "__main__":
    if "--rank" in sys.argv:
        rank()
        raise SystemExit
    if "--page" not in sys.argv:
        ROWS.write_text("")
        for world in WORLDS * ROUNDS:
            with ROWS.open("a") as file:
                file.write(json.dumps(measured(world)) + "\n")
    PAGE.write_text(page(map(json.loads, ROWS.read_text().splitlines())))
