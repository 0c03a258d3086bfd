"""Where two models that run abreast part: what their layers put out, compared as soon as both have."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from isogrow.verification.differences import gap
from isogrow.verification.runs import first_tensor
from isogrow.verification.streaming.convoy import Passing

CURRENT = threading.local()  # `run`: the one that this thread is
Layers = Mapping[str, str]  # modules of the small model, and their counterparts in the large one


@dataclass
class Gaps:
    """The largest difference of each layer's output, by the small model's name of it.

    `pairs` has the names of runs of the large model, each with that of the small one's that it is compared
    with; layers of all others are counted only. `channels` picks the old channels where the residual's width
    has grown, and `widths` are that before and after.
    """

    pairs: Mapping[str, str]
    channels: Tensor | None = None
    widths: tuple[int, int] = (0, 0)
    found: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    waiting: dict[tuple[str, str], Tensor] = field(default_factory=dict[tuple[str, str], Tensor])
    passed: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    lock: threading.Lock = field(default_factory=threading.Lock)  # several runs may arrive at once

    def arrive(self, run: Passing, layer: str, output: Any) -> None:
        """A run has left a layer (for the first time: one that is shared is left again)."""
        if (run.name, layer) in self.passed:
            return
        self.passed.add((run.name, layer))
        run.leave()
        for large, small in self.pairs.items():
            if run.name in (small, large):
                own, other = first_tensor(output).detach(), large if run.name == small else small
                if (other, layer) not in self.waiting:
                    self.waiting[run.name, layer] = own.clone()  # a later layer may change it in place
                    continue
                theirs = self.waiting.pop((other, layer))
                self._compare_(layer, *((own, theirs) if run.name == small else (theirs, own)))

    def _compare_(self, layer: str, small: Tensor, large: Tensor) -> None:
        """Compare one layer's outputs, of the residual's width; others (a table of position biases, patches
        whose channels are not the last dim) as far as they are of one shape."""
        if self.channels is not None and (small.shape[-1], large.shape[-1]) == self.widths:
            large = large.index_select(-1, self.channels)
        if small.shape != large.shape:
            return
        before = self.found.get(layer, (0.0, 0.0))
        absolute, scale = gap(small, large)
        self.found[layer] = (max(before[0], absolute), max(before[1], scale))

    def relative(self, layer: str) -> float:
        """How far the outputs of a layer lie apart; 0 for one that was not compared."""
        absolute, scale = self.found.get(layer, (0.0, 0.0))
        return absolute / scale if absolute and scale else (inf if absolute else 0.0)

    def first(self, layers: Layers, limit: float) -> str:
        """The first layer, in this order, whose outputs differ by more than `limit`, and by how much; "" if
        none does."""
        for name, counterpart in layers.items():
            if not self.relative(name) <= limit:
                called = name if name == counterpart else f"{name} -> {counterpart}"
                return f"{called}, by a relative {self.relative(name):.1e}"
        return ""


@contextmanager
def watched(model: nn.Module, told: Mapping[str, str], gaps: Gaps) -> Generator[None]:
    """Tell `gaps` of each module that a run leaves, by the name that `told` has for the module's."""
    modules = dict(model.named_modules())
    with ExitStack() as hooks:
        for name, layer in told.items():
            hooks.enter_context(modules[name].register_forward_hook(_teller(layer, gaps)))
        yield


def _teller(layer: str, gaps: Gaps) -> Callable[[nn.Module, Any, Any], None]:
    def tell(module: nn.Module, inputs: Any, output: Any) -> None:
        run = getattr(CURRENT, "run", None)
        if run is not None:
            with torch.no_grad(), gaps.lock:
                gaps.arrive(run, layer, output)

    return tell
