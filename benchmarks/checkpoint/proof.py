"""A streamed `verify` of a pair of 20 GB beside a cold read of both and the forward passes that it makes.

    python -m benchmarks.checkpoint.proof                  8.0 and 11.7 GB: rows to proof.jsonl, and proof.md
    python -m benchmarks.checkpoint.proof --layers 2 --folder /some/disk --rows my-rows.jsonl
    python -m benchmarks.checkpoint.proof --before OLD/src     an earlier build's `verify` of the same pair
    python -m benchmarks.checkpoint.proof --page           proof.md from the rows

A random bf16 Llama is grown in hidden, ffn and layers. Measured are, one after the other, each in a process
that has imported everything: a read of both folders that the system was told to forget (by 16 MB, into one
buffer); `isogrow.verify(small, large, streamed=True)` of both, which the system was told to forget again,
part by part, with the peak of anonymous memory (RssAnon) of each part over the start; and the same forward
passes alone. Those are made of a pair of one layer each, whose weights are all in memory in the dtype of the
run: each pass is made once to get them there, then once more on the clock, its layer apart from all else, and
the layer's seconds are multiplied by the number of layers. Seconds are those of the clock, `busy` those of
the processor. Every run with `--before` measures both builds one after the other, on the same files.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.checkpoint import model, page
from benchmarks.checkpoint.watching import HERE, SOURCE, Row, Worker, forget

PAGE = "proof.md"
SIZES = {"hidden": "+256", "ffn": "+2816"}
NEW = 4  # layers
NEAR = 3.0  # the aim: the time, in units of a read and the passes
PARTS = {"weights": "weights", "float64 and own dtype": "float64, own dtype, padding", "liveness": "liveness"}


def config(layers: int) -> dict[str, Any]:
    """A Llama of such wide layers that 21 of them are 8.0 GB, with norms around 1."""
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": layers}
    return model.config(0.1) | sizes | {"num_key_value_heads": 8, "head_dim": 128}


def measured(home: Path, layers: int, builds: dict[str, Path]) -> Iterator[Row]:
    small, large, alone, wide = (home / name for name in ("small", "large", "one", "one-wide"))
    model.build(small, config(layers))
    model.build(alone, config(1))
    with_worker("grow", str(small), str(large), "normal", json.dumps(SIZES | {"layers": f"+{NEW}"}))
    with_worker("grow", str(alone), str(wide), "normal", json.dumps(SIZES))
    sizes = {"small": _size(small), "large": _size(large), "layer": model.largest_layer(large)}
    counts = {"layers": [layers, layers + NEW]}
    for folder in (small, large):
        forget(folder)
    yield {"what": "read", **sizes, **counts, "seconds": sum(map(_read, (small, large)))}
    for build, source in builds.items():
        for folder in (small, large):
            forget(folder)
        found = with_worker("verify", str(small), str(large), source=source)
        yield {"what": "verify", "build": build, **sizes, **counts, **found}
    yield {"what": "passes", **sizes, **counts, **with_worker("passes", str(alone), str(wide))}


def with_worker(*words: str, source: Path = SOURCE) -> Row:
    """What a process of its own says."""
    worker = Worker(source)
    try:
        return worker.asked(*words)
    finally:
        worker.end()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _read(folder: Path) -> float:
    """Seconds to read a folder's weights."""
    start, room = time.perf_counter(), bytearray(1 << 24)
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(room):
                pass
    return time.perf_counter() - start


def passes(row: Row, key: str = "") -> float:
    """Seconds of all forward passes: of their layers as often as there are, and of all else once."""
    small, large = row["layers"]
    seconds, layer = (key or "seconds"), f"layer {key}".strip()
    return sum(
        each[seconds] + ((large if each["large"] else small) - 1) * each[layer]
        for each in row["passes"].values()
    )


def write(rows: Path, folder: Path) -> None:
    """The page, of the last row of each kind."""
    last: list[Row] = []
    for row in map(json.loads, rows.read_text().splitlines()):
        last = [row] if row["what"] == "read" else [*last, row]
    found = {(row["what"], row.get("build", "now")): row for row in last}
    read, verify, alone = (found[what, "now"] for what in ("read", "verify", "passes"))
    before = found.get(("verify", "before"))
    parts = {row["part"]: row for row in verify["parts"]}
    compared = _compared(verify)
    reading, forward = read["seconds"], passes(alone)
    seconds, most = (made(row[key] for row in compared) for key, made in (("seconds", sum), ("memory", max)))
    busy = sum(row["busy"] for row in compared)
    bound = (2 * 8 * verify["layer"] + 500e6) / 1e6
    loads = [row["load"] for row in (read, verify, alone)]
    lines = [
        "# A streamed proof",
        "",
        "Made by `python -m benchmarks.checkpoint.proof` (its docstring says what is measured, and how).",
        "",
        f"{verify['day']}, {verify['cores']} cores, Linux {verify['system']}, the load"
        f" {min(loads):.1f} to {max(loads):.1f} (above the number of cores other work ran beside): a random"
        f" bfloat16 Llama of {verify['small'] / 1e9:.1f} GB grown to {verify['large'] / 1e9:.1f} GB,"
        f" {verify['layers'][0]} layers to {verify['layers'][1]}.",
        "",
        "| | seconds | processor s | peak of memory, MB |",
        "|---|---|---|---|",
        f"| a cold read of both folders | {reading:.0f} | | |",
        f"| the {len(alone['passes'])} forward passes alone | {forward:.0f} |"
        f" {passes(alone, 'busy'):.0f} | |",
        *(
            f"| `verify`, streamed: {PARTS.get(name, name)} | {row['seconds']:.0f} | {row['busy']:.0f} |"
            f" {row['memory']:.0f} |"
            for name, row in parts.items()
        ),
        *(
            f"| the build before: {PARTS.get(row['part'], row['part'])} | {row['seconds']:.0f} |"
            f" {row['busy']:.0f} | {row['memory']:.0f} |"
            for row in (before["parts"] if before else [])
        ),
        "",
        f"- All but liveness took {seconds:.0f} seconds, {seconds / (reading + forward):.2f} times the read"
        f" and the passes together ({NEAR:.0f} wanted). What is no forward pass is {seconds - forward:.0f}"
        f" seconds of it, {(seconds - forward) / reading:.1f} times the read.",
        f"- In seconds of the processor, which depend less on what runs beside, it took {busy:.0f}:"
        f" {busy / passes(alone, 'busy'):.2f} times those of the passes.",
        *([_against(verify, before)] if before else []),
        f"- Two layers of the grown model in float64 and 500 MB are {bound:.0f} MB; the peak without liveness"
        f" is {most:.0f}, with it {verify['memory']:.0f}.",
        "",
    ]
    (folder / PAGE).write_text("\n".join(lines))


def _compared(verify: Row) -> list[Row]:
    """The parts that read and run both models."""
    return [row for row in verify["parts"] if row["part"] != "liveness"]


def _against(verify: Row, before: Row) -> str:
    """What the build before took of the same."""
    now, then = (
        {
            "all but liveness": sum(row["busy"] for row in _compared(each)),
            "liveness": sum(row["busy"] for row in each["parts"] if row["part"] == "liveness"),
        }
        for each in (verify, before)
    )
    told = ", ".join(f"{then[name]:.0f} for {name} ({now[name] / then[name]:.2f} now)" for name in now)
    return f"- Of the processor's seconds the build before, in the same run, took {told}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layers", type=int, default=21)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rows", type=Path, default=HERE / "proof.jsonl")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    builds = {"now": SOURCE} | ({"before": given.before.resolve()} if given.before else {})
    if not given.page:
        with tempfile.TemporaryDirectory(dir=given.folder, prefix="isogrow-proof-") as home:
            for row in measured(Path(home).resolve(), given.layers, builds):
                with given.rows.open("a") as file:
                    file.write(json.dumps(row | page.where(row["small"] / 1e9)) + "\n")
    write(given.rows, given.rows.parent)


if __name__ == "__main__":
    main()
