"""The ranks that grow a model together, and how a refusal on one of them is one on all."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import distributed

from isogrow import errors
from isogrow.errors import IsogrowError, StateError
from isogrow.stores.writers import odd_one

Said = TypeVar("Said")


@dataclass
class Fault:
    """What went wrong on this rank, while the others go on until all are asked."""

    error: Exception | None = None


@dataclass(frozen=True)
class Ranks:
    """All processes of the default group, which talk in it or in a `group` of all of them."""

    me: int
    world: int
    group: distributed.ProcessGroup | None = None

    @classmethod
    def all(cls) -> Ranks:
        """Raises `StateError` where there is no process group."""
        if not (distributed.is_available() and distributed.is_initialized()):
            raise StateError(
                "shard= is given, and there is no process group: start the script by torchrun, and call"
                " torch.distributed.init_process_group() before the model is sharded"
            )
        return cls(distributed.get_rank(), distributed.get_world_size())

    def gathered(self, said: Said) -> list[Said]:
        """What every rank says, in their order."""
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, said, group=self.group)
        return cast("list[Said]", found)

    @contextmanager
    def together(self) -> Generator[None]:
        """Do something that a rank may refuse: then all of them raise, and none waits for it."""
        fault = Fault()
        with kept(fault):
            yield
        self.settle(fault)

    def settle(self, fault: Fault) -> None:
        """Raise on every rank if something went wrong on any."""
        error = fault.error
        found = self.gathered(None if error is None else (type(error).__name__, str(error)))
        if error is not None:
            raise error
        rank, first = next(((rank, each) for rank, each in enumerate(found) if each is not None), (0, None))
        if first is not None:
            raise _known(first[0])(f"rank {rank} can't grow the model, so none does: {first[1]}")

    def check_alike(self, what: str, mine: str) -> None:
        """Raise `StateError` on every rank where one says something else than the first."""
        other = odd_one(self.gathered(mine))
        if other is not None:
            raise StateError(
                f"rank {other} was given another {what} than rank 0, and all ranks have to grow the same:"
                " give each the same request, the same seed and the same optimizers"
            )

    def device(self, like: torch.device) -> torch.device:
        """Where tensors have to be to be sent: where they are, if the group's backend sends from there."""
        backends = dict(each.split(":") for each in distributed.get_backend_config().split(","))
        if like.type in backends and (like.type == "cpu" or backends[like.type] != "gloo"):
            return like
        if "cpu" in backends:
            return torch.device("cpu")
        return torch.device(next(iter(backends)), torch.accelerator.current_device_index())


@contextmanager
def kept(fault: Fault) -> Generator[None]:
    """Note the first thing that goes wrong, and go on: other ranks are about to wait for this one."""
    try:
        yield
    except Exception as error:
        fault.error = fault.error or error


def _known(name: str) -> type[IsogrowError]:
    """The refusal of this name; what is none of ours is one of a state that can't be grown."""
    kind = getattr(errors, name, StateError)
    return kind if isinstance(kind, type) and issubclass(kind, IsogrowError) else StateError
