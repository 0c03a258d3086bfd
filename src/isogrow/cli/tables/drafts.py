"""What `draft` tells, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from isogrow.cli.tables.blocks import page, pairs, table, title

Data = Mapping[str, Any]


def drafted(data: Data) -> RenderableType:
    """The proof, axis by axis, and the layout, if it was not written to a file."""
    word = "proven" if data["proven"] else "not proven"
    rows = table("axis", "in float64", "why", ratios=(0, 0, 1))
    for row in data["axes"]:
        rows.add_row(row["axis"], _seen(row), row["why"])
    for row in data["together"]:
        sizes = ", ".join(f"{name}={size}" for name, size in row["sizes"].items())
        rows.add_row("together", f"off by {row['error']:.0e}", sizes)
    facts = [("layout", data["out"])] if data["out"] else []
    facts += [("failed", data["failed"])] if data["failed"] else []
    shown = [] if data["out"] else [Text(data["layout"])]
    return page(
        title(f"{data['model_type']}: a draft, {word}"), rows, *([pairs(facts)] if facts else []), *shown
    )


def checked(data: Data) -> RenderableType:
    """What the library makes otherwise than each table."""
    rows = table("model type", "drafted", "what is otherwise", ratios=(0, 0, 1))
    for row in data["types"]:
        beside = f" ({row['why']})" if row["why"] else ""
        said = "; ".join(row["said"]) or "nothing"
        rows.add_row(row["model_type"], row["drafted"] or "no", said + beside)
    changed = ", ".join(data["changed"]) or "none"
    heading = f"transformers {data['transformers']} against the layouts that are built in"
    return page(title(heading), rows, pairs([("changed", changed)]))


def _seen(row: Data) -> str:
    return f"off by {row['error']:.0e}" if row["error"] is not None else "not grown"
