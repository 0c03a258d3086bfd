"""The families that tests of an interpreter run on, and what makes them enough.

What an interpreter meets in a family is read off its data: the kinds of steps that its growths are made of,
of entries in them, of stored tensors. tests/test_diverse.py holds that these families have every kind that
any family has, and that none of them is there for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from rows import FAMILIES
from sweeping import EVERYTHING

from isogrow.families import layout_for
from isogrow.interpreters.module import headers
from isogrow.layouts.config import untagged
from isogrow.layouts.layout import Layout
from isogrow.layouts.pattern import Sum
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.expansions import expansions
from isogrow.plans.matching import match
from isogrow.plans.plan import Constant, Entry, Free, Mean, Old, Step


def kinds(name: str, each: bool = EVERYTHING) -> frozenset[str]:
    """All that a family is stored in and grows by, in words; `each`: by each axis alone, too."""
    found = on_meta(name)
    return frozenset((*_stored_by(found), *_grown_by(name, found, each)))


def on_meta(name: str) -> Anatomy:
    """The family's plain model, as names and shapes."""
    family = FAMILIES[name]
    source, kind = family.json(), getattr(transformers, family.classes[0])
    with torch.device("meta"):
        tensors = headers(kind(family.config.from_dict(untagged(source))))
    return match(layout_for(name), source, tensors)


def _stored_by(found: Anatomy) -> Iterator[str]:
    layout = found.layout
    facts = {
        "in files and in memory in lines of their own": bool(layout.bindings),
        "a tied head": found.tied_head,
        "a norm without a tensor": not all(slot.stored for slot in layout.table),
        "stacks": bool(layout.stacks),
        "buffers that are derived": bool(layout.derived),
    }
    yield from (said for said, holds in facts.items() if holds)
    for stored in found.stored:
        yield from _tensor(stored, layout)


def _tensor(stored: Stored, layout: Layout) -> Iterator[str]:
    """How one tensor is stored."""
    pattern = stored.line.parsed
    yield f"stored {pattern.arrow}"
    for dim in pattern.dims:
        fused = any(isinstance(factor, Sum) for factor in dim.factors)
        yield from ["an index inside a tensor"] * dim.index
        yield from ["a product in a dim"] * (len(dim.factors) > 1)
        yield from [f"parts in one dim{' of a product' * (len(dim.factors) > 1)}"] * fused
    numbered = re.findall(r"\{(\w+)\}", stored.line.name)
    yield f"named by {' '.join(_plain(axis, layout) for axis in numbered) or 'nothing'}"


def _grown_by(name: str, found: Anatomy, each: bool) -> Iterator[str]:
    """What the family's growths do: all in one plan, and each axis by itself, too."""
    family = FAMILIES[name]
    for wanted in (family.together, *(family.growths.values() if each else ())):
        made = plan(found, expansions(wanted))
        yield from (f"edits a config's {type(value).__name__}" for value in made.config.values())
        for step in made.steps:
            yield from _step(step)


def _step(step: Step) -> Iterator[str]:
    yield step.expansion
    yield from ["places that lie apart"] * any(place.stride > 1 for place in step.places)
    yield from ["old places on both sides of new ones"] * (sum(place.old for place in step.places) > 1)
    for rewrite in step.rewrites.values():
        yield from (_entry(entry, re.sub(r"\d+", "", label)) for label, entry in rewrite.items())


def _entry(entry: Entry, label: str) -> str:
    """What an entry is, and where."""
    words: dict[str, Any] = {}
    if isinstance(entry, Old):
        words = {"scaled": entry.a != 1, "shifted": entry.b != 0}
    if isinstance(entry, Constant):
        words = {"of zero": entry.value == 0, "of one": entry.value == 1}
    if isinstance(entry, Free):
        words = {"centred": entry.center, "negated": entry.sign < 0, "shared": entry.stream}
    if isinstance(entry, Mean):
        words = {"weighted": entry.weights, "scaled": entry.a != 1}
    said = " ".join(word for word, holds in words.items() if holds)
    return f"{type(entry).__name__} {said} at {label}".replace("  ", " ")


def _plain(axis: str, layout: Layout) -> str:
    """An axis without its stack's name; groups of layers (ALBERT) and streams beside the first (Gemma 3n)
    number blocks as layers do."""
    stack = next((stack for stack in layout.stacks if axis.startswith(f"{stack}_")), "")
    return {"groups": "layers", "others": "layers"}.get(axis, axis.removeprefix(f"{stack}_"))
