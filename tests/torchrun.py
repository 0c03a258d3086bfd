"""The command line as torchrun starts it: several ranks, whose words and exit codes are kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from time import sleep

import torch
from forking import ended

import isogrow
from isogrow.cli import main


def torchrun(
    folder: Path,
    world: int,
    *words: object,
    kill: tuple[int, Path] | None = None,
    first: Callable[[], None] | None = None,
) -> tuple[list[int | None], list[str], list[str]]:
    """How the ranks of a command end, and what each prints to stdout and to stderr. `kill`: a rank that is
    killed as soon as a file or a folder is there. `first` is called on each before the command."""
    folder.mkdir(parents=True)
    where = meeting(world)
    said = [str(word) for word in words]
    lost = [None if kill is None or kill[0] != rank else kill[1] for rank in range(world)]
    codes = ended(_rank, [(folder, rank, where, said, lost[rank], first) for rank in range(world)])
    out, err = ([(folder / f"{name}{rank}").read_text() for rank in range(world)] for name in ("out", "err"))
    return codes, out, err


def meeting(world: int) -> dict[str, str]:
    """What torchrun sets for so many ranks on one machine, alike for all of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {**where, "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}


def be_rank(rank: int, where: Mapping[str, str]) -> None:
    """Make this process one of the ranks that torchrun starts."""
    os.environ |= {**where, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)


def _rank(
    folder: Path,
    rank: int,
    where: Mapping[str, str],
    words: list[str],
    lost: Path | None,
    first: Callable[[], None] | None,
) -> None:
    if lost is not None:
        Thread(target=_killed, args=(lost,), daemon=True).start()
    be_rank(rank, where)
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(folder / f"{name}{rank}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    if first is not None:
        first()
    sys.argv = ["isogrow", *words]
    main()


def _killed(at: Path) -> None:
    while not at.exists():
        sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def truly(world: int, *words: object) -> subprocess.Popen[str]:
    """The command under torchrun itself, which starts the ranks and watches over them."""
    each = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    source = str(Path(isogrow.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*each, "-m", "isogrow", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
    )  # fmt: skip


def ranks_of(job: subprocess.Popen[str]) -> dict[int, int]:
    """The processes that it has started, by rank."""
    found: dict[int, int] = {}
    for pid in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split():
        said = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        rank = next((int(each[5:]) for each in said if each.startswith(b"RANK=")), None)
        if rank is not None:
            found[rank] = int(pid)
    return found
