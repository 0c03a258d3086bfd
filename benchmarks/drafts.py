"""Which model types of transformers' causal language models are drafted and proven without a human's edit.

    python benchmarks/drafts.py                 draft those that no row is there for, and write the page
    python benchmarks/drafts.py TYPE …          draft these again
    python benchmarks/drafts.py --page          write the page alone

A row is added to drafts.jsonl for each type as it is done; the page is drafts.md. A type is proven where each
axis that its layout lets grow, and growths of several at once, were exact (a relative error below 1e-12) in
float64 on a small twin of its default config.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import transformers

from isogrow.drafting.drafts import draft
from isogrow.drafting.kinds import causal_types
from isogrow.errors import IsogrowError
from isogrow.families import LAYOUTS

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "drafts.jsonl", HERE / "drafts.md"
Row = Mapping[str, Any]


def drafted(model_type: str) -> Row:
    """One type's row."""
    start = time.perf_counter()
    row: dict[str, Any] = {"type": model_type}
    try:
        made = draft(model_type)
    except IsogrowError as error:
        row |= {"proven": False, "axes": [], "why": " ".join(str(error).split())[:300]}
    except Exception as error:  # a class may raise anything on a config that it does not like
        row |= {
            "proven": False,
            "axes": [],
            "why": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300],
        }
    else:
        refused = {axis.axis: axis.why() or axis.refused for axis in made.proof.axes if not axis.exact}
        row |= {
            "proven": made.proven,
            "axes": list(made.proof.exact()),
            "refused": refused,
            "why": made.proof.failed or ("" if made.proven else "; ".join(made.proof.wrong().values()))[:300],
            "together": len(made.proof.compositions),
        }
    return {**row, "seconds": round(time.perf_counter() - start, 1)}


def rows() -> dict[str, Row]:
    """The last row of each type."""
    if not ROWS.exists():
        return {}
    found = map(json.loads, ROWS.read_text(encoding="utf-8").splitlines())
    return {row["type"]: row for row in found}


def page(found: Mapping[str, Row]) -> str:
    """The page."""
    proven = {name: row for name, row in found.items() if row["proven"]}
    plain = [name for name, row in proven.items() if {"ffn", "layers"} <= set(row["axes"])]
    built_in = [name for name in proven if name in LAYOUTS]
    said = [
        "# Drafts\n",
        f"Of the {len(causal_types())} causal model types of transformers {transformers.__version__},"
        f" {len(found)} were tried: {len(proven)} are drafted and proven"
        f" without a human's edit ({len(plain)} of them on at least ffn and layers); {len(built_in)} of them"
        " are built in. Proven is: each axis that the layout lets grow, and growths of several at once, were"
        " exact in float64 (a relative error below 1e-12) on a small twin of the type's default config. The"
        " others are refused, each with what stopped it first. `python benchmarks/drafts.py TYPE …` makes a"
        f" row; the {sum('revision' in row for row in found.values())} with ° are from an earlier revision of"
        " the drafting (`revision` in drafts.jsonl), which refused more, and are to be made again.\n",
        "## Proven\n",
        "| model type | built in | exact axes | refused axes |\n|---|---|---|---|",
    ]
    for name, row in sorted(proven.items()):
        refused = "; ".join(f"{axis}: {_short(why)}" for axis, why in row["refused"].items())
        said.append(f"| {_named(name, row)} | {_built_in(name)} | {', '.join(row['axes'])} | {refused} |")
    said += [
        "\n## Refused, or proven in part\n",
        "| model type | built in | exact axes | why |\n|---|---|---|---|",
    ]
    for name, row in sorted(found.items()):
        if not row["proven"]:
            axes = ", ".join(row["axes"])
            said.append(f"| {_named(name, row)} | {_built_in(name)} | {axes} | {_short(row['why'])} |")
    return "\n".join(said) + "\n"


def _named(name: str, row: Row) -> str:
    return f"{name} °" if "revision" in row else name


def _built_in(name: str) -> str:
    return "yes" if name in LAYOUTS else ""


def _short(why: str) -> str:
    text = " ".join(why.split()).replace("|", "/")
    return text if len(text) <= 160 else f"{text[:157]}…"


def main(types: Iterable[str]) -> None:
    """Draft what is asked for, a row at a time, and write the page."""
    for model_type in types:
        with ROWS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(drafted(model_type)) + "\n")
    PAGE.write_text(page(rows()), encoding="utf-8")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    asked = [name for name in sys.argv[1:] if not name.startswith("-")]
    left = [name for name in causal_types() if name not in rows()]
    main(asked or ([] if "--page" in sys.argv else left))
