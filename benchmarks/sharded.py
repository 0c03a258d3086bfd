"""A folder grown by 1, 2 and 4 ranks, from each form into each: time, and the memory that each rank needs.

    python benchmarks/sharded.py            measure, and write the rows and the page
    python benchmarks/sharded.py --page     write the page alone

All ranks are on one machine. Memory is what a rank has of its own (VmHWM counts mapped files too): the most
that was seen, above what it had when all was imported, looking every 5 milliseconds. Its bound is three times
a rank's part of the largest tensor, and 64 MB: what is grown is on disk. All forms follow each other in a
round, so that what else runs on the machine meets each alike.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from ranked import reported, watched

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "sharded.jsonl", HERE / "sharded.md"
WORLDS, ROUNDS = (1, 2, 4), 2
FORMS = ("safetensors", "distributed")
SLACK = 64e6
SIZES = dict(hidden_size=1024, intermediate_size=2816, num_hidden_layers=12, num_attention_heads=16)
GROWTH = dict(hidden=1280, heads=20, kv_heads=20, ffn="x2", layers="+2")
VOCAB = 8192
LARGEST = 2 * VOCAB * 1280  # bytes of the largest grown tensor
PAUSE = 0.005  # seconds between two looks at a rank's memory
Row = Mapping[str, Any]


def rank(src: str, out: str, config: str, format: str) -> None:
    """Grow as one rank, and report on stdout."""
    import isogrow
    import isogrow.growth.resuming
    import isogrow.interpreters.checkpoint
    import isogrow.stores.distributed_metadata  # noqa: F401

    def grow() -> None:
        told: Any = {"config": config} if config != "-" else {}
        isogrow.grow_checkpoint(src, out, format=format, max_shard_size="200MB", **told, **GROWTH)

    busy = time.process_time()
    _, seconds, memory = watched(grow, PAUSE)
    print(json.dumps({"seconds": seconds, "busy": time.process_time() - busy, "memory": memory}))


def measured(folder: Path, world: int, source: str, format: str) -> Row:
    """So many ranks, once: the slowest one's time, and the memory of each."""
    out, config = folder / "out", folder / "safetensors" if source == "distributed" else "-"
    found = reported(__file__, world, folder / source, out, config, format)
    row = {
        "ranks": world,
        "source": source,
        "format": format,
        "seconds": max(each["seconds"] for each in found),
        "busy": sum(each["busy"] for each in found),
        "memory": [each["memory"] for each in found],
        "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        "largest": LARGEST,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }
    shutil.rmtree(out)
    return row


def made(folder: Path) -> None:
    """The model that is grown, in each form."""
    import torch
    import torch.distributed.checkpoint as dcp
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, **SIZES)).bfloat16()
    model.save_pretrained(folder / "safetensors")
    dcp.save({"model": model.state_dict()}, checkpoint_id=folder / "distributed", no_dist=True)


def measure() -> None:
    """Add a row for each run as it ends."""
    ROWS.write_text("")
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder))
        for world in WORLDS * ROUNDS:
            for source, format in product(FORMS, FORMS):
                row = measured(Path(folder), world, source, format)
                with ROWS.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def page(rows: Iterable[Row]) -> str:
    """The page: medians over rounds, the most memory of any rank in any round."""
    kept = list(rows)
    seconds, busy = (
        {key: statistics.median(row[name] for row in own) for key, own in _grouped(kept).items()}
        for name in ("seconds", "busy")
    )
    rounds, load = len(kept) // len(seconds), statistics.median(row["load"] for row in kept)
    lines = [
        "# A folder grown by several ranks",
        "",
        f"A Llama of {SIZES['hidden_size']} hidden channels and {SIZES['num_hidden_layers']} layers in"
        " bfloat16"
        f" grows to {kept[0]['bytes'] / 1e6:,.0f} MB on one machine of {kept[0]['cores']} cores, all ranks at"
        " once; time from the call to the return of the slowest rank (imports are done), median of rounds:"
        f" {rounds}; `times` are those of safetensors into safetensors by as many ranks. Other work ran on"
        f" the machine (its load was {load:.0f}), so seconds are an order alone; those of the processor, of"
        " all ranks together, depend less on it."
        " Memory is what a rank has of its own above what it has after its imports, the most of any rank; its"
        " bound is three times a rank's part of the largest tensor, and 64 MB."
        " `python benchmarks/sharded.py` makes the rows (sharded.jsonl) and this page.",
        "",
        "| from | into | ranks | seconds | times | processor | memory of a rank | its bound |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for (source, format, world), own in sorted(_grouped(kept).items(), key=lambda each: each[0][2]):
        taken = seconds[source, format, world]
        times = taken / seconds["safetensors", "safetensors", world]
        memory = max(max(row["memory"]) for row in own)
        bound = 3 * own[0]["largest"] / world + SLACK
        lines.append(
            f"| {source} | {format} | {world} | {taken:.1f} | {times:.2f} |"
            f" {busy[source, format, world]:.1f} s | {memory / 1e6:,.0f} MB"
            f" | {bound / 1e6:,.0f} MB |"
        )
    return "\n".join(lines) + "\n"


def _grouped(rows: Iterable[Row]) -> dict[tuple[str, str, int], list[Row]]:
    found = defaultdict[tuple[str, str, int], list[Row]](list)
    for row in rows:
        found[row["source"], row["format"], row["ranks"]].append(row)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        rank(*sys.argv[2:])
        raise SystemExit
    if "--page" not in sys.argv:
        measure()
    PAGE.write_text(page(map(json.loads, ROWS.read_text().splitlines())))
