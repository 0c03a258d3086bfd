"""Commands that are killed while they are at work."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from forking import PROCESSES

from isogrow.cli import app


def killed(asked: list[str], at_work: Callable[[], bool], after: float, kill: bool) -> bool:
    """Run a command to its end or, to `kill` it, until so long after it is at work; whether it was killed."""
    running = PROCESSES.Process(target=app, args=(asked,))
    running.start()
    while running.is_alive() and not at_work():
        time.sleep(0.005)
    deadline = time.monotonic() + after
    while running.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    kill = kill and running.is_alive()
    if kill:
        running.kill()
    running.join()
    assert running.exitcode in (0, -signal.SIGKILL)
    return kill


def under_way(folder: Path, since: float) -> bool:
    """Whether a process has come as far as its run: it notes the stages anew each time."""
    noted = folder / "stages.json"
    return noted.exists() and noted.stat().st_mtime >= since
