"""Many runs abreast, so that each weight is read once for all of them.

Each run is a model's own forward pass, in a thread of its own, and goes on until it wants a weight. The run
that is least far is served next, with all others that want the same, which go on at once; then the weight is
let go. So both models go through their layers side by side, whatever their code looks like, and within a
layer weight by weight: runs in float64 and in the own dtype want one weight close to each other.

Those that go on at once share the cores: a product with a part of a matrix is too small to be shared out
itself, and threads that wait for each other, where other work runs beside, take many times as long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from isogrow.plans.pieces import Box
from isogrow.verification.streaming.returning import give_back

Want = tuple[str, str, Box]  # of which source, which parameter, which region
Load = Callable[[str, Box], Tensor]
ABREAST = 3  # runs that want the same, mostly: a batch as it is, and padded on either side


class _Halted(BaseException):
    """Ends a run whose fellow failed; no model's own code catches it."""


@dataclass(eq=False)
class Passing:
    """A run that is on its way: `passed` counts the layers behind it, `served` what it got since the last.
    `default` is the default dtype that its code is to find (a whole process has one), and `threads` are how
    many torch may share out its work to."""

    name: str
    work: Callable[[Passing], Any]
    default: torch.dtype
    threads: int
    passed: int = 0
    served: int = 0
    want: Want | None = None
    result: Any = None
    failure: BaseException | None = None
    ended: bool = False
    lent: Tensor | None = None
    halted: bool = False
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    back: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def leave(self) -> None:
        """A layer is behind it."""
        self.passed, self.served = self.passed + 1, 0

    def fetch(self, source: str, name: str, region: Box) -> Tensor:
        """Wait for a region of a weight; called by the run's own thread."""
        self.served += 1
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
            torch.set_num_threads(self.threads)
            if not self.halted:
                self.result = self.work(self)
        except BaseException as error:
            self.failure = error
        self.ended = True
        self.back.release()


def abreast(
    works: Mapping[str, Callable[[Passing], Any]], sources: Mapping[str, Load], wide: Collection[str] = ()
) -> dict[str, Any]:
    """What each piece of work returns, by its name.

    Each is called with its `Passing`, gets weights by `run.fetch(source, name, region)`, which
    `sources[source](name, region)` makes, and tells of each layer that it leaves. Those that are named in
    `wide` find float64 as the default dtype. Raises what one raises.

    >>> def work(run):
    ...     return run.fetch("numbers", "w", (range(2),)) * 2
    >>> abreast({"twice": work}, {"numbers": lambda name, region: torch.ones(2)})
    {'twice': tensor([2., 2.])}
    """
    default, cores = torch.get_default_dtype(), torch.get_num_threads()
    runs = [
        Passing(name, work, torch.float64 if name in wide else default, max(1, cores // ABREAST))
        for name, work in works.items()
    ]
    threads = [threading.Thread(target=run.main, daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    try:
        for run in runs:
            _go_on([run])
        torch.set_num_threads(1)  # what is loaded at once is little
        _serve(runs, sources)
    finally:
        _halt(runs)
        for thread in threads:
            thread.join()
        torch.set_num_threads(cores)
    return {run.name: run.result for run in runs}


def _serve(runs: Sequence[Passing], sources: Mapping[str, Load]) -> None:
    """Until all have ended: load what the run behind all others wants, for all that want it."""
    passed = 0
    while True:
        for run in runs:
            if run.failure is not None:
                raise run.failure
        left = [run for run in runs if not run.ended]
        if not left:
            return
        first = min(left, key=lambda run: (run.passed, run.served))
        if first.passed > passed:  # a layer is behind all, and what each thread had for it
            passed = first.passed
            give_back()
        want = first.want
        assert want is not None
        source, name, region = want
        alike = [run for run in left if run.want == want and run.default == first.default]
        _go_on(alike, sources[source](name, region))


def _go_on(runs: Sequence[Passing], lent: Tensor | None = None) -> None:
    """Let runs go on to their next weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(runs[0].default)
    try:
        for run in runs:
            run.lent, run.want = lent, None
            run.go.release()
        del lent
        for run in runs:
            run.back.acquire()
    finally:
        torch.set_default_dtype(before)


def _halt(runs: Sequence[Passing]) -> None:
    for run in runs:
        if not run.ended:
            run.halted = True
            _go_on([run])
