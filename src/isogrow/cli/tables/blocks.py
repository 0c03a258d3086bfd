"""What the tables are made of: calm, without boxes, fit for 80 columns."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDEST = 52  # of 80 columns


def table(*headings: str, ratios: tuple[int, ...] = (), right: tuple[str, ...] = ()) -> Table:
    """A table with these headings; columns with a ratio share the whole width."""
    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
        header_style="dim",
        border_style="dim",
    )
    made.expand = any(ratios)
    for i, heading in enumerate(headings):
        ratio = ratios[i] if i < len(ratios) and ratios[i] else None
        made.add_column(
            heading,
            justify="right" if heading in right else "left",
            ratio=ratio,
            overflow="fold",
            no_wrap=heading in right,
        )
    return made


def whole(made: Table, names: Iterable[str]) -> None:
    """Keep names in the first column in one line each, where they leave room for the rest."""
    made.columns[0].min_width = min(WIDEST, max(map(len, names), default=0))


def pairs(facts: Iterable[tuple[str, str]]) -> RenderableType:
    """Names, and what they are."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, value)
    return grid


def title(name: str, revision: str | None = None) -> RenderableType:
    """What a page is about."""
    return Text.assemble((name, "bold"), (f"  {revision[:12]}" if revision else "", "dim"))


def page(*parts: RenderableType) -> RenderableType:
    """Parts one below the other, with a line between them and a margin around."""
    lines = [line for part in parts for line in (part, "")]
    return Padding(Group(*lines), (1, 1, 0, 1))


def numbers(found: Iterable[int]) -> str:
    """Numbers, one after the other."""
    return ", ".join(f"{n:,}" for n in found)


def size(count: int) -> str:
    """Bytes for people, in decimal units.

    >>> size(1_234_567)
    '1.23 MB'
    """
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{count} bytes" if units[0] == "bytes" else f"{value:.3g} {units[0]}"
