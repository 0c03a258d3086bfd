"""Many runs abreast, so that each weight is read once for all of them.

Each run is a model's own forward pass, in a thread of its own, of which one at a time goes on: until it wants
a weight. The run that is least far is served next, with all others that want the same, and then the
weight is let go. So both models go through their layers side by side, whatever their code looks like.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from isogrow.plans.pieces import Box

Want = tuple[str, str, Box]  # of which source, which parameter, which region
Load = Callable[[str, Box], Tensor]


class _Halted(BaseException):
    """Ends a run whose fellow failed; no model's own code catches it."""


@dataclass(eq=False)
class Run:
    """A run that is on its way: `passed` counts the layers behind it."""

    name: str
    work: Callable[[Run], Any]
    passed: int = 0
    want: Want | None = None
    result: Any = None
    failure: BaseException | None = None
    ended: bool = False
    lent: Tensor | None = None
    halted: bool = False
    default: torch.dtype = field(default_factory=torch.get_default_dtype)
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    back: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def fetch(self, source: str, name: str, region: Box) -> Tensor:
        """Wait for a region of a weight; called by the run's own thread."""
        self.want = (source, name, region)
        self.back.release()
        self.go.acquire()
        if self.halted:
            raise _Halted
        assert self.lent is not None
        found, self.lent = self.lent, None
        return found

    def main(self) -> None:
        """The thread's life."""
        self.go.acquire()
        try:
            if not self.halted:
                self.result = self.work(self)
        except BaseException as error:
            self.failure = error
        self.ended = True
        self.back.release()

    def resume(self, lent: Tensor | None) -> None:
        """Let the run go on to its next weight, with the default dtype that is its own (a whole process has
        one)."""
        self.lent, self.want = lent, None
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.default)
        try:
            self.go.release()
            self.back.acquire()
            self.default = torch.get_default_dtype()
        finally:
            torch.set_default_dtype(before)


def abreast(works: Mapping[str, Callable[[Run], Any]], sources: Mapping[str, Load]) -> dict[str, Any]:
    """What each piece of work returns, by its name.

    Each is called with its `Run`, gets weights by `run.fetch(source, name, region)`, which
    `sources[source](name, region)` makes, and counts the layers that it has passed. Raises what one raises.

    >>> def work(run):
    ...     return run.fetch("numbers", "w", (range(2),)) * 2
    >>> abreast({"twice": work}, {"numbers": lambda name, region: torch.ones(2)})
    {'twice': tensor([2., 2.])}
    """
    runs = [Run(name, work) for name, work in works.items()]
    threads = [threading.Thread(target=run.main, daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    try:
        for run in runs:
            run.resume(None)
        _serve(runs, sources)
    finally:
        _halt(runs)
        for thread in threads:
            thread.join()
    return {run.name: run.result for run in runs}


def _serve(runs: Sequence[Run], sources: Mapping[str, Load]) -> None:
    """Until all have ended: load what the run behind all others wants, for all that want it."""
    while True:
        for run in runs:
            if run.failure is not None:
                raise run.failure
        left = [run for run in runs if not run.ended]
        if not left:
            return
        want = min(left, key=lambda run: run.passed).want
        assert want is not None
        source, name, region = want
        entries = sources[source](name, region)
        for run in left:
            if run.want == want:
                run.resume(entries)
        del entries


def _halt(runs: Sequence[Run]) -> None:
    for run in runs:
        if not run.ended:
            run.halted = True
            run.resume(None)
