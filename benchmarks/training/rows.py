"""Rows: each finished run is a line of a JSONL file, by the key of the job that made it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.training.versions import versions

Row = Mapping[str, Any]
Rows = Mapping[str, Row]


def read(path: Path) -> Rows:
    """All that a file has; none where there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def add_(path: Path, row: Row) -> None:
    """Write one more, with its day and what computed it, and say so."""
    row = {**row, "date": datetime.date.today().isoformat(), "versions": versions()}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{row['stage']}: {row['name']}, seed {row['seed']}, {row['losses']}", flush=True)


def trim_(path: Path) -> None:
    """Cut off a line that a kill left unfinished."""
    said = path.read_bytes() if path.exists() else b""
    if said and not said.endswith(b"\n"):
        path.write_bytes(said[: said.rfind(b"\n") + 1])


def current(lacking: Callable[[Rows], Sequence[Any]], rows: Rows) -> Rows:
    """Rows that a course asks for, and those of names that it has no more: what was tried before.

    So rows of an earlier rate or search are not told as if they were of what now has their name.
    """
    asked: dict[str, Mapping[str, Any]] = {}
    while found := {job.key: rows[job.key] for job in lacking(asked) if job.key in rows}:
        asked |= found
    names = {row["name"] for row in asked.values()}
    return {key: row for key, row in rows.items() if key in asked or row["name"] not in names}
