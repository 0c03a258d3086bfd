"""Asking the model's class beside the writing: a process of its own (`answering`) loads transformers.

The answer is data. Loading the class takes seconds, which a growth need not wait for: the process is asked
when the grown config is known, and is heard before the output gets its name. It is a copy of this one where
that is safe, so that both share what they load; otherwise a new one, which starts before the model is opened.
Where transformers is loaded already (so it may know classes that were registered in this process) it is
asked here.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import IO, Any, cast

from isogrow.errors import SizeError
from isogrow.layouts.config import edited
from isogrow.plans.plan import Plan
from isogrow.stores.classes import Built, Shapes

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """`ready` says whether the answer is there; `answer` waits for it, and raises what `built` does."""

    ready: Callable[[], bool]
    answer: Callable[[], Built | None]


def grown_config(config: Config, plan: Plan, dtype: str | None) -> dict[str, Any]:
    """The config of the grown model, in the dtype that was asked for."""
    said = {}
    if dtype is not None:
        said = {key: dtype for key in ("dtype", "torch_dtype") if key in config} or {"dtype": dtype}
    return edited(config, {**plan.config, **said})


@contextmanager
def asking(beside: bool) -> Generator[Callable[[Config], Question]]:
    """What asks once what the class makes of a config: `beside` if that can save time, otherwise when the
    answer is wanted."""
    start = _fork if _may_fork() else _process if sys.executable else None
    if beside and start is not None and "transformers" not in sys.modules:
        with start() as ask:
            yield ask
    else:
        yield here


def _may_fork() -> bool:
    """Whether a copy of this process can load the class, so that torch, which both need, is loaded once: on
    Linux, where nothing runs yet that a copy would lack (torch's threads, or threads of the caller's)."""
    return sys.platform == "linux" and "torch" not in sys.modules and threading.active_count() == 1


@contextmanager
def _fork() -> Generator[Callable[[Config], Question]]:
    """What asks a copy of this process, which is made when the question is known and torch is loaded."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said, ExitStack() as ending:

        def ask(config: Config) -> Question:
            importlib.import_module("torch")
            asked.write(json.dumps(dict(config)).encode())
            asked.flush()
            files = asked.fileno(), said.fileno()
            run = get_context("fork").Process(target=_reply, args=files, daemon=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # numpy's threads, which wait for nothing
                run.start()
            ending.callback(_end, run)
            return Question(lambda: not run.is_alive(), cache(lambda: _heard(_ended(run), said, config)))

        yield ask


def _reply(asked: int, said: int) -> None:
    """What the copy does."""
    from isogrow.stores.answering import reply

    for stream in (1, 2):  # where a class may complain of what it is asked
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    reply(asked, said)


def _ended(run: BaseProcess) -> int:
    run.join()
    assert run.exitcode is not None
    return run.exitcode


def _end(run: BaseProcess) -> None:
    run.kill()
    run.join()


def here(config: Config) -> Question:
    """The question to this process."""
    from isogrow.stores.loadable import built  # brings torch

    return Question(lambda: True, cache(lambda: built(config)))


@contextmanager
def _process() -> Generator[Callable[[Config], Question]]:
    """What asks a process that is started now, and ended with the block."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said:
        run = subprocess.Popen(
            [sys.executable, "-m", "isogrow.stores.answering", str(asked.fileno()), str(said.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[asked.fileno(), said.fileno()],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

        assert run.stdin is not None
        waits_for = run.stdin

        def ask(config: Config) -> Question:
            asked.write(json.dumps(dict(config)).encode())
            asked.flush()
            waits_for.close()  # when it has loaded what every class needs
            return Question(lambda: run.poll() is not None, cache(lambda: _heard(run.wait(), said, config)))

        try:
            yield ask
        finally:
            waits_for.close()
            run.kill()
            run.wait()


def _heard(code: int, said: IO[bytes], config: Config) -> Built | None:
    """The process's answer; if it has none (it was killed, or found no memory), that of this one."""
    if code:
        return here(config).answer()
    said.seek(0)
    found: dict[str, Any] = json.loads(said.read())
    if "refused" in found:
        raise SizeError(found["refused"])
    _OPENERS[_key(config)] = "" if found["built"] is None else found["built"]["opener"]
    if found["built"] is None:
        return None
    shapes = {name: tuple(shape) for name, shape in found["built"].pop("shapes").items()}
    return Built(**found["built"], shapes=cast("Shapes", shapes))


_OPENERS: dict[str, str] = {}  # by what a config says of its class: what a process has found to open it


def opener_of(config: Config) -> str:
    """The class of transformers that opens files with this config, or ""; nothing is loaded if that has been
    asked."""
    if _key(config) not in _OPENERS:
        from isogrow.stores.loadable import opener

        return opener(config)
    return _OPENERS[_key(config)]


def _key(config: Config) -> str:
    return json.dumps([config.get("model_type"), config.get("architectures")])
