"""One rank of a few that grow folders together: carries out what is asked, and reports what became of it."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any
from unittest import mock

import torch
from joining import joined

import isogrow
from isogrow.stores import distributed_output, files, stopping, writing

Case = Mapping[str, Any]


def run(folder: Path, rank: int, world: int) -> None:
    """All cases of asked.json, one after the other; what each gave is in RANK.json."""
    joined(folder, rank, world, 120)
    found: dict[str, Any] = {}
    for name, case in json.loads((folder / "asked.json").read_text()).items():
        found[name] = grown(case, rank)
        (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def grown(case: Case, rank: int) -> dict[str, Any]:
    """What a growth says on this rank, and which bytes of files it has written."""
    written: list[int] = []
    told: list[tuple[str, ...]] = []
    fault = case.get("faults", {}).get(str(rank))
    with ExitStack() as stack:
        stack.enter_context(small_parts(written, case.get("limit", 100)))
        if fault is not None:
            stack.enter_context(FAULTS[fault]())
        found: dict[str, Any] = {}
        try:
            isogrow.grow_checkpoint(
                case["src"],
                case["out"],
                told=lambda *said: told.append(said),
                seed=int(fault == "seed"),
                **case["options"],
            )
        except Exception as error:
            found["refused"] = [type(error).__name__, str(error)]
    return {**found, "bytes": sum(written), "times": len(written), "told": told}


@contextmanager
def small_parts(written: list[int], limit: int) -> Generator[None]:
    """Many slabs and chunks a tensor; what this rank writes of tensors is noted."""
    write_at, chunks, ask = files.write_at, writing.chunks, distributed_output.PART

    def noted(file: int, data: memoryview, start: int) -> None:
        written.append(len(data))
        write_at(file, data, start)

    cut: Callable[..., Any] = lambda box, order, most: chunks(box, order, min(most, limit))  # noqa: E731
    with mock.patch.multiple(files, write_at=noted), mock.patch.multiple(writing, chunks=cut):
        distributed_output.PART = limit
        try:
            yield
        finally:
            distributed_output.PART = ask


# ── what goes wrong, on one rank ──


@contextmanager
def after_five(owner: Any, name: str, then: Callable[[], None]) -> Generator[None]:
    """Something happens when a function is called a sixth time."""
    calls, function = count(1), getattr(owner, name)

    def counted(*given: Any) -> Any:
        if next(calls) > 5:
            then()
        return function(*given)

    with mock.patch.object(owner, name, counted):
        yield


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def full() -> Generator[None]:
    """The disk is full when the fifth slab is written."""

    def refuse() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with after_five(os, "pwrite", refuse):
        yield


@contextmanager
def killed() -> Generator[None]:
    """The process ends when the fifth slab is written."""
    with after_five(os, "pwrite", end):
        yield


@contextmanager
def killed_at_a_chunk() -> Generator[None]:
    """The process ends when the fifth chunk of a distributed checkpoint is asked for."""
    with after_five(writing, "fill_region_", end):
        yield


@contextmanager
def unshared() -> Generator[None]:
    """The last part of each tensor that is this rank's is nobody's."""
    own = writing._own  # pyright: ignore[reportPrivateUsage]

    def fewer(*given: Any) -> Any:
        return {
            name: writing.Own(each.place, each.parts[:-1])
            for name, each in own(*given).items()
            if each.parts[:-1]
        }

    with mock.patch.object(writing, "_own", fewer):
        yield


@contextmanager
def broken() -> Generator[None]:
    """A fault that is no refusal, with an error that can't be sent."""

    class Odd(Exception):
        pass

    def wrong(*_: Any) -> int:
        raise Odd("no such luck")

    with mock.patch("os.pwrite", wrong):
        yield


@contextmanager
def slow(pause: float = 0.0) -> Generator[None]:
    """Each slab takes long, and after each it looks whether others have failed."""
    write = os.pwrite

    def pwrite(*given: Any) -> int:
        sleep(0.01)
        return write(*given)

    with mock.patch("os.pwrite", pwrite), mock.patch.object(stopping, "PAUSE", pause):
        yield


@contextmanager
def deaf() -> Generator[None]:
    """Each slab takes long, and it looks after nobody."""
    with slow(pause=1e9):
        yield


FAULTS = {
    "full": full,
    "killed": killed,
    "killed at a chunk": killed_at_a_chunk,
    "unshared": unshared,
    "broken": broken,
    "slow": slow,
    "deaf": deaf,
    "seed": nullcontext,  # another one than the other ranks have
}
