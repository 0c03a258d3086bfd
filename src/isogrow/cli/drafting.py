"""What `draft` does, and how `--layout` is taken: a layout grows nothing before its proof."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from shlex import quote
from typing import Any

from isogrow import __version__
from isogrow.errors import FamilyError
from isogrow.growth.opening import Opened, opened, seen
from isogrow.paths import expanded
from isogrow.stores.texts import write_text

Data = dict[str, Any]
Tell = Callable[[str], None]
BY_HAND = "docs/add-a-family.md"


def drafted(model: str, out: str | None, overwrite: bool) -> Data:
    """A layout drafted from a model type or a folder, as data; it is written where `out` says."""
    from transformers import __version__ as library

    from isogrow.drafting.drafts import draft
    from isogrow.layouts.text import written

    try:
        made = draft(model)
    except FamilyError as error:
        by_hand = "" if BY_HAND in str(error) else f"; write its layout by hand ({BY_HAND})"
        raise FamilyError(f"{error}{by_hand}") from error
    kind = made.layout.family
    proven = (
        "proven on a small twin" if made.proven else "not proven in whole: its refusals say what was seen"
    )
    about = f"{kind}, drafted by isogrow {__version__} from transformers {library}; {proven}."
    text = written(made.layout, about)
    if out is not None:
        write_text(text, expanded(out), overwrite)
    axes = [
        {
            "axis": shown.axis,
            "exact": shown.exact,
            "grown": [dict(asked) for asked, _ in shown.errors],
            "error": max((error for _, error in shown.errors), default=None),
            "why": shown.why() or ("" if shown.exact else shown.refused),
        }
        for shown in made.proof.axes
    ]
    together = [{"sizes": dict(asked), "error": error} for asked, error in made.proof.compositions]
    then = [f"isogrow grow MODEL OUT --layout {quote(out)} --ffn x2"] if out and made.proven else []
    return {
        "model_type": kind, "proven": made.proven, "failed": made.proof.failed, "axes": axes,
        "together": together, "layout": text, "out": out, "next": then,
    }  # fmt: skip


def checked(types: Iterable[str], tell: Tell) -> Data:
    """What the library that is installed makes otherwise than the tables of these types, or of all: their
    default configs and classes are held against them, and what can be drafted is drafted anew."""
    from transformers import __version__ as library

    from isogrow.drafting.checking import check, checkable

    rows: list[Data] = []
    for kind in tuple(types) or checkable():
        tell(f"drafting {kind}")
        seen = check(kind)
        rows.append({"model_type": kind, "drafted": seen.drafted, "why": seen.why, "said": list(seen.said)})
    return {
        "transformers": library,
        "types": rows,
        "changed": [row["model_type"] for row in rows if row["said"]],
    }


def source(model: str, revision: str | None, config: str | None, layout: str | None, tell: Tell) -> Opened:
    """The model, seen through its family's layout, or through the one in a file after its proof."""
    if layout is None:
        return opened(model, revision, config)
    from isogrow.drafting.drafts import read_layout
    from isogrow.families import register
    from isogrow.stores.sources import open_checkpoint

    tell("proving the layout on a small twin")
    checkpoint = open_checkpoint(model, revision, config)
    register(read_layout(layout, checkpoint.config))
    return seen(checkpoint)
