"""Growing a checkpoint on disk, beside copying its output, in paired rounds of one run.

    python -m benchmarks.checkpoint --before OLD/src                2 GB, five rounds
    python -m benchmarks.checkpoint --mergekit VENV/bin/mergekit-yaml     with mergekit's passthrough beside
    python -m benchmarks.checkpoint --gigabytes 0.5 --rounds 1 --folder /some/disk --rows mine/rows.jsonl
    python -m benchmarks.checkpoint --page             results.md and results.svg from the rows, beside them

A random bf16 Llama checkpoint is grown in hidden, ffn and layers, by `--init copy` and by the default random
fill, and in layers alone. OLD is a checkout of an earlier build. Every time ends when the output is on disk
(fsync, sync) and starts with the source in the system's cache, but for "cold", where the system was told to
forget it. mergekit makes the deeper output by passthrough, in an environment of its own. "alone" is
`grow_checkpoint` in a process that has imported all; "whole" is the command with `--no-verify` and its start,
"whole depth" the same in layers alone, and "class" a process that loads the model's class as the command's
own does, which it can't end before. "draw" is a normal entry in memory, drawn as the build draws it.
"mergekit start" is what mergekit imports before it reads a model.
Memory is the peak of anonymous memory (RssAnon) over what the process had before; of a command it is all,
with the processes that it starts. Each measurement is a line of rows.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkpoint import model, page
from benchmarks.checkpoint.model import DEPTH, SIZES
from benchmarks.checkpoint.watching import HERE, SOURCE, Row, Worker, environment, forget, watched

CLASS = "import gc; gc.disable(); from transformers import LlamaForCausalLM"
MERGEKIT = "import mergekit.merge, mergekit.scripts.run_yaml"


@dataclass(frozen=True)
class Place:
    """Where a run works."""

    home: Path

    @property
    def model(self) -> Path:
        return self.home / "model"

    @property
    def out(self) -> Path:
        return self.home / "out"

    @property
    def copy(self) -> Path:
        return self.home / "copy"


def run(command: list[str], source: Path = SOURCE) -> Row:
    """A process: its seconds, those of the processor (its children's too), its peak memory."""
    before, start = os.times(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment(source))
    with watched(process.pid, family=True) as peak:
        code = process.wait()
    after = os.times()
    if code:
        raise SystemExit(f"{command} failed")
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": time.perf_counter() - start, "busy": busy, "memory": peak()}


def copied(place: Place) -> Row:
    """`cp` of the output, and `sync` of the copy."""
    files = " ".join(str(place.copy / path.name) for path in place.out.iterdir())
    found = run(["sh", "-c", f"cp -r --reflink=never {place.out} {place.copy} && sync {files}"])
    shutil.rmtree(place.copy)
    return found


def whole(place: Place, source: Path, init: str, sizes: dict[str, str] = SIZES) -> Row:
    """The command, from the start of Python on."""
    said = [word for name, size in sizes.items() for word in (f"--{name}", size)]
    command = [sys.executable, "-m", "isogrow", "grow", str(place.model), str(place.out), *said]
    shutil.rmtree(place.out, ignore_errors=True)
    return run([*command, "--init", init, "--no-verify"], source)


def merged(place: Place, program: Path) -> Row:
    """What mergekit makes of passthrough: the output of layers alone, its new layers writing zeros."""
    said = place.home / "merge.yaml"
    said.write_text(json.dumps(model.passthrough(place.model)))
    made = run([str(program), str(said), str(place.copy), "--no-copy-tokenizer"])
    kept = run(["sync", *(str(path) for path in place.copy.iterdir())])
    return made | {key: made[key] + kept[key] for key in ("seconds", "busy")}


def rounds(
    place: Place, workers: dict[str, Worker], builds: dict[str, Path], mergekit: Path | None
) -> Iterator[Row]:
    """One round: each contestant once, the copy before and after."""

    def alone(build: str, init: str, sizes: dict[str, str]) -> Row:
        shutil.rmtree(place.out, ignore_errors=True)
        return workers[build].asked("grow", str(place.model), str(place.out), init, json.dumps(sizes))

    read(place.model)
    for build in builds:
        yield {"what": "draw", "build": build, "memory": 0.0, **workers[build].asked("draw")}
        for init in ("copy", "normal"):
            yield {"what": "alone", "init": init, "build": build, **alone(build, init, SIZES)}
    yield {"what": "cp", "output": "wide", **copied(place)}
    for init in ("copy", "normal"):
        forget(place.model)
        yield {"what": "cold", "init": init, "build": "now", **alone("now", init, SIZES)}
    forget(place.out)
    yield {"what": "cp", "output": "cold", **copied(place)}
    yield {"what": "tofile", "output": "wide", **workers["now"].asked("tofile", str(place.out))}
    yield {"what": "class", "build": "now", **run([sys.executable, "-c", CLASS])}
    for build, source in builds.items():
        for init in ("copy", "normal"):
            yield {"what": "whole", "init": init, "build": build, **whole(place, source, init)}
    yield {"what": "cp", "output": "wide", **copied(place)}
    yield {"what": "bytes", "build": "now", **workers["now"].asked("bytes", str(place.model), str(place.out))}
    if "model" not in workers:
        workers["model"] = Worker(SOURCE)
        workers["model"].asked("load", str(place.out))
    yield {"what": "save_pretrained", **workers["model"].asked("save", str(place.copy))}
    shutil.rmtree(place.copy)
    for build in builds:
        yield {"what": "depth", "build": build, **alone(build, "copy", DEPTH)}
    yield {"what": "cp", "output": "deep", **copied(place)}
    for build, source in builds.items():
        yield {"what": "whole depth", "build": build, **whole(place, source, "copy", DEPTH)}
    if mergekit is not None:
        python = mergekit.with_name("python")
        yield {"what": "mergekit start", **run([str(python), "-c", MERGEKIT])}
        yield {"what": "mergekit", **merged(place, mergekit)}
        shutil.rmtree(place.copy)


def read(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


def measure(given: argparse.Namespace) -> None:
    """Append the rows of all rounds to a file."""
    run = time.strftime("%H:%M")
    builds = {"now": SOURCE} | ({"before": given.before.resolve()} if given.before else {})
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="isogrow-benchmark-") as home:
        place = Place(Path(home).resolve())
        model.build(place.model, model.config(given.gigabytes))
        workers = {name: Worker(source) for name, source in builds.items()}
        try:
            for number in range(given.rounds):
                for row in rounds(place, workers, builds, given.mergekit):
                    found = {
                        "run": run,
                        "round": number,
                        **row,
                        "load": os.getloadavg()[0],
                        **page.where(given.gigabytes),
                    }
                    with given.rows.open("a") as file:
                        file.write(json.dumps(found) + "\n")
        finally:
            for worker in workers.values():
                worker.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--before", type=Path)
    parser.add_argument("--mergekit", type=Path)
    parser.add_argument("--rows", type=Path, default=HERE / "rows.jsonl")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if not given.page:
        measure(given)
    page.write(given.rows, given.rows.parent)


if __name__ == "__main__":
    main()
