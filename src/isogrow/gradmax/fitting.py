"""From a model, a plan and batches to the numbers of new units, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from torch import nn

from isogrow.gradmax.choosing import directions
from isogrow.gradmax.probing import Loss, Probe, matrices, probe
from isogrow.gradmax.sites import Floats, Site, candidates
from isogrow.growth.models import anatomy_of
from isogrow.interpreters.module import first_pass
from isogrow.numbers.initializers import sample
from isogrow.plans.boxes import slices
from isogrow.plans.pieces import Block, Draw, pieces, whole
from isogrow.plans.plan import Plan
from isogrow.plans.regions import Region, drawn

NAME = "gradmax"
LIMIT = 1 << 26  # numbers of matrices that are held at a time
STRAIGHT = 0.02  # a map that departs by less from a linear one is taken to be linear
EVEN = 1e-3  # an even part below this part of the odd one is rounding
SILENT = 1e-5  # so are columns below this part of the largest: inputs that are zero as yet


@dataclass(frozen=True)
class Chosen:
    """New units of one block (`slot`, `index`) that GradMax chose the rows of, and the squared norms of their
    switches' gradients: with these rows, and to be expected with random ones of the same norms."""

    slot: str
    index: tuple[tuple[str, int], ...]
    units: int
    gradient: float
    random: float


@dataclass(frozen=True)
class Fitted:
    """What GradMax found: numbers for regions by their keys (NaN: random), how they were chosen, and in how
    many passes, forward and backward, of the grown model over a batch."""

    chosen: tuple[Chosen, ...]
    numbers: Mapping[str, Floats]
    passes: int = 0
    name: str = NAME

    def __call__(self, region: Region) -> Floats:
        box = tuple(map(range, region.shape))
        x = region.mean + region.std * sample("normal", region.key, region.shape, box)
        own = self.numbers.get(region.key)
        return x if own is None else np.where(np.isnan(own), x, own)

    def __str__(self) -> str:
        lines = [
            f"{slot}: {sum(c.units for c in own)} units of {len(own)} blocks, squared gradient"
            f" {sum(c.gradient for c in own) / sum(c.random for c in own):.3g} x that of random rows"
            for slot, own in self.by_slot().items()
        ]
        last = f"all other new entries: random; {self.passes} passes over a batch"
        return "\n".join([*lines, last])

    def by_slot(self) -> dict[str, list[Chosen]]:
        found: dict[str, list[Chosen]] = {}
        for chosen in self.chosen:
            found.setdefault(chosen.slot, []).append(chosen)
        return found


def fit(model: nn.Module, plan: Plan, batches: Sequence[Any], loss: Loss) -> Fitted:
    """Probe the grown model, and choose the rows of all units that it can be asked about."""
    anatomy, passes = anatomy_of(model), 0

    def counted(large: Any, batch: Any) -> Any:
        nonlocal passes
        passes += 1
        return loss(large, batch)

    stats = first_pass(model.state_dict(), anatomy, drawn(plan))
    grown = probe(model, anatomy, plan, stats, batches, counted)
    rng = np.random.default_rng(abs(plan.seed))
    linear = _linear(grown, candidates(grown.anatomy, plan, stats), rng)
    chosen: list[Chosen] = []
    numbers: dict[str, Floats] = {}
    for some in _packed(plan, tuple(linear)):
        for site, found in matrices(grown, some, linear).items():
            rows = _rows(site, found, rng)
            taken = np.logical_not(np.isnan(rows).all(axis=1))
            if taken.any():
                chosen.append(_worth(site, found, rows, taken))
                _write_(numbers, plan, site.free, site, rows)
                if site.bias is not None:
                    _write_(numbers, plan, site.bias, site, np.where(taken, 0.0, np.nan))
    return Fitted(tuple(chosen), numbers, passes)


def _linear(
    grown: Probe, found: Mapping[str, tuple[tuple[Site, ...], ...]], rng: np.random.Generator
) -> dict[Site, bool]:
    """For each switch the sites of the free weight that it depends on linearly; whether without an even part.

    Of a gate and what it gates, the latter; of none, where no map is additive: a norm stands between, say.
    """
    best: dict[str, tuple[float, tuple[Site, ...]]] = {}
    for rank in range(max(map(len, found.values()), default=0)):
        asked = {switch: each[rank] for switch, each in found.items() if rank < len(each)}
        sites = [site for each in asked.values() for site in each]
        one, two = ({s: s.stds * rng.standard_normal(s.stds.shape) for s in sites} for _ in range(2))
        plus, minus = (grown.gradients({s: sign * x for s, x in one.items()}) for sign in (1.0, -1.0))
        other = grown.odd(two, linear=False)
        both = grown.odd({s: one[s] + two[s] for s in sites}, linear=False)
        for switch, own in asked.items():
            odd = [(plus[s] - minus[s]) / 2 for s in own]
            size = _norm(odd) + _norm([other[s] for s in own])
            gap = _norm([both[s] - x - other[s] for s, x in zip(own, odd, strict=True)])
            even = _norm([plus[s] + minus[s] for s in own]) / max(2 * _norm(odd), np.finfo(float).tiny)
            if gap < STRAIGHT * size and (switch not in best or even < best[switch][0]):
                best[switch] = even, own
    return {site: even < EVEN for even, own in best.values() for site in own}


def _norm(parts: Sequence[Floats]) -> float:
    return float(sum((part**2).sum() for part in parts)) ** 0.5


def _packed(plan: Plan, sites: Sequence[Site]) -> Iterator[list[Site]]:
    """Sites whose matrices are held together; one whose own are too large is left to random numbers."""
    some: list[Site] = []
    held = 0
    for site in sites:
        shared = prod(plan.target.of(axis, site.switch.index) for axis in site.shared)
        size = prod(site.switch.shape(plan.target)) // shared * site.dim * int(site.groups.max() + 1)
        if size > LIMIT:
            continue
        if some and held + size > LIMIT:
            yield some
            some, held = [], 0
        some.append(site)
        held += size
    if some:
        yield some


def _rows(site: Site, found: Floats, rng: np.random.Generator) -> Floats:
    """The units' rows, of the norms that random ones would have; NaN where nothing depends on them.

    Groups choose one after the other, the one with the largest matrix first.
    """
    rows = np.full(site.stds.shape, np.nan)
    columns = np.sqrt((found**2).sum(axis=(0, 1)))
    heard = columns > SILENT * columns.max()
    left, strengths = np.eye(int(heard.sum())), (found**2).sum(axis=(1, 2))
    for group in np.argsort(-strengths, kind="stable")[: np.count_nonzero(strengths)]:
        members = np.flatnonzero(site.groups == group)
        best, left = directions(found[group][:, heard], len(members), left, rng)
        norms = np.linalg.norm(site.stds[members][:, heard], axis=1)
        rows[np.ix_(members, heard)] = best * norms[:, None]
    return rows


def _worth(site: Site, found: Floats, rows: Floats, taken: np.ndarray[Any, Any]) -> Chosen:
    gradients = np.einsum("uzd,ud->uz", found[site.groups[taken]], np.nan_to_num(rows[taken]))
    columns = (found**2).sum(axis=1)[site.groups[taken]]
    random = (columns * site.stds[taken] ** 2).sum()
    return Chosen(
        site.free.slot, site.free.index, int(taken.sum()), float((gradients**2).sum()), float(random)
    )


def _write_(numbers: dict[str, Floats], plan: Plan, block: Block, site: Site, rows: Floats) -> None:
    """Units' numbers into the regions that they are drawn from."""
    x = np.full(block.shape(plan.target), np.nan)
    x[site.units] = rows.reshape(site.count, *x.shape[len(site.shared) :])
    for piece in pieces(plan, block, whole(x.shape)):
        if isinstance(piece.value, Draw):
            region = numbers.setdefault(piece.value.key, np.full(piece.value.shape, np.nan))
            region[slices(piece.value.box)] = (x[slices(piece.out)] - piece.b) / piece.a
