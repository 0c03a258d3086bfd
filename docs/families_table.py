"""Write the table of families into README.md, as `isogrow families` knows it.

    python docs/families_table.py                       write it
    python docs/families_table.py --check [MODEL_TYPE…]    exit with 1 if it is not what stands there

The planner is asked about a small made-up model of each family, so the table can't say what is not so.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from isogrow.cli.facts import column, known
from isogrow.cli.tables.axes import around
from isogrow.families import LAYOUTS

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- families: [^>]*-->\n).*?(<!-- /families -->)", re.DOTALL)


def cell(axis: dict[str, Any] | None) -> str:
    """What one axis of one model type can grow to."""
    if axis is None:
        return "–"
    multiples = "multiples" if axis["step"] == axis["now"] else ""
    partners = "with " + " or ".join(axis["with"])
    words = {
        "any": "any size",
        "steps": multiples or "in steps",
        "some": "some sizes",
        "with": ", ".join(filter(None, (multiples, partners))),
        "no": "refused",
    }
    return words[axis["grows"]]


def lines(data: dict[str, Any]) -> list[str]:
    """The table in Markdown."""
    rows = [["model type", *data["axes"]], ["---"] * (len(data["axes"]) + 1)]
    for family in data["families"]:
        found = (column(family, axis) for axis in data["axes"])
        cells = (cell(one) + (f" ({names})" if names else "") for one, names in found)
        rows.append([family["model_type"], *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


def table() -> str:
    """The table, and what is said below it."""
    data = known()
    return "\n".join([*lines(data), "", around(data), ""])


def stands(text: str, types: list[str]) -> bool:
    """Whether the table has each model type, and these as the planner knows them."""
    found = BLOCK.search(text)
    there = found[0].splitlines() if found else []
    named = [line.split(" | ")[0] for line in there if line.startswith("| ")][2:]
    return named == [f"| {name}" for name in sorted(LAYOUTS)] and set(lines(known(types))) <= set(there)


def written(text: str) -> str:
    """README.md with the table as it should be."""
    made, count = BLOCK.subn(lambda found: found[1] + table() + found[2], text)
    assert count == 1, f"{README} has {count} places for the table"
    return made


if __name__ == "__main__":
    before, (*asked,) = README.read_text(encoding="utf-8"), sys.argv[1:]
    if asked[:1] == ["--check"]:
        sys.exit(not stands(before, asked[1:]) if asked[1:] else written(before) != before)
    README.write_text(written(before), encoding="utf-8")
