"""Which model types are drafted and proven without a human's edit: those that isogrow grows, the other causal
language models of transformers, and what else was asked for.

    python benchmarks/drafts.py                 draft those that no row is there for, and write the page
    python benchmarks/drafts.py TYPE …          draft these again
    python benchmarks/drafts.py --all           draft all again
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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from isogrow.drafting.drafts import draft
from isogrow.drafting.kinds import causal_types
from isogrow.errors import IsogrowError
from isogrow.families import LAYOUTS
from isogrow.families.wrappers import WRAPPERS

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "drafts.jsonl", HERE / "drafts.md"
Row = Mapping[str, Any]
WIDTHS = ("ffn", "expert_ffn", "shared_ffn")


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
            "axes": list(made.exact),
            "whole": made.whole,
            "on": sorted(made.proof.given - {"input_ids"}),
            "refused": refused,
            "why": made.proof.failed or ("" if made.proven else "; ".join(made.proof.wrong().values()))[:300],
            "together": len(made.proof.compositions),
        }
    return {**row, "seconds": round(time.perf_counter() - start, 1)}


def grown() -> list[str]:
    """The model types of transformers that isogrow grows: with a table of their own, or as wrappers."""
    return sorted((LAYOUTS.keys() | WRAPPERS.keys()) & set(CONFIG_MAPPING))


def types() -> list[str]:
    """What is drafted: what isogrow grows, and every other causal language model."""
    return list(dict.fromkeys((*grown(), *causal_types())))


def rows() -> dict[str, Row]:
    """The last row of each type."""
    if not ROWS.exists():
        return {}
    found = map(json.loads, ROWS.read_text(encoding="utf-8").splitlines())
    return {row["type"]: row for row in found}


def page(found: Mapping[str, Row]) -> str:
    """The page."""
    known = [name for name in grown() if name in found]
    done = [name for name in known if found[name]["proven"]]
    plain = [name for name in done if _on_both(found[name]["axes"])]
    told = [name for name in done if found[name].get("whole")]
    others = {name: row for name, row in found.items() if name not in known}
    more = [name for name, row in others.items() if row["proven"]]
    said = [
        "# Drafts\n",
        f"Of the {len(grown())} model types of transformers {transformers.__version__} that isogrow grows,"
        f" {len(known)} were drafted anew: **{len(done)} ({len(done) / len(known):.0%}) are proven without a"
        f" human's edit**, {len(plain)} of them on layers and an MLP's width. Of {len(told)} all modules"
        " were told; of the others what has no role that is known stays as it is. Of the"
        f" {len(others)} others that were drafted {len(more)} are proven, too. Proven is:"
        " each axis that the layout lets grow, and growths of several at once, were exact in float64 (a"
        " relative error below 1e-12) on a small twin of the type's default config, with images or sound"
        " where it takes them. The others are refused, each with what stopped it first."
        " `python benchmarks/drafts.py TYPE …`"
        " makes a row.\n",
    ]
    for title, names in (("Built in", known), ("Not built in", list(others))):
        said += _tables(title, {name: found[name] for name in sorted(names)})
    return "\n".join(said) + "\n"


def _on_both(axes: Iterable[str]) -> bool:
    """Whether layers grow, and the width of an MLP or of experts."""
    return "layers" in axes and any(axis in WIDTHS for axis in axes)


def _tables(title: str, found: Mapping[str, Row]) -> Iterator[str]:
    """What was seen of some types: proven ones, then the others."""
    yield f"## {title}: proven\n"
    yield "| model type | exact axes | told | refused axes |\n|---|---|---|---|"
    for name, row in found.items():
        if row["proven"]:
            refused = "; ".join(f"{axis}: {_short(why)}" for axis, why in row["refused"].items())
            told = "all" if row.get("whole") else "in part"
            yield f"| {name} | {', '.join(row['axes'])} | {told} | {refused} |"
    yield f"\n## {title}: refused, or proven in part\n"
    yield "| model type | exact axes | why |\n|---|---|---|"
    for name, row in found.items():
        if not row["proven"]:
            yield f"| {name} | {', '.join(row['axes'])} | {_short(row['why'])} |"
    yield ""


def _short(why: str) -> str:
    text = " ".join(why.split()).replace("|", "/")
    return text if len(text) <= 160 else f"{text[:157]}…"


def main(asked: Iterable[str]) -> None:
    """Draft what is asked for, a row at a time, and write the page."""
    for model_type in asked:
        with ROWS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(drafted(model_type)) + "\n")
    PAGE.write_text(page(rows()), encoding="utf-8")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    asked = [name for name in sys.argv[1:] if not name.startswith("-")]
    left = [name for name in types() if "--all" in sys.argv or name not in rows()]
    main(asked or ([] if "--page" in sys.argv else left))
