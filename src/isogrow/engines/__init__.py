"""The engines that read what is grown, one data file each, found by themselves; and what a growth is to them.

    engine.py     what a table is written in
    change.py     what a growth changes, from a plan alone
    reading.py    the rule that reads tables

Nothing here asks for an engine or a family by name: an engine is a table, and its rows name families.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules

from isogrow.engines.change import Change as Change
from isogrow.engines.change import change as change
from isogrow.engines.engine import Engine as Engine
from isogrow.engines.reading import Complaint as Complaint
from isogrow.engines.reading import chosen as chosen
from isogrow.engines.reading import complaints as complaints
from isogrow.engines.reading import with_number
from isogrow.errors import SizeError
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import Plan

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for found in iter_modules(__path__)
    for engine in getattr(import_module(f"{__name__}.{found.name}"), "ENGINES", ())
}
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # of a weight, by safetensors' word for its dtype


def engine_for(name: str) -> Engine:
    """The engine of a name, with its number where one belongs to it (`tp=8`). Raises `SizeError`.

    >>> engine_for("llama.cpp").title, engine_for("tp=8").n
    ('llama.cpp', 8)
    """
    stem, equals, number = name.strip().partition("=")
    engine = ENGINES.get(stem)
    if engine is None:
        known = ", ".join(f"{e.name}=N" if e.unit else e.name for _, e in sorted(ENGINES.items()))
        raise SizeError(f"{name!r} is no engine that is known: give one of {known}")
    if not engine.unit and not equals:
        return engine
    if not engine.unit or not number.isdecimal() or not 0 < int(number) < 1 << 20:
        wanted = f"{stem}=N, where N is {engine.unit}" if engine.unit else stem
        raise SizeError(f"{name!r} can't be read: give {wanted}")
    return with_number(engine, int(number))


def announced(plan: Plan, anatomy: Anatomy, engine: str | Engine) -> list[str]:
    """What one engine would compute otherwise, or refuse, of a growth: a sentence each."""
    known = engine_for(engine) if isinstance(engine, str) else engine
    grown = change(anatomy.layout, anatomy.config, plan, itemsize(h.header.dtype for h in anatomy.stored))
    return [complaint.sentence for complaint in complaints(known, grown)]


def announcements(grown: Change) -> list[str]:
    """The same of all engines that people serve and convert with."""
    spoken = (engine for _, engine in sorted(ENGINES.items()) if not engine.aside)
    return [complaint.sentence for engine in spoken for complaint in complaints(engine, grown)]


def itemsize(dtypes: Iterable[str]) -> int:
    """The bytes of the widest weights."""
    return max((BYTES.get(dtype, 4) for dtype in dtypes), default=4)
