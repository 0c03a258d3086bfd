"""What `grow`, `verify` and `demo` tell: what was done, and what was proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from isogrow.cli.tables.blocks import page, table, title
from isogrow.cli.tables.plans import change

Data = Mapping[str, Any]

MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("–", "dim")}


def report(data: Data) -> RenderableType:
    """The checks of a verification."""
    made = table("", "check", "value", "limit", "", ratios=(0, 0, 0, 0, 1), right=("value", "limit"))
    for check in data["checks"]:
        mark, style = MARKS[check["passed"]]
        name = Text(check["name"], "bold" if check["passed"] is False else "default")
        detail = Text(check["detail"], "default" if check["passed"] is False else "dim")
        made.add_row(Text(mark, style), name, _number(check["value"]), _number(check["limit"]), detail)
    return made


def verified(data: Data) -> RenderableType:
    """What `verify` tells."""
    return page(report(data))


def grown(data: Data) -> RenderableType:
    """What `grow` did, and what it proved."""
    name = data["out"] or (f"kept as {data['failed']}" if data["failed"] else "nothing was written")
    parts: list[RenderableType] = [title(name), change(data["before"], data["after"])]
    if data["verification"] is not None:
        parts.append(report(data["verification"]))
    if data["skipped"]:
        parts.append(Text.assemble(("not verified: ", "yellow"), data["skipped"]))
    return page(*parts)


def ending(data: Data) -> RenderableType:
    """How the demo ended."""
    mark, style = MARKS[data["passed"]]
    words = "every check passed" if data["passed"] else "a check failed"
    return Text.assemble((f"{mark} ", style), f"{words}; the files are in {data['folder']}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
