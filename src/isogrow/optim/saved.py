"""An optimizer's state in a distributed checkpoint: read as far as its law needs, grown as it is written."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from isogrow.errors import CheckpointError, StateError
from isogrow.optim.coded import is_coded
from isogrow.optim.law import State
from isogrow.optim.moments import FACTORED, Policy
from isogrow.optim.state import grow_optimizer_state
from isogrow.plans.anatomy import Anatomy, Header, Stored
from isogrow.plans.boxes import slices
from isogrow.plans.matching import match
from isogrow.plans.pieces import Box
from isogrow.plans.plan import Plan
from isogrow.stores.distributed import Distributed, Saved, check_all_there, headers_of
from isogrow.stores.dtypes import torch_dtype, word_of
from isogrow.stores.items import Item
from isogrow.stores.mapping import Mapped
from isogrow.stores.sources import Checkpoint
from isogrow.stores.states import GROUPS, STATE, Form, Path, form_of
from isogrow.stores.store import all_of
from isogrow.stores.writing import Source, regions_of

PARAMS, NAMES = "params", "param_names"
LIMIT = 1 << 26  # bytes of a value: the names of a million parameters


def grown_items(
    held: Distributed, checkpoint: Checkpoint, anatomy: Anatomy, plan: Plan, policy: Policy | None
) -> dict[str, Item]:
    """The grown state's entries in the form of the old one's, by name; tensors are filled when they are
    written. Raises `StateError` for a state that no law grows, or that is not by names."""
    form = form_of(held)
    assert form is not None, held.folder
    state = _read(held, checkpoint, form)
    names = [[str(name) for name in group.pop(PARAMS)] for group in state[GROUPS]]
    numbers = {name: i for i, name in enumerate(name for group in names for name in group)}
    named = [NAMES in group for group in state[GROUPS]]
    for group, own in zip(state[GROUPS], names, strict=True):
        group |= {PARAMS: [numbers[name] for name in own], NAMES: own}
    _check_known(held, state, numbers)
    anatomy = _named_so(anatomy, state, numbers)
    later = _Later(held, checkpoint, anatomy, form)
    by_number = {**state, STATE: {numbers[name]: found for name, found in state[STATE].items()}}
    made = grow_optimizer_state(by_number, names, anatomy, plan, policy, make=later)
    return dict(_items(form, made, named, later))


def other_values(held: Distributed) -> dict[str, Item]:
    """What else is saved beside the model and its optimizer's state and is no tensor: a step, a schedule."""
    form = form_of(held)
    own = {} if form is None else dict(form.entries(held))
    return {
        fqn: Item(each.path, data=_bytes(each))
        for fqn, each in held.saved.items()
        if each.header is None and fqn not in own
    }


# ── reading ──


def _read(held: Distributed, checkpoint: Checkpoint, form: Form) -> State:
    """The state dict by names of parameters: values and numbers are read, and tensors are on meta."""
    state, groups = defaultdict[str, State](dict), defaultdict[str | int, State](dict)
    for fqn, (keys, each) in form.entries(held):
        if len(keys) != 3 or (keys[0] == STATE and str(keys[1]).isdigit()):
            raise StateError(
                f"{held.folder.name} has {fqn}, and parameters are known there by names alone: save the state"
                " that torch.distributed.checkpoint.state_dict.get_optimizer_state_dict gives"
            )
        into = state[str(keys[1])] if keys[0] == STATE else groups[keys[1]]
        into[str(keys[2])] = _value(held, checkpoint, fqn, each)
    if form.flat:
        groups = {name: {**groups[name], PARAMS: [name]} for name in dict.fromkeys([*groups, *state])}
    lost = [i for i, group in groups.items() if PARAMS not in group]
    if lost:
        raise StateError(f"group {lost[0]} of the optimizer has no {PARAMS}: save its state again")
    return {STATE: dict(state), GROUPS: [groups[i] for i in sorted(groups, key=_number)]}


def _number(key: str | int) -> int:
    return key if isinstance(key, int) else 0


def _value(held: Distributed, checkpoint: Checkpoint, fqn: str, saved: Saved) -> Any:
    if saved.header is None:
        return torch.load(io.BytesIO(_bytes(saved)), weights_only=True)
    check_all_there(held.folder, fqn, saved)
    if not saved.header.shape:
        return all_of(_stored(checkpoint, {fqn: saved}), fqn).clone()
    return torch.empty(saved.header.shape, dtype=torch_dtype(saved.header.dtype), device="meta")


def _bytes(saved: Saved) -> bytes:
    (chunk,) = saved.chunks
    if chunk.length > LIMIT:
        raise StateError(f"{saved.path} is a value of {chunk.length:,} bytes, which is too many to be read")
    with chunk.path.open("rb") as file:
        file.seek(chunk.start)
        return file.read(chunk.length)


def _check_known(held: Distributed, state: State, numbers: Mapping[str, int]) -> None:
    for name, found in state[STATE].items():
        if name not in numbers:
            raise StateError(f"{held.folder.name} has a state of {name}, which is in no group: save it again")
        if is_coded(found):
            raise StateError(
                f"{held.folder.name} has the state of {name} in codes of 8 bits or fewer, which can't be read"
                " in parts: save it as one file, or grow the weights alone"
            )
        factored = next((each for each in found if each in FACTORED), None)
        if factored is not None:
            raise StateError(
                f"{held.folder.name} has {factored} of {name}: row and column means are not grown in a"
                " distributed checkpoint"
            )


def _named_so(anatomy: Anatomy, state: State, names: Collection[str]) -> Anatomy:
    """The model as its optimizer names it, where that is by another binding than its weights are saved by."""
    if {stored.source for stored in anatomy.stored}.issuperset(names):
        return anatomy
    found = {
        name: next((x for x in own.values() if isinstance(x, Tensor) and x.dim()), None)
        for name, own in state[STATE].items()
    }
    headers = {name: Header(tuple(x.shape), word_of(x.dtype)) for name, x in found.items() if x is not None}
    try:
        return match(anatomy.layout, anatomy.config, headers)
    except CheckpointError:  # it is refused by the name that is strange
        return anatomy


def _stored(checkpoint: Checkpoint, tensors: Mapping[str, Saved]) -> Mapped:
    headers = headers_of(tensors)
    chunks = {name: each.chunks for name, each in tensors.items()}
    return Mapped(replace(checkpoint, headers=headers, chunks=chunks, files={}))


# ── growing ──


class _Later:
    """State tensors that are made when they are written: a tensor on meta stands for each."""

    def __init__(self, held: Distributed, checkpoint: Checkpoint, anatomy: Anatomy, form: Form) -> None:
        self.anatomy = anatomy
        kinds = defaultdict[str, dict[str, Saved]](dict)
        for _, (keys, each) in form.entries(held):
            if keys[0] == STATE:
                kinds[str(keys[2])][str(keys[1])] = each
        self.stores = {kind: _stored(checkpoint, tensors) for kind, tensors in kinds.items()}
        self.makers: dict[tuple[str, int], Callable[[str, Stored, Box, Tensor], None]] = {}
        self.fills: dict[Tensor, Callable[[Box, Tensor], None]] = {}

    def grown(self, name: str, old: Tensor, stored: Stored, plan: Plan) -> Tensor:
        made, typed = _as(old, stored)
        if (name, id(plan)) not in self.makers:
            self.makers[name, id(plan)] = regions_of(Source(self.anatomy, plan, self.stores[name]))
        self.fills[made] = partial(self.makers[name, id(plan)], f"{stored.name} ({name})", typed)
        return made

    def full(self, old: Tensor, stored: Stored, value: float) -> Tensor:
        made, _ = _as(old, stored)
        self.fills[made] = partial(_full, value)
        return made


def _as(old: Tensor, stored: Stored) -> tuple[Tensor, Stored]:
    """A tensor on meta of the grown shape, and what it is, both of the dtype of the old one."""
    shape = stored.header.shape
    return old.new_empty(shape), replace(stored, header=Header(shape, word_of(old.dtype)))


def _items(form: Form, made: State, named: Sequence[bool], later: _Later) -> Iterator[tuple[str, Item]]:
    groups: list[State] = made[GROUPS]
    names = {n: name for group in groups for n, name in zip(group[PARAMS], group[NAMES], strict=True)}
    for number, found in made[STATE].items():
        for kind, value in found.items():
            yield _item(form.path(STATE, names[number], kind), value, later)
    for i, (group, kept) in enumerate(zip(groups, named, strict=True)):
        own = {**group, PARAMS: group[NAMES]}
        said = {key: value for key, value in own.items() if key != NAMES or kept}
        for above in group[NAMES] if form.flat else [i]:
            for key, value in said.items():
                if not form.flat or key not in (PARAMS, NAMES):
                    yield _item(form.path(GROUPS, above, key), value, later)


def _item(path: Path, value: Any, later: _Later) -> tuple[str, Item]:
    fqn = ".".join(map(str, path))
    if not isinstance(value, Tensor):
        file = io.BytesIO()
        torch.save(value, file)
        return fqn, Item(path, data=file.getvalue())
    header = Header(tuple(value.shape), word_of(value.dtype))
    return fqn, Item(path, header, fill=later.fills.get(value) or partial(_region, value))


def _full(value: float, region: Box, out: Tensor) -> None:
    out.fill_(value)


def _region(x: Tensor, region: Box, out: Tensor) -> None:
    out.copy_(x[slices(region)])
