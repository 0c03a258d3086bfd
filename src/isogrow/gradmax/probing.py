"""The matrices of GradMax, read off a grown model by ordinary backward passes.

With every switch zero, whatever rows new units have leaves the function as it is, so all units of all blocks
are probed in the same passes. The gradient of a unit's switch is a function G of its row r alone. It is
linear, or its odd part is where the row meets an activation (φ(s) - φ(-s) = s for ReLU, GELU and SiLU):

    M r = (G(r) - G(-r)) / 2

Units of one group have the same M, so each of them takes other columns of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isogrow.errors import IsogrowError
from isogrow.gradmax.sites import Floats, Site
from isogrow.growth.models import anatomy_of, build_of
from isogrow.interpreters.module import grow_module
from isogrow.numbers.filling import Stats
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.pieces import Block
from isogrow.plans.plan import Plan
from isogrow.plans.regions import drawn
from isogrow.stores.binding import viewer

Loss = Callable[[Any, Any], Tensor]
Rows = Mapping[Site, Floats]


@dataclass(frozen=True)
class Probe:
    """A grown model whose new units' rows are set at will; `view` shows its weights as blocks."""

    model: nn.Module
    anatomy: Anatomy
    state: Mapping[str, Tensor]
    view: Callable[[Block], Tensor]
    batches: Sequence[Any]
    loss: Loss

    def gradients(self, rows: Rows) -> dict[Site, Floats]:
        """The gradients of these sites' switches (units x entries) with these rows: the mean over batches."""
        found = {site: np.zeros((site.count, 0)) for site in rows}
        with _set(self, rows), torch.enable_grad(), torch.random.fork_rng(devices=[]):
            for batch in self.batches:
                given = self._backward(batch, [site.switch for site in rows])
                for site in rows:
                    gradient = _by_unit(given(site.switch), site) / len(self.batches)
                    found[site] = gradient if not found[site].size else found[site] + gradient
        return found

    def odd(self, rows: Rows, linear: bool) -> dict[Site, Floats]:
        """The odd part of the same, which is all of it if that is known to be `linear`."""
        plus = self.gradients(rows)
        if linear:
            return plus
        minus = self.gradients({site: -row for site, row in rows.items()})
        return {site: (plus[site] - minus[site]) / 2 for site in rows}

    def _backward(self, batch: Any, switches: Sequence[Block]) -> Callable[[Block], Tensor]:
        names = {
            stored.name
            for stored in self.anatomy.stored
            for _, block in stored.blocks(self.anatomy.sizes)
            if block in switches
        }
        wanted = {name: self.state[name] for name in sorted(names)}
        for tensor in wanted.values():
            tensor.requires_grad_(True)
        loss: Any = self.loss(self.model, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise IsogrowError(
                f"the loss that GradMax was given is {loss!r:.60}, and a tensor of one number with a gradient"
                " was expected: give loss=, a function (model, batch) -> loss"
            )
        given: Any = torch.autograd.grad(loss.reshape(()), list(wanted.values()), allow_unused=True)
        for tensor in wanted.values():
            tensor.requires_grad_(False)
        made = {
            name: torch.zeros_like(tensor) if gradient is None else gradient
            for (name, tensor), gradient in zip(wanted.items(), given, strict=True)
        }
        if not all(bool(x.isfinite().all()) for x in (loss, *made.values())):
            raise IsogrowError(
                "a loss or a gradient that GradMax looks at is not finite: give it batches with a finite loss"
            )
        return viewer(self.anatomy, lambda name: made[name])


def probe(
    model: nn.Module, anatomy: Anatomy, plan: Plan, stats: Stats, batches: Sequence[Any], loss: Loss
) -> Probe:
    """The model grown with random rows, in eval mode, in float32 at least; `stats` as in `grown_state`."""
    large = grow_module(model, anatomy, drawn(plan), build_of(model), stats).eval()
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in large.parameters()):
        large = large.float()
    large.requires_grad_(False)
    state = dict(large.state_dict(keep_vars=True))
    grown = anatomy_of(large)
    return Probe(large, grown, state, viewer(grown, state.__getitem__), batches, loss)


def matrices(probe: Probe, sites: Sequence[Site], linear: Mapping[Site, bool]) -> dict[Site, Floats]:
    """M of each group of each site: (groups, entries of the switch, entries of the row)."""
    found: dict[Site, Floats] = {}
    columns = {site: _columns(site) for site in sites}
    for at in range(max(len(own) for own in columns.values())):
        due = [site for site in sites if at < len(columns[site])]
        for odd in (False, True):
            rows = {s: _basis(s, columns[s][at]) for s in due if linear[s] is not odd}
            if not rows:
                continue
            for site, gradient in probe.odd(rows, linear=not odd).items():
                made = found.setdefault(site, np.zeros((site.groups.max() + 1, gradient.shape[1], site.dim)))
                column = columns[site][at]
                asked = column < site.dim
                scale = np.linalg.norm(site.stds, axis=1)[asked, None]
                made[site.groups[asked], :, column[asked]] = gradient[asked] / scale
    return found


def _columns(site: Site) -> list[np.ndarray[Any, Any]]:
    """Which column each unit asks for, pass by pass; the row's length where it asks for none."""
    seen = np.zeros(site.groups.max() + 1, dtype=np.intp)
    rank = np.zeros(site.count, dtype=np.intp)
    for unit, group in enumerate(site.groups):
        rank[unit], seen[group] = seen[group], seen[group] + 1
    passes = -(-site.dim // int(seen.min()))
    return [np.minimum(rank + at * seen[site.groups], site.dim) for at in range(passes)]


def _basis(site: Site, column: np.ndarray[Any, Any]) -> Floats:
    rows = np.zeros((site.count, site.dim + 1))
    rows[np.arange(site.count), column] = np.linalg.norm(site.stds, axis=1)
    return rows[:, : site.dim]


def _by_unit(gradient: Tensor, site: Site) -> Floats:
    first = tuple(site.switch.axes.index(axis) for axis in site.shared)
    rest = tuple(d for d in range(gradient.dim()) if d not in first)
    x = gradient.to("cpu", torch.float64).permute(*first, *rest).numpy()
    return x[site.units].reshape(site.count, -1)


@contextmanager
def _set(probe: Probe, rows: Rows) -> Generator[None]:
    """New units with these rows, and no bias, for as long as this lasts."""
    before: list[tuple[Tensor, Any, Tensor]] = []
    for site, row in rows.items():
        at = tuple(torch.from_numpy(place) for place in site.units)
        for block, values in ((site.free, row), (site.bias, None)):
            if block is None:
                continue
            view = probe.view(block)
            before.append((view, at, view[at].clone()))
            shaped = torch.zeros_like(view[at])
            if values is not None:
                shaped.copy_(torch.from_numpy(values).reshape(shaped.shape))
            view[at] = shaped
    try:
        yield
    finally:
        for view, at, values in reversed(before):
            view[at] = values
