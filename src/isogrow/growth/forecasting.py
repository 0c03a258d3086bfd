"""What growing a sharded job would cost each rank, told beforehand: no rank is started, no weight is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from statistics import median_low
from typing import Any, Unpack

from torch import nn

from isogrow.errors import StateError
from isogrow.growth.models import anatomy_of
from isogrow.growth.opening import Opened, opened
from isogrow.interpreters.sharded.exchanging import ROUND
from isogrow.layouts.config import Config
from isogrow.numbers.statistics import FIXED
from isogrow.optim.moments import carried
from isogrow.planning.request import Said, requested
from isogrow.plans.anatomy import Anatomy, Header, Stored
from isogrow.plans.forecast import Bounds, Kind, Made, Tally, foreseen
from isogrow.plans.moving import Holdings, Regions
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import Block, added
from isogrow.plans.placing import Mesh, read_mesh
from isogrow.plans.plan import Plan
from isogrow.stores.binding import outputs, source_of
from isogrow.stores.dtypes import BITS
from isogrow.stores.loadable import on_meta

# The powers of the gradient that an optimizer's moments hold (`optim.moments`), in the order of its state.
STATES: Mapping[str, tuple[int, ...]] = {"adamw": (1, 2), "none": ()}
# What is told of each rank, in bytes but for the first.
FIGURES: Mapping[str, str] = {
    "read": "old numbers read",
    "received": "received",
    "sent": "sent",
    "before": "held before",
    "after": "held after",
    "peak": "held at the peak",
}


@dataclass(frozen=True)
class Forecast:
    """What growing a sharded job would cost, in bytes, rank by rank; `rounds` are its exchanges, and `totals`
    the bytes of sums and means that are put together on all ranks: both are the same for all. `before` and
    `after` are a rank's parts of the old and of the grown tensors, moments too; at the `peak` it holds both,
    the largest exchange (`most`), and what all ranks sum up for new entries."""

    mesh: str
    rounds: int
    totals: int
    read: tuple[int, ...]
    received: tuple[int, ...]
    sent: tuple[int, ...]
    most: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    peak: tuple[int, ...]

    @property
    def ranks(self) -> int:
        return len(self.read)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, with the balance of each figure."""
        each: dict[str, tuple[int, ...]] = {name: getattr(self, name) for name in (*FIGURES, "most")}
        balance = {
            name: {"min": min(by_rank), "median": median_low(by_rank), "max": max(by_rank)}
            for name, by_rank in each.items()
        }
        return {
            "mesh": self.mesh,
            "ranks": self.ranks,
            "rounds": self.rounds,
            "totals": self.totals,
            "balance": balance,
            "each": {name: list(by_rank) for name, by_rank in each.items()},
        }

    def __str__(self) -> str:
        said = f"{self.rounds} rounds, {self.totals:,} bytes of sums and means"
        lines = [f"{self.ranks} ranks ({self.mesh}), {said}; bytes a rank", ""]
        lines.append(f"{'':20}{'min':>20}{'median':>20}{'max':>20}")
        for name, found in self.to_dict()["balance"].items():
            if name in FIGURES:
                row = "".join(f"{found[key]:>20,}" for key in ("min", "median", "max"))
                lines.append(f"{FIGURES[name]:20}{row}")
        return "\n".join(lines)


def forecast(
    model: nn.Module | str | Path | Opened,
    mesh: str | Mapping[str, int] | None = None,
    *,
    ranks: int | None = None,
    optimizer_state: str = "adamw",
    revision: str | None = None,
    config: Config | str | Path | None = None,
    **request: Unpack[Said],
) -> Forecast:
    """What growing a model would cost each rank of a sharded job: bytes read, sent and held, and rounds.

    `mesh` says how ranks hold the model, like `"fsdp=32,tp=2"` (docs/sharding.md); its lengths make `ranks`.
    `optimizer_state` is "adamw" or "none". The request is as in `grow`, the rest as in `plan`. Law: the bytes
    read, sent and received, and the rounds, are those that the job counts.

    Raises `SizeError` for a mesh that can't be read, and where it can't hold the model or the grown one;
    else as `plan` does.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> found = forecast(LlamaForCausalLM(config), "fsdp=4", ffn="x2", init_std=0.02)
    >>> found.before, found.after  # with AdamW's moments
    ((40680, 40680, 40680, 40680), (57960, 57960, 57960, 57960))
    >>> max(found.received) <= max(found.read)
    True
    """
    if optimizer_state not in STATES:
        raise StateError(f"optimizer_state={optimizer_state!r} is not known: give {' or '.join(STATES)}")
    made = read_mesh(mesh, ranks)
    found = model if isinstance(model, nn.Module) else opened(model, revision, config)
    anatomy, parameters = live(found)
    asked = anatomy if isinstance(found, nn.Module) else found.anatomy
    plan = requested((), request).plan(asked)
    return foretold(anatomy, plan, made, parameters, STATES[optimizer_state])


def live(model: nn.Module | Opened) -> tuple[Anatomy, Sequence[str]]:
    """A model as a job holds it, and the names of its parameters in their order: what files have one by one,
    its class may stack."""
    if isinstance(model, nn.Module):
        return anatomy_of(model), [name for name, _ in model.named_parameters()]
    made = on_meta(model.checkpoint.config)
    if made is None:
        return model.anatomy, [stored.source for stored in model.anatomy.stored]
    anatomy = anatomy_of(made)
    if model.anatomy.holders.keys() - anatomy.holders.keys():  # without architectures a base is made
        return model.anatomy, [stored.source for stored in model.anatomy.stored]
    own = tuple(_in_dtype(stored, anatomy, model.anatomy) for stored in anatomy.stored)
    return replace(anatomy, stored=own), [name for name, _ in made.named_parameters()]


def _in_dtype(stored: Stored, anatomy: Anatomy, files: Anatomy) -> Stored:
    """The same tensor in the dtype in which files have it."""
    _, block = next(stored.blocks(anatomy.sizes))
    found = files.holders.get((block.slot, block.index))
    dtype = stored.header.dtype if found is None else found[0].header.dtype
    return replace(stored, header=Header(stored.header.shape, dtype))


def foretold(
    anatomy: Anatomy,
    plan: Plan,
    mesh: Mesh,
    parameters: Sequence[str],
    powers: Sequence[int],
    seeded: bool = True,
    bounds: Bounds | None = None,
    memory: bool = True,
) -> Forecast:
    """The forecast of one growth; `parameters` are the names of what the mesh cuts and an optimizer has
    moments of, `powers` those that the moments hold, `memory` is as in `foreseen`."""
    place = _Place(mesh, frozenset(parameters))
    old = [stored for stored in anatomy.stored if not is_tied(anatomy, stored)]
    regions = {stored.source: place.of(stored, stored.source) for stored in old}
    widths = {stored.source: BITS[stored.header.dtype] // 8 for stored in old}
    made: list[tuple[str, Made]] = []
    for stored in (each for each in outputs(anatomy, plan) if not is_tied(anatomy, each)):
        source = source_of(anatomy, plan, stored)
        made.append((source, Made(stored, place.of(stored, source), widths[source])))
    order = {name: i for i, name in enumerate(parameters)}
    trained = sorted((each for each in made if each[0] in order), key=lambda each: order[each[0]])
    kept = [each for _, each in trained if not _is_new(plan, each.stored)]
    kinds = [Kind(plan, [each for _, each in made])]
    plans = {power: carried(anatomy, plan, power, seeded and power == 2) for power in powers}
    kinds += [Kind(plans[power], kept) for power in powers]
    tally = foreseen(Holdings(anatomy, regions), widths, kinds, bounds or Bounds(FIXED, ROUND), memory)
    times = len(powers)
    before = _held(mesh, [(regions[n], widths[n], 1 + times * (n in order)) for n in regions])
    after = _held(mesh, [(each.regions, each.width, 1 + times * (n in order)) for n, each in made])
    return _told(mesh, tally, before, after)


def _told(mesh: Mesh, tally: Tally, before: Sequence[int], after: Sequence[int]) -> Forecast:
    parts = zip(before, after, tally.most, strict=True)
    return Forecast(
        mesh=str(mesh),
        rounds=tally.exchanges,
        totals=tally.totals,
        read=tuple(tally.read),
        received=tuple(tally.received),
        sent=tuple(tally.sent),
        most=tuple(tally.most),
        before=tuple(before),
        after=tuple(after),
        peak=tuple(old + new + most + tally.summed for old, new, most in parts),
    )


def _is_new(plan: Plan, stored: Stored) -> bool:
    return added(plan, Block(stored.line.slot.name, stored.index, ()))


def _held(mesh: Mesh, tensors: Collection[tuple[Regions, int, int]]) -> list[int]:
    """The bytes that each rank holds of (regions, width, how many of it)."""
    counts: dict[int, int] = {}
    known: dict[int, Regions] = {}
    for regions, width, times in tensors:
        known[id(regions)] = regions
        counts[id(regions)] = counts.get(id(regions), 0) + width * times
    found = [0] * mesh.ranks
    for at, size in counts.items():
        for rank, region in known[at].items():
            found[rank] += size * prod(map(len, region))
    return found


class _Place:
    """Who holds what, worked out once for tensors that are cut alike."""

    def __init__(self, mesh: Mesh, parameters: Collection[str]) -> None:
        self.mesh, self.parameters = mesh, parameters
        self._known: dict[object, Regions] = {}

    def of(self, stored: Stored, source: str) -> Regions:
        parameter = source in self.parameters
        key = (stored.header.shape, self.mesh.cuts(stored, parameter))
        if key not in self._known:
            self._known[key] = self.mesh.regions(stored, parameter)
        return self._known[key]
