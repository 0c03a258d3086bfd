"""Reading ahead: while one tensor is computed with, the system reads those that come after it in its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from isogrow.plans.anatomy import Header
from isogrow.stores.store import Fetching, Part, Store, begin_read

AHEAD = 3  # tensors that the disk is at while one is computed with


@dataclass
class Ahead:
    """A store that has the system begin to read what comes after the tensor that is asked for; each is begun
    once, until it is behind."""

    store: Store
    begun: set[str] = field(default_factory=set[str])

    @property
    def headers(self) -> Mapping[str, Header]:
        return self.store.headers

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.headers)

    @cached_property
    def places(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.names)}

    def parts(self, name: str) -> Iterable[Part]:
        at = self.places[name]
        for following in self.names[at + 1 : at + 1 + AHEAD]:
            if following not in self.begun:
                self.begun.add(following)
                begin_read(self.store, following)
        self.begun.difference_update(self.names[max(0, at - AHEAD) : at])
        return self.store.parts(name)

    def fetched(self, name: str, view: Tensor) -> Tensor:
        return self.store.fetched(name, view) if isinstance(self.store, Fetching) else view
