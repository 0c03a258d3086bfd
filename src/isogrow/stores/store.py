"""What growing asks of whatever holds a model's tensors: two questions.

A store answers with what is here of a tensor, as views: one part that is all of it (a mapped file, a state
dict), many (the chunks of a distributed checkpoint), or less than all (a rank's shard). So that no store has
to know how blocks lie in tensors, and none cuts or joins anything itself, `read` does that for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from isogrow.errors import CheckpointError
from isogrow.numbers.joining import Part, joined
from isogrow.plans.anatomy import Header
from isogrow.plans.pieces import Box, whole
from isogrow.stores.dtypes import torch_dtype, word_of
from isogrow.stores.shards import nbytes


class Store(Protocol):
    """Where the tensors of a model are.

    `headers` says what there is, and costs no tensor. `parts` gives the boxes (without gaps) of a tensor that
    are here, each entry once, as views of any strides on any device; nothing is read before a part's entries
    are looked at.
    """

    @property
    def headers(self) -> Mapping[str, Header]: ...

    def parts(self, name: str) -> Iterable[Part]: ...


@runtime_checkable
class Filed(Protocol):
    """A store that knows in which file, and from which byte on, all entries of a tensor lie in order; None
    for one that does not lie so."""

    def place(self, name: str) -> tuple[Path, int] | None: ...


@runtime_checkable
class Fetching(Protocol):
    """A store that can read a view of what `parts` gave of a tensor into memory of its own, so that what the
    system can't read is refused when it is asked for, and not when it is looked at."""

    def fetched(self, name: str, view: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class StateDict:
    """The store of a state dict: each tensor is here as a whole."""

    state: Mapping[str, Tensor]

    @property
    def headers(self) -> Mapping[str, Header]:
        return self._headers

    @cached_property
    def _headers(self) -> dict[str, Header]:
        return {name: header_of(tensor) for name, tensor in self.state.items()}

    def parts(self, name: str) -> tuple[Part, ...]:
        tensor = self.state[name].detach()
        return ((whole(tuple(tensor.shape)), tensor),)


def header_of(tensor: Tensor) -> Header:
    """What is known of a tensor without its entries."""
    return Header(tuple(tensor.shape), word_of(tensor.dtype))


def read(store: Store, name: str, region: Box) -> Tensor:
    """A region (without gaps) of a tensor: a view where one part has all of it, else put together.

    Raises `CheckpointError` where the parts that are here do not hold all of it.

    >>> store = StateDict({"w": torch.arange(6.0).view(2, 3)})
    >>> read(store, "w", (range(1, 2), range(2)))
    tensor([[3., 4.]])
    """
    taken = partial(store.fetched, name) if isinstance(store, Fetching) else None
    found, left = joined(region, store.parts(name), torch_dtype(store.headers[name].dtype), taken)
    if left:
        raise CheckpointError(
            f"{name} is not whole: {left:,} of its entries in {region} are in no part of it"
        )
    return found


def all_of(store: Store, name: str) -> Tensor:
    """All of a tensor."""
    return read(store, name, whole(store.headers[name].shape))


def begin_read(store: Store, name: str) -> None:
    """Have the system read a tensor of a file into its cache, if it does that; nobody waits for it."""
    place = store.place(name) if isinstance(store, Filed) else None
    if place is None or not hasattr(os, "posix_fadvise"):
        return
    file = os.open(place[0], os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.posix_fadvise(file, place[1], nbytes(store.headers[name]), os.POSIX_FADV_WILLNEED)
    finally:
        os.close(file)
