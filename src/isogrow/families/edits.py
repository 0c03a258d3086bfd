"""How one family's table is made from another's: by edits that name slots.

    like(LLAMA, "qwen3", after("attn.k", Weight(…), Weight(…)), defaults={"head_dim": 128})

An edit is a function of rows. Slots are named as rows name them (`attn.*`), several with spaces between them;
one that no row has is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

from isogrow.errors import LayoutError
from isogrow.layouts.layout import Key, Layout, Weight

Rows = tuple[Weight, ...]
Edit = Callable[[Rows], Rows]


def like(
    base: Layout,
    family: str,
    *edits: Edit,
    defaults: Mapping[str, Any] | None = None,
    more: tuple[Key, ...] = (),
    lacks: str = "",
    **fields: Any,
) -> Layout:
    """A layout that is another one but for some rows, defaults of config keys, and fields.

    `more` are keys that the other one has not; those that it `lacks` are left out.
    """
    rows: Rows = fields.pop("weights", base.weights)
    weights = reduce(lambda rows, edit: edit(rows), edits, rows)
    kept = tuple(key for key in base.keys if key.name not in lacks.split())
    said: dict[str, Any] = {"keys": (*with_defaults(kept, **(defaults or {})), *more), **fields}
    return replace(base, family=family, model_types=(family,), weights=weights, **said)


def drop(slots: str) -> Edit:
    """Without these slots."""
    return swap(slots)


def swap(slots: str, *rows: Weight) -> Edit:
    """Other rows in the place of these slots' first."""

    def edit(old: Rows) -> Rows:
        at = _found(old, slots)
        rest = tuple(row for i, row in enumerate(old) if i > at[0] and i not in at)
        return (*old[: at[0]], *rows, *rest)

    return edit


def after(slot: str, *rows: Weight) -> Edit:
    """More rows behind a slot."""

    def edit(old: Rows) -> Rows:
        at = _found(old, slot)[-1] + 1
        return (*old[:at], *rows, *old[at:])

    return edit


def before(slot: str, *rows: Weight) -> Edit:
    """More rows ahead of a slot."""

    def edit(old: Rows) -> Rows:
        at = _found(old, slot)[0]
        return (*old[:at], *rows, *old[at:])

    return edit


def move(slot: str, behind: str) -> Edit:
    """A slot's rows behind another one."""

    def edit(old: Rows) -> Rows:
        rows = tuple(old[i] for i in _found(old, slot))
        return after(behind, *rows)(drop(slot)(old))

    return edit


def alter(slots: str, **changes: Any) -> Edit:
    """The same rows, of which something else is said."""

    def edit(old: Rows) -> Rows:
        at = _found(old, slots)
        return tuple(replace(row, **changes) if i in at else row for i, row in enumerate(old))

    return edit


def with_defaults(keys: tuple[Key, ...], **defaults: object) -> tuple[Key, ...]:
    """The same keys with another class's defaults; keys that the table lacks are added."""
    changed = tuple(replace(k, default=defaults.pop(k.name)) if k.name in defaults else k for k in keys)
    return (*changed, *(Key(name, default=default) for name, default in defaults.items()))


def _found(rows: Rows, slots: str) -> list[int]:
    """Where the rows of these slots stand."""
    wanted = slots.split()
    for slot in wanted:
        if all(row.slot != slot for row in rows):
            raise LayoutError(
                f"no row has the slot {slot!r}: there are {', '.join(row.slot for row in rows)}"
            )
    return [i for i, row in enumerate(rows) if row.slot in wanted]
