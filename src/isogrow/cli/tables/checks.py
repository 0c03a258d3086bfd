"""What `grow`, `verify` and `demo` tell: what was done, and what was proven."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from isogrow.cli.tables.blocks import page, table, title
from isogrow.cli.tables.plans import change, grows

Data = Mapping[str, Any]

STYLES = {True: "green", False: "bold red", None: "dim"}


def report(data: Data) -> RenderableType:
    """The checks of a verification."""
    from isogrow.verification.report import HEADINGS, row  # with torch, which a refusal does without

    made = table(*HEADINGS, ratios=(0, 0, 0, 0, 1), right=("value", "limit"))
    for check in data["checks"]:
        mark, name, value, limit, detail = row(check)
        failed = check["passed"] is False
        told = Text(detail, "default" if failed else "dim")
        marked, named = Text(mark, STYLES[check["passed"]]), Text(name, "bold" if failed else "default")
        made.add_row(marked, named, value, limit, told)
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
    if data["left"]:
        parts.append(Text.assemble(("left behind: ", "yellow"), ", ".join(data["left"])))
    parts += [Text.assemble(("elsewhere: ", "yellow"), line) for line in data["elsewhere"]]
    return page(*parts)


def adapted(data: Data) -> RenderableType:
    """What became of an adapter that grew with its base."""
    steps = [Text(grows(step), "cyan") for step in data["steps"]]
    return page(title(data["out"]), Text(f"an adapter for {data['base']}", "dim"), *steps)


def ending(data: Data) -> RenderableType:
    """How the demo ended."""
    from isogrow.verification.report import MARKS

    mark, style = MARKS[data["passed"]], STYLES[data["passed"]]
    words = "every check passed" if data["passed"] else "a check failed"
    return Text.assemble((f"{mark} ", style), f"{words}; the files are in {data['folder']}")
