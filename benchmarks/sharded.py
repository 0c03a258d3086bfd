"""A folder grown by 1, 2 and 4 ranks: time, and the memory that each rank needs at its peak.

    python benchmarks/sharded.py            measure, and write the rows and the page
    python benchmarks/sharded.py --page     write the page alone

All ranks are on one machine. Memory is what a rank has of its own (VmHWM counts mapped files too): the most
that was seen, above what it had when all was imported, looking every 5 milliseconds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ranked import reported, watched

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "sharded.jsonl", HERE / "sharded.md"
WORLDS, ROUNDS = (1, 2, 4), 1
SIZES = dict(hidden_size=1024, intermediate_size=2816, num_hidden_layers=12, num_attention_heads=16)
GROWTH = dict(hidden=1280, heads=20, kv_heads=20, ffn="x2", layers="+2")
PAUSE = 0.005  # seconds between two looks at a rank's memory
Row = Mapping[str, Any]


def rank(src: str, out: str, format: str) -> None:
    """Grow as one rank, and report on stdout."""
    import isogrow
    import isogrow.growth.resuming
    import isogrow.interpreters.checkpoint
    import isogrow.stores.distributed_output  # noqa: F401

    def grow() -> None:
        isogrow.grow_checkpoint(src, out, format=format, max_shard_size="200MB", **GROWTH)  # type: ignore[arg-type]

    _, seconds, memory = watched(grow, PAUSE)
    print(json.dumps({"seconds": seconds, "memory": memory}))


def measured(src: Path, out: Path, world: int, format: str) -> Row:
    """So many ranks, once: the slowest one's time, and the memory of each."""
    found = reported(__file__, world, src, out, format)
    return {
        "ranks": world,
        "format": format,
        "seconds": max(each["seconds"] for each in found),
        "memory": [each["memory"] for each in found],
        "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        "cores": len(os.sched_getaffinity(0)),
    }


def measure() -> None:
    """Add a row for each run as it ends."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    ROWS.write_text("")
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(vocab_size=8192, **SIZES)).bfloat16().save_pretrained(f"{folder}/small")
        for turn in range(ROUNDS):
            for format in ("safetensors", "distributed"):
                for world in WORLDS:
                    out = Path(folder, f"{turn}{format}{world}")
                    row = measured(Path(folder, "small"), out, world, format)
                    with ROWS.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    subprocess.run(["rm", "-r", out], check=True)


def page(rows: Iterable[Row]) -> str:
    """The page: medians over rounds, the most memory of any rank in any round."""
    kept = list(rows)
    formats = {row["format"] for row in kept}
    rounds = sum(row["ranks"] == 1 for row in kept) // len(formats)
    lines = [
        "# A folder grown by several ranks",
        "",
        f"A Llama of {SIZES['hidden_size']} hidden channels and {SIZES['num_hidden_layers']} layers in"
        " bfloat16"
        f" grows to {kept[0]['bytes'] / 1e6:,.0f} MB on one machine of {kept[0]['cores']} cores, all ranks at"
        " once; time from the call to the return of the slowest rank (imports are done), median of rounds:"
        f" {rounds}. Other work ran on the machine in the rows that are kept, so seconds are an order alone."
        " Memory is what a rank has of its own above what it has after its imports, the most of any rank."
        " `python benchmarks/sharded.py` makes the rows (sharded.jsonl) and this page.",
        "",
        "| format | ranks | seconds | memory of a rank |",
        "|---|--:|--:|--:|",
    ]
    for format in dict.fromkeys(row["format"] for row in kept):
        for world in dict.fromkeys(row["ranks"] for row in kept):
            own = [row for row in kept if (row["format"], row["ranks"]) == (format, world)]
            seconds = statistics.median(row["seconds"] for row in own)
            memory = max(max(row["memory"]) for row in own)
            lines.append(f"| {format} | {world} | {seconds:.1f} | {memory / 1e6:,.0f} MB |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        rank(*sys.argv[2:])
        raise SystemExit
    if "--page" not in sys.argv:
        measure()
    PAGE.write_text(page(map(json.loads, ROWS.read_text().splitlines())))
