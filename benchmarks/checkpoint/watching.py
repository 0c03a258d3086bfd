"""Processes that are asked for one measurement after the other, and how much memory each has meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = Path(__file__).parents[2] / "src"
PAUSE = 0.002  # seconds between two looks at a process's memory
OFTEN = 100  # looks between two at which processes it has started

Row = dict[str, Any]


class Worker:
    """A process that has imported all, and is asked for one measurement after the other."""

    def __init__(self, source: Path) -> None:
        command = [sys.executable, str(HERE / "work.py")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(source)
        )
        self.asked("begin")

    def asked(self, *words: str) -> Row:
        """What it measured, with the peak of its memory meanwhile."""
        assert self.process.stdin is not None and self.process.stdout is not None
        watching = watched(self.process.pid)
        with watching as peak:
            print(json.dumps(words), file=self.process.stdin, flush=True)
            said = self.process.stdout.readline()
        if not said:
            raise SystemExit(f"{words} failed")
        found = {**json.loads(said), "memory": peak()}
        return found | ({"parts": watching.parts(found.pop("began"))} if "began" in found else {})

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class watched:
    """The peak of a process's anonymous memory over what it has now, in MB; with `family`, over nothing, and
    with that of the processes that it starts."""

    def __init__(self, pid: int, family: bool = False) -> None:
        self.pids, self.family, self.stopped = [pid], family, threading.Event()
        self.base = 0 if family else anonymous(pid)
        self.most = self.base
        self.seen: list[tuple[float, int]] = []
        self.thread = threading.Thread(target=self._look)

    def __enter__(self) -> Callable[[], float]:
        self.thread.start()
        return lambda: (self.most - self.base) / 1e6

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join()

    def _look(self) -> None:
        while not self.stopped.wait(PAUSE):
            if self.family and not len(self.seen) % OFTEN:
                self.pids = family_of(self.pids[0])
            self.seen.append((time.perf_counter(), sum(map(anonymous, self.pids))))
            self.most = max(self.most, self.seen[-1][1])

    def parts(self, began: list[tuple[str, float, float]]) -> list[Row]:
        """Seconds and peak of each part of some work, given when each began (on a clock that all processes
        share) and how many seconds of the processor were behind it then."""
        return [
            {
                "part": name,
                "seconds": then[1] - start,
                "busy": then[2] - busy,
                "memory": (max((n for at, n in self.seen if start <= at < then[1]), default=0) - self.base)
                / 1e6,
            }
            for (name, start, busy), then in pairwise(began)
        ]


def anonymous(pid: int) -> int:
    """Anonymous memory of a process, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def family_of(pid: int) -> list[int]:
    """A process and all that it has started."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def forget(folder: Path) -> None:
    """Tell the system that what it holds of these files is not needed."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def environment(source: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1"}
