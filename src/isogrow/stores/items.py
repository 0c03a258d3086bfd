"""What a distributed checkpoint is written from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isogrow.plans.anatomy import Header
from isogrow.plans.pieces import Box
from isogrow.stores.shards import nbytes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Item:
    """What is written under one name: a tensor, each of whose regions `fill` puts into a tensor of its dtype
    on the CPU; or (`header` is None) a value, as torch saved it. `path` are the keys that lead to it in a
    state dict."""

    path: tuple[str | int, ...]
    header: Header | None = None
    data: bytes = b""
    fill: Callable[[Box, Tensor], None] | None = None

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data) if self.header is None else nbytes(self.header)
