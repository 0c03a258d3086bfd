"""How much memory a growth takes, by the size and the shape of what it grows.

    python -m benchmarks.checkpoint.memory                     every case: rows to memory.jsonl, and memory.md
    python -m benchmarks.checkpoint.memory --only experts --folder /some/disk --rows my-rows.jsonl
    python -m benchmarks.checkpoint.memory --page              memory.md from the rows

Each row is one `grow_checkpoint` in a process of its own, which has imported everything and done nothing
else: the peak of its anonymous memory (RssAnon, looked at every 2 ms) over what it had before. Every source
is one file, whose entries are a seeded block of random numbers again and again; its pages are in the system's
cache or not, as it happens: no row is about time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.checkpoint import model, page
from benchmarks.checkpoint.model import DEPTH, SIZES
from benchmarks.checkpoint.watching import HERE, SOURCE, Row, Worker

PAGE = "memory.md"
WIDE, HEADS = {"hidden": "+256", "ffn": "+512"}, {"head_dim": "+16"}
INITS = ("copy", "normal")


@dataclass(frozen=True)
class Case:
    """A checkpoint, and the growths that are measured on it: what to call each, its sizes, inits, options."""

    name: str
    config: Mapping[str, Any]
    growths: tuple[tuple[str, Mapping[str, str], tuple[str, ...], Mapping[str, Any]], ...]


def llama(gigabytes: float, *more: tuple[str, Mapping[str, str], tuple[str, ...], Mapping[str, Any]]) -> Case:
    return Case(
        f"llama of {gigabytes:g} GB",
        model.config(gigabytes),
        (("hidden, ffn, layers", SIZES, INITS, {}), ("layers", DEPTH, ("copy",), {}), *more),
    )


def embedding(hidden: int) -> Case:
    """Nearly all of it in one table."""
    rest = {"vocab_size": 256_000, "hidden_size": hidden, "head_dim": hidden // 32, "num_hidden_layers": 1}
    config = model.config(0.1) | rest | {"tie_word_embeddings": True}
    return Case(f"a table of 256,000 x {hidden}", config, (("hidden, ffn", WIDE, INITS, {}),))


HASHED = ("hidden, ffn, layers, hashed", SIZES, ("normal",), {"hash_files": True})
CASES = (
    llama(1),
    llama(2, HASHED, ("dims of heads (strided)", HEADS, INITS, {})),
    llama(4),
    llama(10.5, HASHED),
    embedding(4096),
    embedding(8192),
    Case("64 stacked experts, 4.3 and 2.1 GB a tensor", model.experts(), (("hidden, ffn", WIDE, INITS, {}),)),
)


def measured(case: Case, home: Path) -> Iterator[Row]:
    """The rows of one checkpoint."""
    source, out = home / "model", home / "out"
    model.build_quickly(source, case.config)
    for what, sizes, inits, options in case.growths:
        for init in inits:
            worker = Worker(SOURCE)
            try:
                found = worker.asked("grow", str(source), str(out), init, json.dumps({**sizes, **options}))
            finally:
                worker.end()
            yield {
                "what": what,
                "case": case.name,
                "init": init,
                "read": _size(source),
                "written": _size(out),
                "tensor": model.largest_tensor(out),
                **found,
            }
            shutil.rmtree(out)
    shutil.rmtree(source)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def measure(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="isogrow-memory-") as home:
        for case in CASES:
            if given.only in case.name:
                for row in measured(case, Path(home).resolve()):
                    with given.rows.open("a") as file:
                        file.write(json.dumps(row | page.where(row["read"] / 1e9)) + "\n")


def write(rows: Path, folder: Path) -> None:
    """The page."""
    found: list[Row] = [json.loads(line) for line in rows.read_text().splitlines()]
    lines = [
        "# Memory of a growth on disk",
        "",
        "Made by `python -m benchmarks.checkpoint.memory` (its docstring says what is measured, and how).",
        f"The most over the start, of all rows, is {max(row['memory'] for row in found):.0f} MB.",
        "",
        "| checkpoint | grows in | new entries | GB read | GB written | largest tensor, GB | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['case']} | {row['what']} | {row['init']} | {row['read'] / 1e9:.1f} |"
        f" {row['written'] / 1e9:.1f} | {row['tensor'] / 1e9:.2f} | {row['memory']:.0f} |"
        for row in found
    ]
    where = sorted({f"{row['day']}, {row['cores']} cores, Linux {row['system']}" for row in found})
    (folder / PAGE).write_text("\n".join([*lines, "", *where, ""]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--rows", type=Path, default=HERE / "memory.jsonl")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    if not given.page:
        measure(given)
    write(given.rows, given.rows.parent)


if __name__ == "__main__":
    main()
