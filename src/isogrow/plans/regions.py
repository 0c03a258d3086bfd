"""Free regions, and functions of one's own that fill them.

    def small(region):
        noise = np.random.default_rng(region.seed).standard_normal(region.shape)
        return region.mean + 0.5 * region.std * noise

    isogrow.grow(model, init=small, ffn="x2")

A plan is data: it holds a function's name. The name means something while a growth that was given the
function lasts, or from when it is registered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from isogrow.errors import SizeError
from isogrow.layouts.layout import Index
from isogrow.plans.plan import KINDS, REPLAYED, Entry, Free, Init, Plan, Step, rewritten


@dataclass(frozen=True)
class Region:
    """The new entries of one block in one growth: what a function that fills them is given.

    `slot` and `index` say which block of the grown model ("mlp.up" in `(("layers", 3),)`), `axes` what its
    dims are, `shape` how many new entries there are along each. `axis` is what grows: a dim, along which
    the new units are counted, or a number in the index, where all of the block is new. `mean` and `std` are
    what the built-in initializers would take (the mean is 0 but for gains). `key` names the region, and no
    other one of a plan; `old()` is the old block that it extends, as the growth leaves it (a float64 array).
    """

    slot: str
    index: Index
    axes: tuple[str, ...]
    axis: str
    shape: tuple[int, ...]
    mean: float
    std: float
    key: str
    old: Callable[[], Any] = field(compare=False, repr=False)

    @property
    def seed(self) -> int:
        """A number for this region alone, from the growth's own seed: for a generator of any library."""
        return int.from_bytes(hashlib.blake2b(self.key.encode(), digest_size=8).digest(), "little") >> 1


Initializer = Callable[[Region], Any]


@runtime_checkable
class Fitting(Protocol):
    """An initializer that looks at the model before it fills: `fitted` gives the function."""

    @property
    def name(self) -> str: ...

    def fitted(self, model: Any, plan: Plan) -> Initializer: ...


BUILT_IN = (*KINDS, *REPLAYED)
_REGISTERED: dict[str, Initializer | Fitting] = {}
# What a growth was given, for as long as it lasts and in its own thread: two growths may each have a function
# of the same name (two lambdas of one module have).
_GIVEN: ContextVar[Mapping[str, Initializer | Fitting] | None] = ContextVar("_GIVEN", default=None)


def register_initializer(name: str, function: Initializer) -> None:
    """Make a function known by a name that `init` and plans may say.

    `function(region)` returns a region's numbers as they are to be, an array of `region.shape`. It must be a
    function of the region alone: the same numbers whenever it is asked. Raises `SizeError` for a name that
    an initializer of isogrow's own has.
    """
    if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SizeError(f"{name!r:.60} is no name for an initializer: give register_initializer a string")
    if name in BUILT_IN or not callable(function):
        raise SizeError(
            f"{name!r} can't be registered: "
            + (
                "isogrow has an initializer of that name"
                if name in BUILT_IN
                else f"{function!r} is no function"
            )
            + "; give register_initializer another name, and a function of a region"
        )
    _REGISTERED[name] = function


def registered(name: str) -> Initializer:
    """The function of this name. Raises `SizeError` where none is registered."""
    found = _meaning().get(name)
    if not callable(found):
        raise SizeError(
            f"init {name!r} is not known: give one of {', '.join(KINDS)}, a function of a region, or the name"
            f" of one after isogrow.register_initializer({name!r}, function)"
        )
    return found


@contextmanager
def naming(init: str | Initializer | Fitting) -> Generator[str]:
    """The name of an initializer, under which it is known meanwhile."""
    if isinstance(init, str):
        yield init
        return
    with _known(name_of(init), init) as name:
        yield name


@contextmanager
def fitting(init: str | Initializer | Fitting, model: Any, plan: Plan) -> Generator[None]:
    """The same name stands for what an initializer made of this model and plan, if it is one that looks."""
    if not isinstance(init, Fitting) or init.name not in own(plan):
        yield
        return
    with _known(init.name, init.fitted(model, plan)):
        yield


@contextmanager
def _known(name: str, init: Initializer | Fitting) -> Generator[str]:
    token = _GIVEN.set({**(_GIVEN.get() or {}), name: init})
    try:
        yield name
    finally:
        _GIVEN.reset(token)


def _meaning() -> Mapping[str, Initializer | Fitting]:
    """What every name means here: what this growth was given goes before what is registered."""
    return {**_REGISTERED, **(_GIVEN.get() or {})}


def name_of(init: object) -> str:
    """What plans call a function: its own `name`, or that in its module."""
    if isinstance(init, type):
        raise SizeError(f"init is the class {init.__name__}, not an initializer: give {init.__name__}(…)")
    if not (callable(init) or isinstance(init, Fitting)):
        raise SizeError(
            f"init {init!r:.60} is no initializer: give one of {', '.join(KINDS)}, or a function of a region"
        )
    kind = init if hasattr(init, "__qualname__") else type(init)
    name = str(getattr(init, "name", f"{kind.__module__}.{getattr(kind, '__qualname__', kind)}"))
    if name in BUILT_IN:
        raise SizeError(f"init {init!r:.60} has the name {name!r}, which is isogrow's own: give it another")
    return name


def check_known(init: Init) -> None:
    """Refuse a name that means nothing here."""
    if init.kind not in BUILT_IN and init.kind not in _meaning():
        registered(init.kind)


def check_plan(plan: Plan) -> None:
    """Refuse a plan that names an initializer which nobody registered."""
    for name in sorted(own(plan) - _meaning().keys()):
        raise SizeError(
            f"the plan fills new weights by {name!r}, which is not registered here: call"
            f" isogrow.register_initializer({name!r}, function) first, give it as init, or make the plan anew"
        )


def own(plan: Plan) -> set[str]:
    """The names in a plan of initializers that are not isogrow's."""
    rewrites = (rewrite for step in plan.steps for rewrite in step.rewrites.values())
    entries = (entry for rewrite in rewrites for entry in rewrite.values())
    return {entry.init.kind for entry in entries if isinstance(entry, Free)} - set(BUILT_IN)


def drawn(plan: Plan) -> Plan:
    """The same plan with random numbers wherever a function of one's own fills."""

    def entry(step: Step, slot: str, label: str, entry: Entry) -> Entry:
        if not isinstance(entry, Free) or entry.init.kind in BUILT_IN:
            return entry
        return replace(entry, init=Init("normal", entry.init.std))

    return rewritten(plan, entry)
