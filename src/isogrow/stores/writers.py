"""Who writes an output: this process alone, or several ranks of a job that meet on the way.

What ranks know of each other is what they say when they meet. One that has failed says so at its next
meeting, and then all fail: so whatever goes wrong on any rank, none waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from isogrow.errors import StateError

T = TypeVar("T")


class Writers(Protocol):
    """This process is number `me` of `world`, `beside` of which run on this machine.

    `meet` waits for all, and gives what each says, in their order; where one has failed, it raises that
    rank's error on all of them. A `region` ends on all ranks together, without an error or with the same one.
    """

    @property
    def me(self) -> int: ...

    @property
    def world(self) -> int: ...

    @property
    def beside(self) -> int: ...

    def meet(self, said: T) -> list[T]: ...

    def region(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class One:
    """A process that writes alone, and pays nothing for it."""

    me: int = 0
    world: int = 1
    beside: int = 1

    def meet(self, said: T) -> list[T]:
        return [said]

    def region(self) -> AbstractContextManager[None]:
        return nullcontext()


ONE = One()


def first_alone(writers: Writers, make: Callable[[], T]) -> T:
    """What the first of them makes, on all; the others wait for it.

    >>> first_alone(ONE, lambda: 7)
    7
    """
    return cast("T", writers.meet(make() if writers.me == 0 else None)[0])


def odd_one(found: Sequence[object]) -> int | None:
    """The first rank that says something else than rank 0, of what all say in their order.

    >>> odd_one(["a", "a", "b"]), odd_one(["a"])
    (2, None)
    """
    return next((rank for rank, each in enumerate(found) if each != found[0]), None)


def check_alike(writers: Writers, mine: str) -> None:
    """Refuse on every rank a growth that is not the same on all of them. Raises `StateError`."""
    other = odd_one(writers.meet(mine))
    if other is not None:
        raise StateError(
            f"rank {other} would write other bytes than rank 0: give all ranks the same model, request and"
            " options, and the same versions of all libraries"
        )
