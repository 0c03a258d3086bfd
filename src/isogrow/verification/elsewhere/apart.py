"""An engine run in a process of its own: one that aborts, prints or sets what is global does so there.

    ran("ctranslate2", [small, large], batches)

starts `python -m isogrow.verification.elsewhere.apart ENGINE FOLDER`. What goes to it and comes from it are
files in a folder: the models' folders and the batches, and for each model its outputs, or why it has none.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isogrow.verification.runners import RUNNERS
from isogrow.verification.runners.runner import Ids, Logits

ASKED, BATCHES, LOG = "asked.json", "batches.npz", "said.txt"


@dataclass(frozen=True)
class Ran:
    """What an engine made of a model: its outputs, one a batch; or why it refused."""

    outputs: tuple[Logits, ...]
    refused: str = ""


def ran(engine: str, folders: Sequence[Path], batches: Sequence[Ids]) -> list[Ran]:
    """What an engine makes of each of these folders, all batches of one after another."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / ASKED).write_text(json.dumps([str(folder.resolve()) for folder in folders]))
        np.savez(work / BATCHES, *batches)
        end = started(engine, work)
        return [_answer(work, at, len(batches), end) for at in range(len(folders))]


def started(engine: str, work: Path) -> str:
    """Carry out what is asked in a folder, in a process of its own; how that ended, where it did not well."""
    with (work / LOG).open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "isogrow.verification.elsewhere.apart", engine, str(work)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
    if done.returncode == 0:
        return ""
    told = (work / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    ended = f"exit code {done.returncode}"
    if done.returncode < 0:
        ended = f"signal {signal.Signals(-done.returncode).name}"
    return f"its process ended with {ended}" + (f": {told[-1].strip():.200}" if told else "")


def carried_out(engine: str, work: Path) -> None:
    """Run an engine on what is asked in a folder, and write there what it answers."""
    with np.load(work / BATCHES) as held:
        batches = [held[name] for name in held.files]
    for at, folder in enumerate(json.loads((work / ASKED).read_text())):
        scratch = work / f"scratch{at}"
        scratch.mkdir()
        try:
            run = RUNNERS[engine].load(Path(folder), scratch)
            np.savez(work / f"{at}.npz", *[np.asarray(run(batch)) for batch in batches])
            del run
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is its answer
            (work / f"{at}.txt").write_text(f"{type(error).__name__}: {error}")


def _answer(work: Path, at: int, count: int, end: str) -> Ran:
    """What was written for one model."""
    if (work / f"{at}.npz").is_file():
        with np.load(work / f"{at}.npz") as held:
            return Ran(tuple(held[f"arr_{batch}"] for batch in range(count)))
    said = work / f"{at}.txt"
    text = said.read_text() if said.is_file() else end
    return Ran((), " ".join(text.split())[:300] or "it gave no answer")


if __name__ == "__main__":
    carried_out(sys.argv[1], Path(sys.argv[2]))
