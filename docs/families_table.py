"""Write the table of families into README.md, as `isogrow families` knows it.

    python docs/families_table.py            write it
    python docs/families_table.py --check    exit with 1 if it is not what stands there

The planner is asked about a small made-up model of each family, so the table can't say what is not so.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from isogrow.cli.facts import column, known
from isogrow.cli.tables.axes import around

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


def table() -> str:
    """The table in Markdown."""
    data = known()
    rows = [["model type", *data["axes"]], ["---"] * (len(data["axes"]) + 1)]
    for family in data["families"]:
        found = (column(family, axis) for axis in data["axes"])
        cells = (cell(one) + (f" ({names})" if names else "") for one, names in found)
        rows.append([family["model_type"], *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + f"\n{around(data)}\n"


def written(text: str) -> str:
    """README.md with the table as it should be."""
    made, count = BLOCK.subn(lambda found: found[1] + table() + found[2], text)
    assert count == 1, f"{README} has {count} places for the table"
    return made


if __name__ == "__main__":
    before = README.read_text(encoding="utf-8")
    after = written(before)
    if "--check" in sys.argv:
        sys.exit(after != before)
    README.write_text(after, encoding="utf-8")
