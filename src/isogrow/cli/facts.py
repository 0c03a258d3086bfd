"""What `inspect` and `plan` tell, as plain data: from config.json and headers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from math import prod
from typing import Any

from isogrow.engines import announcements, change, itemsize
from isogrow.errors import CheckpointError, FamilyError
from isogrow.families import LAYOUTS
from isogrow.families.wrappers import WRAPPERS
from isogrow.growth.newness import new_in
from isogrow.layouts.config import get
from isogrow.planning.reach import Reach, reaches, specimen
from isogrow.planning.request import Planned
from isogrow.plans.anatomy import Anatomy, Header, Stored, grown_anatomy, grown_tensors
from isogrow.plans.caching import caches_of
from isogrow.plans.plan import Free, Old, Plan, Step, word
from isogrow.plans.serial import to_json
from isogrow.plans.sizes import Sizes, key
from isogrow.plans.words import MLPS, named, with_words
from isogrow.stores.dtypes import GROWN, TABLE, WORDS
from isogrow.stores.shards import nbytes
from isogrow.stores.sources import Checkpoint

Data = dict[str, Any]

SHOWN = ("hidden", "ffn", "heads", "kv_heads", "head_dim", "layers")

# What growing holds beside the libraries, as measured: bytes per entry of a chunk of 2²⁰ entries, where
# new entries are drawn and where they are only copied and scaled, and of a region that is made whole.
CHUNK = 1 << 20
DRAWN, COPIED, WHOLE = 9 * 8, 3 * 8, 4 * 8


def inspected(checkpoint: Checkpoint, anatomy: Anatomy) -> Data:
    """All that `inspect` tells of a model."""
    headers = [stored.header for stored in anatomy.stored]
    return {
        "model": checkpoint.name,
        "revision": checkpoint.revision or None,
        "family": anatomy.layout.family,
        "model_type": checkpoint.config.get("model_type"),
        "format": checkpoint.format,
        **_weights(anatomy, anatomy.stored),
        "dtypes": dict(Counter(_dtype(header) for header in headers).most_common()),
        "tied": any(map(anatomy.ties, anatomy.layout.table)),
        "ignored": list(anatomy.ignored),
        "sizes": dict(anatomy.sizes.values),
        "axes": [reached(each) for each in reaches(anatomy, named(anatomy.sizes, anatomy.layout.stacks))],
    }


def reached(reach: Reach) -> Data:
    """What one axis can grow to."""
    return {
        "axis": reach.axis,
        "now": reach.now,
        "grows": reach.grows,
        "step": reach.step or None,
        "sizes": list(reach.sizes),
        "with": {axis: [list(pair) for pair in pairs] for axis, pairs in reach.partners.items()},
        "why": list(reach.why),
    }


def summary(name: str, planned: Planned, dtype: str | None = None) -> Data:
    """All that `plan` tells of a plan."""
    anatomy, plan = planned.anatomy, planned.plan
    grown = _grown(anatomy, plan, dtype)
    stacks = anatomy.layout.stacks
    largest = max(grown, key=lambda stored: nbytes(stored.header))
    after = grown_anatomy(anatomy, plan, grown)
    return {
        "model": name,
        "family": plan.family,
        "before": {"sizes": named(plan.source, stacks), **_weights(anatomy, anatomy.stored)},
        "after": {"sizes": named(plan.target, stacks), **_weights(after, grown)},
        "steps": [
            _step(step, before, then, list(anatomy.layout.slots))
            for step, before, then in zip(plan.steps, plan.stages, plan.stages[1:], strict=False)
        ],
        "config": {path: [get(anatomy.config, path), value] for path, value in plan.config.items()},
        "learns_by_step": planned.learns_by,
        "caches": _caches(anatomy, plan),
        "largest": {
            "name": largest.name,
            "shape": list(largest.header.shape),
            "dtype": _dtype(largest.header),
            "bytes": nbytes(largest.header),
        },
        "memory": _memory(plan, grown),
        "elsewhere": _elsewhere(anatomy, plan, grown),
        "seed": plan.seed,
        "plan": to_json(plan),
    }


def _elsewhere(anatomy: Anatomy, plan: Plan, grown: list[Stored]) -> list[str]:
    """What engines other than the model's own classes would compute otherwise, or refuse."""
    width = itemsize(stored.header.dtype for stored in grown)
    return announcements(change(anatomy.layout, anatomy.config, plan, width))


def news(name: str, anatomy: Anatomy, plan: Plan) -> Data:
    """What of a grown model is new, and whether old caches are valid; `plan` led to it."""
    found = new_in(anatomy, plan)
    total = _weights(anatomy, anatomy.stored)["parameters"]
    return {
        "model": name,
        "family": plan.family,
        "parameters": total,
        **found.to_dict(),
        "caches": _caches(anatomy, plan),
    }


def _caches(anatomy: Anatomy, plan: Plan) -> Data:
    """Whether cached keys and values of old layers are valid across a growth."""
    found = caches_of(anatomy, plan)
    layers = {axis: list(numbers) for axis, numbers in found.layers.items()}
    return {"valid": found.valid, "why": list(found.why), "layers": layers}


def known(types: Collection[str] = ()) -> Data:
    """What each model type's axes can grow to (or of these alone), asked of a small made-up model of it.

    Raises `FamilyError` for a type that none is known of.
    """
    strange = [name for name in types if name not in LAYOUTS]
    if strange:
        raise FamilyError(
            f"{strange[0]!r} is no model type that can be grown: `isogrow families` lists those that can"
        )
    found: list[Data] = []
    for model_type in sorted(types or LAYOUTS):
        layout = LAYOUTS[model_type]
        anatomy = specimen(layout)
        sizes = named(anatomy.sizes, layout.stacks)
        sizes = {axis: n for axis, n in sizes.items() if axis in (*SHOWN, *MLPS)}
        axes = {each.axis: reached(each) for each in reaches(anatomy, sizes)}
        found.append({"model_type": model_type, "family": layout.family, "axes": axes})
    return {"axes": list(SHOWN), "families": found, "wrappers": sorted(WRAPPERS)}


def column(family: Data, axis: str) -> tuple[Data | None, str]:
    """What a table of families says of one axis; of ffn also the names of all widths that grow like it,
    where there are others."""
    axes: Data = family["axes"]
    widths = [name for name in MLPS if name in axes] if axis == "ffn" else [axis]
    alike = [
        name for name in widths if axes.get(name, {}).get("grows") == axes.get(widths[0], {}).get("grows")
    ]
    return axes.get(widths[0]) if widths else None, "" if alike == [axis] else ", ".join(alike)


def _grown(anatomy: Anatomy, plan: Plan, dtype: str | None) -> list[Stored]:
    """The grown model's tensors, in the dtype that is asked for."""
    if dtype is not None and dtype not in GROWN:
        raise CheckpointError(
            f"--dtype {dtype!r} is no dtype that weights can have: give float32, float16 or bfloat16"
        )
    grown = grown_tensors(anatomy, plan)
    if dtype is None:
        return grown
    return [Stored(s.name, s.line, s.index, Header(s.header.shape, WORDS[dtype]), s.source) for s in grown]


def _weights(anatomy: Anatomy, stored: Iterable[Stored]) -> Data:
    """Parameters (a tied tensor counts once), and what is stored."""
    stored = list(stored)
    own = [s for s in stored if not anatomy.shares(s.line.slot)]
    return {
        "parameters": sum(prod(s.header.shape) for s in own),
        "bytes": sum(nbytes(s.header) for s in stored),
        "tensors": len(stored),
    }


def _dtype(header: Header) -> str:
    return TABLE.get(header.dtype, ("", 0))[0] or header.dtype


def _step(step: Step, before: Sizes, after: Sizes, order: list[str]) -> Data:
    """One step: what grows, and what the blocks of each slot become, as the model runs them."""
    blocks: dict[str, list[str]] = {}
    scaled: dict[str, float] = {}
    for slot in sorted(step.rewrites, key=order.index):
        for label, entry in step.rewrites[slot].items():
            if not label.startswith("old"):
                kind = blocks.setdefault(word(entry, label), [])
                kind += [slot] if slot not in kind else []
            elif entry != Old():
                scaled.setdefault(slot, entry.a if isinstance(entry, Old) else 0.0)
    return {
        "expansion": step.expansion,
        **grows(step, before, after),
        "blocks": blocks,
        "scaled": scaled,
        "config": dict(step.config),
        "notes": list(step.notes),
    }


def grows(step: Step, before: Sizes, after: Sizes) -> Data:
    """What a step grows, from which size to which."""
    return {
        "axis": key(step.axis, step.site),
        "old": step.old,
        "new": step.new,
        "heads": _heads(step, before, after),
    }


def _heads(step: Step, before: Sizes, after: Sizes) -> list[int] | None:
    """Query heads before and after, where the axis is a part of them."""
    of = step.axis.removesuffix("kv_heads").removesuffix("group")
    if step.axis not in (f"{of}kv_heads", f"{of}group"):
        return None
    return [with_words(sizes.values)[f"{of}heads"] for sizes in (before, after)]


def _memory(plan: Plan, grown: list[Stored]) -> int:
    """An estimate of what growing holds in memory at its peak, beside the libraries."""
    kinds = {
        entry.init.kind
        for step in plan.steps
        for rewrite in step.rewrites.values()
        for entry in rewrite.values()
        if isinstance(entry, Free)
    }
    entries = max(prod(stored.header.shape) for stored in grown)
    whole = WHOLE * entries if kinds - {"normal", "uniform", "box-muller"} else 0
    return whole + (DRAWN if kinds else COPIED) * min(entries, CHUNK)
