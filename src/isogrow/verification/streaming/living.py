"""Liveness layer by layer: each grown layer is trained alone for a few steps, on what it was given in a run.

What is inside a layer (ffn channels, heads, the dims of heads, a new layer as a whole) lives in it as it
does in the model, since the layer's output has gradient there as here. Channels of the residual run through
all layers, and whether they live can't be told from one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from isogrow.plans.anatomy import Stored
from isogrow.plans.pieces import whole
from isogrow.stores.writing import one_thread
from isogrow.verification import learning
from isogrow.verification.liveness import Pass, training
from isogrow.verification.pair import Pair
from isogrow.verification.report import Check
from isogrow.verification.runs import first_tensor
from isogrow.verification.streaming.gaps import CURRENT
from isogrow.verification.streaming.lending import lacking
from isogrow.verification.streaming.returning import give_back
from isogrow.verification.streaming.rooms import LayerRoom, Rooms, roomy
from isogrow.verification.streaming.weights import Kept
from isogrow.verification.units import Group, Units


@dataclass(frozen=True)
class LayerInput:
    """What a layer was given, once. Hidden states are kept in float32: those of all layers wait here for
    their turn, and any will do to see what learns."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LayerInput:
        """A copy of what is given."""
        return cls(tuple(_cast(x, torch.float64, torch.float32) for x in args), dict(kwargs))

    @property
    def wide(self) -> tuple[Any, ...]:
        """The arguments in float64 again."""
        return tuple(_cast(x, torch.float32, torch.float64) for x in self.args)


def _cast(x: object, old: torch.dtype, new: torch.dtype) -> object:
    """A copy of a tensor, in a new dtype if it has the old one; anything else as it is."""
    return x.to(new if x.dtype is old else x.dtype, copy=True) if isinstance(x, Tensor) else x


@dataclass
class Calls:
    """The first call of each layer by the first of these runs that calls it, by the layer's name: a tower is
    called by a run with images alone."""

    runs: tuple[str, ...]
    found: dict[str, LayerInput] = field(default_factory=dict[str, LayerInput])
    by: dict[str, int] = field(default_factory=dict[str, int])

    def take(self, layer: str, run: str, args: Any, kwargs: Any) -> None:
        """Keep a call, unless there is one by this run, or by one before it."""
        at = self.runs.index(run) if run in self.runs else len(self.runs)
        if at < self.by.get(layer, len(self.runs)):
            self.found[layer], self.by[layer] = LayerInput.of(args, kwargs), at


@contextmanager
def overheard(model: nn.Module, layers: tuple[str, ...], calls: Calls) -> Generator[None]:
    """Keep what layers of a model are given by the runs that `calls` names."""
    modules = dict(model.named_modules())
    with ExitStack() as hooks:
        for name in layers:
            keeper = _keeper(name, calls)
            hooks.enter_context(modules[name].register_forward_pre_hook(keeper, with_kwargs=True))
        yield


def _keeper(layer: str, calls: Calls) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
        run = getattr(CURRENT, "run", None)
        if run is not None:
            calls.take(layer, run.name, args, kwargs)

    return keep


def uncached_(model: nn.Module) -> nn.Module:
    """Let no layer keep keys and values: a call of it is to be made again."""
    for part in cast("Iterator[Any]", model.modules()):
        if hasattr(getattr(part, "config", None), "use_cache"):
            part.config.use_cache = False
    return model


class LayerAlone(nn.Module):
    """A layer with what it is given; the outputs are its first. Gradients of matrices are made in `rooms`."""

    def __init__(self, layer: nn.Module, call: LayerInput, rooms: Rooms) -> None:
        super().__init__()
        self.layer, self.args, self.kwargs, self.rooms = layer, call.wide, call.kwargs, rooms

    def forward(self) -> dict[str, Tensor]:
        with roomy(self.rooms):
            return {"output": first_tensor(self.layer(*self.args, **self.kwargs))}


def liveness(pair: Pair, large: Kept, model: nn.Module, calls: Calls) -> tuple[Check, Check, Units]:
    """All new channels inside layers have gradient by the step that the plan predicts, and then differ.

    `model` is the large one in float64 without numbers, and `calls` what its layers were given.
    """
    by = learning.due(pair)
    wider = {step.axis for step in pair.plan.steps} & pair.before.layout.residuals
    pair = replace(pair, beyond=frozenset(wider))
    units, twins, made, late = list[Units](), list[str](), 0, 0
    place = LayerRoom()
    within = {layer: _within(pair, layer) for layer in pair.repeated}
    grew = [layer for layer, own in within.items() if any(pair.grown_blocks(own))]
    for layer, call in ((layer, calls.found[layer]) for layer in grew if layer in calls.found):
        part = replace(pair, after=replace(pair.after, stored=within[layer]))
        give_back()
        found = _trained(part, layer, call, large, model, by, place)
        units.append(found.units)
        twins, made, late = twins + found.twins, max(made, found.steps), max(late, found.late)
    together = _together(units)
    live, apart = learning.live(together, by, late), learning.apart(twins, made)
    left = _unchecked(pair, sorted(wider), within, [layer for layer in grew if layer not in calls.found])
    if not together.new:
        nothing = "; ".join(("nothing new inside a layer that was run", *left))
        return Check("liveness", None, detail=nothing), Check("distinct", None, detail=nothing), together
    words = "; ".join(("each layer alone", *left))
    live, apart = (replace(check, detail=f"{check.detail}; {words}") for check in (live, apart))
    return live, apart, together


def _unchecked(
    pair: Pair, wider: list[str], within: Mapping[str, tuple[Stored, ...]], missed: list[str]
) -> Iterator[str]:
    """What is new and can't be told of layers alone."""
    yield from (f"new {axis} channels run through all, unchecked" for axis in wider)
    if missed:
        yield f"{missed[0]} and {len(missed) - 1} more were not run, unchecked"
    held = {stored.source for own in within.values() for stored in own}
    rest = (stored for stored in pair.after.stored if stored.source not in held)
    grown = (stored for stored in rest if any(pair.grown_blocks((stored,))))
    if slots := {block.slot for stored in grown for _, block in stored.blocks(pair.plan.target)}:
        yield f"outside layers, unchecked: {', '.join(sorted(slots))}"


def _within(pair: Pair, layer: str) -> tuple[Stored, ...]:
    """The tensors of a layer."""
    return tuple(stored for stored in pair.after.stored if stored.source.startswith(f"{layer}."))


def _trained(
    part: Pair, layer: str, call: LayerInput, large: Kept, model: nn.Module, by: int, place: LayerRoom
) -> learning.Lived:
    """What a few steps make of one layer, of which nothing stays."""
    with one_thread():
        made = _numbered(model.get_submodule(layer), layer, large, place)
    alone = LayerAlone(made, call, place.gradients(made))
    steps = training(alone, [{}], steps=learning.most(by), copied=False)
    return learning.lived(part, by, map(partial(_renamed, layer=layer), steps))  # map keeps no step


def _numbered(layer: nn.Module, name: str, large: Kept, place: LayerRoom) -> nn.Module:
    """A copy of a layer with its weights as they are stored, in float64, in a place that it takes over from
    the layer before."""
    made = copy.deepcopy(layer)
    lacks = {inner: tuple(made.get_parameter(inner).shape) for inner in lacking(made).values()}
    for (inner, shape), room in zip(lacks.items(), place.weights(lacks.values()), strict=True):
        path, _, last = inner.rpartition(".")
        entries = large.region(f"{name}.{inner}", whole(shape), torch.float64, room)
        setattr(made.get_submodule(path), last, nn.Parameter(entries))
    return made


def _renamed(step: Pass, layer: str) -> Pass:
    """A step with the names that the tensors have in the model."""

    def called(name: str) -> str:
        return f"{layer}{name.removeprefix('layer')}"

    values = {called(name): value for name, value in step.values.items()}
    return replace(step, seen=step.seen.renamed(called), now=step.now.renamed(called), values=values)


def _together(parts: list[Units]) -> Units:
    """The new units of all layers."""
    found: dict[tuple[str, str], Group] = {}
    for group in (group for units in parts for group in units.groups):
        before = found.get((group.slot, group.axis))
        counts = ("new", "live", "inactive", "old", "old_live")
        if before is not None:
            group = replace(group, **{n: getattr(group, n) + getattr(before, n) for n in counts})
        found[group.slot, group.axis] = group
    return Units(tuple(found.values()))
