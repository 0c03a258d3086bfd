"""Towers in wrappers: one whose model type has a table of its own grows beside the language model, as a stack
whose axes are called after it (`vision.layers`).

Its rows stand before those of the language model, and are the same as in its own table. Rows of the wrapper
that consume the tower's width (`vision_hidden`) read its end, or what it was before its last layers, and
follow it. Where none does, what reads the tower is carried, and is as wide as it was: `hidden` is refused,
and all else grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from isogrow.layouts.layout import Key, Layout, Readout, Rename, Slot, Weight
from isogrow.layouts.mounting import mounted

READ = (
    "what stands between the tower and the language model reads as many channels, and no rule is known by"
    " which it could read more: grow ffn or layers instead"
)
UNKNOWN = (
    "no table is known of what stands beside its language model, so that all of that stays as it is; grow the"
    " language model (`ffn`, `layers`)"
)
BESIDE = (
    "no table is known of such a tower in it, so that what else stands beside its language model stays as it"
    " is; grow the language model (`ffn`, `layers`), or the tower that it has a table of"
)
STACKS = ("vision", "audio")


@dataclass(frozen=True)
class Tower:
    """A tower that grows in its wrapper: where its tensors stand (`at`) and its model type (`kind`).

    Its config stands under the wrapper's key `config`; with `named` that may name another model type, by
    which its class is made. `stack` is the word before its axes. `state` is the wrapper's key that says
    behind how many layers the tower is read, where that need not be its end. `refusals` are axes that no rule
    may grow here; `lifted` are those that its own table refuses for what its class does, and this one does
    not. `own` is its table, where transformers builds no model of its type alone.
    """

    at: str
    kind: str
    config: str = "vision_config"
    named: bool = False
    stack: str = "vision"
    state: Key | None = None
    refusals: Mapping[str, str] = field(default_factory=dict[str, str])
    lifted: tuple[str, ...] = ()
    own: Layout | None = None


def beside(
    made: Layout, tower: Tower, own: Layout, rows: tuple[Weight, ...]
) -> tuple[Layout, tuple[Weight, ...]]:
    """The layout of a wrapper with this tower, and of its rows those that stand behind the wrapper's: what
    nothing reads. `own` is its own table, and `rows` are the wrapper's."""
    part = _part(tower, own)
    taken = {row.name for row in rows}
    here = tuple(row for row in part.weights if not row.head and row.name not in taken)
    before, behind = _cut(here, tower)
    hidden, axes = part.streams[0].axis, _axes(here)
    reads = not axes.isdisjoint(_consumed(rows))
    stream = replace(part.streams[0], taken=not reads)
    refusals = {} if reads else {hidden: READ}
    return replace(
        made,
        weights=(*before, *made.weights),
        bindings=(*made.bindings, *part.bindings),
        axes={**made.axes, **{axis: said for axis, said in part.axes.items() if axis in axes}},
        keys=(*made.keys, *part.keys, *((tower.state,) if tower.state else ())),
        attentions=(*made.attentions, *part.attentions),
        per_layer=(*made.per_layer, *part.per_layer),
        kinds=(*made.kinds, *part.kinds),
        readouts=(*made.readouts, *part.readouts, *_state(tower)),
        follows={**made.follows, **part.follows},
        constraints=(*made.constraints, *part.constraints),
        sites={**made.sites, **part.sites},
        derived=tuple(dict.fromkeys((*made.derived, *part.derived))),
        fixed=made.fixed | (part.fixed & axes),
        refusals={**made.refusals, **_refusals(tower, part), **refusals},
        lifted={**made.lifted, **({} if refusals else part.lifted)},
        kept=(*made.kept, *part.kept),
        signalled=(*made.signalled, *(slot.name for slot in _slots(here))),
        windows=(*made.windows, *part.windows),
        streams=(*made.streams, stream),
        stacks=(*made.stacks, tower.stack),
        apart={stack: BESIDE for stack in made.apart if stack != tower.stack},
    ), behind


def unseen(row: Weight, stack: str) -> Weight:
    """A row of the wrapper, beside a tower that no table is known of: what it reads of it stays."""
    of = rf"{stack}_\w+"
    return replace(row, pattern=re.sub(rf"\([^()]*{of}\)|{of}", "features", row.pattern))


def _part(tower: Tower, own: Layout) -> Layout:
    """The tower's own table, where it stands in the wrapper."""
    assert len(own.streams) == 1 and not (own.stacks or own.leading), f"{own.family} is no single stack"
    return mounted(own, f"{tower.at}.", f"{tower.config}.", tower.stack)


def _cut(rows: tuple[Weight, ...], tower: Tower) -> tuple[tuple[Weight, ...], tuple[Weight, ...]]:
    """The rows that are run before the tower is read, and those of its end, where it is read before that."""
    last = max(at for at, row in enumerate(rows) if f"{{{tower.stack}_layers}}" in row.name) + 1
    if tower.state is None:
        return rows, ()
    return rows[:last], tuple(_idle(row) for row in rows[last:])


def _idle(row: Weight) -> Weight:
    return replace(row, idle="True", bias=row.bias and replace(row.bias, idle="True"))


def _state(tower: Tower) -> tuple[Readout, ...]:
    return (Readout(tower.state.name, axis=f"{tower.stack}_layers", only=True),) if tower.state else ()


def _refusals(tower: Tower, part: Layout) -> dict[str, str]:
    lifted = {f"{tower.stack}_{axis}" for axis in tower.lifted}
    own = {axis: why for axis, why in part.refusals.items() if axis not in lifted}
    return own | {f"{tower.stack}_{axis}": why for axis, why in tower.refusals.items()}


def _slots(rows: Iterable[Weight]) -> Iterator[Slot]:
    return (slot for row in rows for line in row.lines() for slot in line.slots)


def _axes(rows: Iterable[Weight]) -> frozenset[str]:
    return frozenset(axis for slot in _slots(rows) for axis in (*slot.index, *slot.axes))


def _consumed(rows: Iterable[Weight]) -> frozenset[str]:
    return frozenset(axis for slot in _slots(rows) for axis in slot.consumed)


def carried(tower: Tower, own: Layout) -> tuple[str, ...]:
    """The beginnings of names of what of a tower is carried along."""
    return tuple(f"{tower.at}.{name}" for name in own.carried)


def renames(tower: Tower, own: Layout, base: str) -> tuple[Rename, ...]:
    """Old names of a tower's tensors, behind the prefix `base`: its base model's prefix stood before them."""
    at = f"{base}{tower.at}."
    return tuple(Rename(at + prefix, at) for prefix in own.prefixes if prefix)
