"""A folder grown by 1, 2 and 4 ranks, from each form into each: time, and the memory that each rank needs.

    python benchmarks/sharded.py            measure, and write the rows and the page
    python benchmarks/sharded.py --page     write the page alone

And the same by the whole command of one process, `isogrow grow … --no-verify`, imports and all. Ranks are
on one machine. Memory is what a rank has of its own (VmHWM counts mapped files too): the most
that was seen, above what it had when all was imported, looking every 5 milliseconds. Its bound is three times
a rank's part of the largest tensor, and 64 MB: what is grown is on disk. All forms follow each other in a
round, each round begins with another, and ratios are of one round, so that what else runs on the machine
meets each alike.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
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
WORLDS, ROUNDS = (1, 2, 4), 5
COMMAND = "command"  # what stands for a number of ranks where a whole command was measured
FORMS = ("safetensors", "distributed")
SLACK = 64e6
SIZES = dict(hidden_size=1024, intermediate_size=2816, num_hidden_layers=12, num_attention_heads=16)
GROWTH = dict(hidden=1280, heads=20, kv_heads=20, ffn="x2", layers="+2")
VOCAB = 8192
LARGEST = 2 * VOCAB * 1280  # bytes of the largest grown tensor
PAUSE = 0.005  # seconds between two looks at a rank's memory
Row = Mapping[str, Any]
Key = tuple[str, str, int | str]


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
        **surroundings(),
    }
    shutil.rmtree(out)
    return row


def commanded(folder: Path, source: str, format: str) -> Row:
    """The command of one process, once: its time, and that of the processor with all that it starts."""
    out, words = folder / "out", [f"--{name.replace('_', '-')}={size}" for name, size in GROWTH.items()]
    config = ["--config", str(folder / "safetensors")] if source == "distributed" else []
    start = time.perf_counter()
    run = subprocess.Popen(
        [sys.executable, "-m", "isogrow", "grow", folder / source, out, *words, *config]
        + ["--format", format, "--max-shard-size", "200MB", "--no-verify"],
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(run.pid, 0)
    row = {
        "ranks": COMMAND,
        "source": source,
        "format": format,
        "seconds": time.perf_counter() - start,
        "busy": used.ru_utime + used.ru_stime,
        **surroundings(),
    }
    assert status == 0, (source, format)
    shutil.rmtree(out)
    return row


def surroundings() -> Row:
    """What a row says of the machine."""
    return {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}


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
    forms = list(product(FORMS, FORMS))
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder))
        for turn, ranks in product(range(ROUNDS), (COMMAND, *WORLDS)):
            for source, format in forms[turn % len(forms) :] + forms[: turn % len(forms)]:
                os.sync()  # what the run before wrote is not this one's to wait for
                if isinstance(ranks, int):
                    row = measured(Path(folder), ranks, source, format)
                else:
                    row = commanded(Path(folder), source, format)
                with ROWS.open("a") as file:
                    file.write(json.dumps({"round": turn, **row}) + "\n")


def page(rows: Iterable[Row]) -> str:
    """The page: medians over rounds, the most memory of any rank in any round."""
    kept = list(rows)
    found, load = _grouped(kept), statistics.median(row["load"] for row in kept)
    size = next(row["bytes"] for row in kept if "bytes" in row)
    lines = [
        "# A folder grown by several ranks",
        "",
        f"A Llama of {SIZES['hidden_size']} hidden channels and {SIZES['num_hidden_layers']} layers in"
        " bfloat16"
        f" grows to {size / 1e6:,.0f} MB on one machine of {kept[0]['cores']} cores, all ranks at once; time"
        " from the call to the return of the slowest rank (imports are done), median of rounds:"
        f" {len(found['safetensors', 'safetensors', 1])}. `times` are medians of what a round took over what"
        " safetensors into safetensors took by as many ranks in the same round, by the clock and by the"
        " processor, whose seconds are those of all ranks together. Other work ran on the machine"
        f" (its load was {load:.0f}), so seconds by the clock are an order alone, and those of the processor"
        " depend less on it."
        " Memory is what a rank has of its own above what it has after its imports, the most of any rank; its"
        " bound is three times a rank's part of the largest tensor, and 64 MB."
        " `python benchmarks/sharded.py` makes the rows (sharded.jsonl) and this page.",
        "",
        "| from | into | ranks | seconds | times | processor | times | memory of a rank | its bound |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (source, format, ranks), own in sorted(
        found.items(), key=lambda each: (str(each[0][2]), each[0][:2])
    ):
        if isinstance(ranks, int):
            memory = max(max(row["memory"]) for row in own)
            bound = 3 * own[0]["largest"] / ranks + SLACK
            lines.append(
                f"| {source} | {format} | {ranks} | {_taken(found, own)} | {memory / 1e6:,.0f} MB"
                f" | {bound / 1e6:,.0f} MB |"
            )
    lines += [
        "",
        "The whole command of one process, `isogrow grow … --no-verify`, with its imports and the process"
        " that asks the model's class:",
        "",
        "| from | into | seconds | times | processor | times |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for source, format in product(FORMS, FORMS):
        lines.append(f"| {source} | {format} | {_taken(found, found[source, format, COMMAND])} |")
    return "\n".join(lines) + "\n"


def _taken(found: Mapping[Key, list[Row]], own: list[Row]) -> str:
    """Cells of a row: seconds by the clock and by the processor, and times those of safetensors."""
    whole = {row["round"]: row for row in found["safetensors", "safetensors", own[0]["ranks"]]}

    def cells(name: str, unit: str) -> str:
        ratio = statistics.median(row[name] / whole[row["round"]][name] for row in own)
        return f"{statistics.median(row[name] for row in own):.1f}{unit} | {ratio:.2f}"

    return f"{cells('seconds', '')} | {cells('busy', ' s')}"


def _grouped(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    found = defaultdict[Key, list[Row]](list)
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
