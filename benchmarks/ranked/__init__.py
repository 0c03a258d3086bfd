"""What benchmarks of several ranks on one machine share: starting them, and looking at what each needs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def own_memory() -> int:
    """The bytes that this process has of its own (VmHWM counts mapped files too)."""
    said = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in said.splitlines() if line.startswith("RssAnon")).split()[1])


def watched(work: Callable[[], Any], pause: float) -> tuple[Any, float, int]:
    """What some work gives, its seconds, and the most memory above what was there before, looking every so
    many seconds."""
    before, most, done = own_memory(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(pause):
            most[0] = max(most[0], own_memory())

    watching = threading.Thread(target=watch)
    watching.start()
    start = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - start
    done.set()
    watching.join()
    return found, seconds, most[0] - before


def reported(script: str, world: int, *words: object) -> list[dict[str, Any]]:
    """What each of so many ranks of a script says on the last line that it prints, as JSON."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    jobs = [
        subprocess.Popen(
            [sys.executable, script, "--rank", *map(str, words)],
            env={**os.environ, **where, "RANK": str(number), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(world)
    ]
    return [json.loads(job.communicate()[0].splitlines()[-1]) for job in jobs]
