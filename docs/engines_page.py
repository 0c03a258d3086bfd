"""Write docs/engines.md from the engines' tables and from what was measured.

python docs/engines_page.py            write it
python docs/engines_page.py --check    exit with 1 if it is not what stands there
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from isogrow.engines import ENGINES, Engine
from isogrow.engines.engine import Coarse, Fixes, OldName, Period, Projections, Rounds, Row, Scale, Takes

PAGE = Path(__file__).with_name("engines.md")
ROWS = Path(__file__).parents[1] / "benchmarks" / "engines" / "rows.jsonl"

HEAD = """# Engines

Written by `docs/engines_page.py` from the tables in `src/isogrow/engines/`; [what each was seen to
do](../benchmarks/engines/README.md) is measured.

Plain transformers loads what isogrow grows and computes the same. Other programs read the same files their
own way: some fix a number that growing edits, some have no place for a size. `isogrow plan`, `isogrow grow`
and the grown model's card say so in a line each, where *this* growth brings it about:

    elsewhere   CTranslate2 4.8.5 runs 'gpt2' with layer_norm_epsilon 1e-05 whatever the config says, which
                goes from 1e-05 to 6.66667e-06; --for ctranslate2 keeps it

`--for ENGINE` (in Python `engines="ENGINE"`; several with commas between them, or repeated) grows only what
that engine computes right. It computes in the grown model what it computes in the small one, no more: where
it is off on the small one already, it stays so.

- **An ε stays** where the engine has one of its own: [what writes the
residual](laws.md#the-hidden-axis-and-its-norms)
  makes up for the new width. That rounds more weights than an edited ε does, once; where hidden grows
  fourfold nothing is rounded.
- **A θ stays** by multiples of the head dim, and is written under its old name too.
- **New layers** are of the kind that the engine takes them for, and old ones keep theirs: they go to the end,
or
  come as a whole period.
- **Sizes** that the engine can't have are refused, with the nearest that it can.

Nothing has to be asked for where it costs nothing: Gemma's `query_pre_attn_scalar` follows the head dim where
it is the head dim, and an edited θ always stands under both names.
"""


def described(row: Row) -> str:
    """What a row says, in a phrase."""
    return PHRASES[type(row)](row)


PHRASES: Mapping[type, Callable[[Any], str]] = {
    Fixes: lambda row: (
        f"`{row.key}` is {row.to:g} whatever the config says" + ("" if row.shows else ", which shows nowhere")
    ),
    Scale: lambda row: f"the attention's scale is `{row.formula}` whatever the config says",
    Period: lambda row: f"`{row.key}` is computed from the layer's number: `{row.formula}`",
    OldName: lambda row: "θ is read under its old name alone",
    Takes: lambda row: f"`{row.condition}`, or it {row.else_.format('it')}",
    Projections: lambda row: "a projection as wide as the vocabulary is taken for the head",
    Rounds: lambda row: f"`{row.formula}` is rounded to {row.to} in any dtype",
    Coarse: lambda row: f"{' and '.join(row.axes)}: no more exact than {row.error:g}, the small model too",
}


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(heads)
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def families(engine: Engine, row: Row) -> str:
    return ", ".join(row.families or engine.families) or "all"


def section(engine: Engine) -> Iterator[str]:
    """What is known of one engine."""
    name = f"{engine.name}=N" if engine.unit else engine.name
    called = f"{engine.title} N" if engine.unit else f"{engine.title} {engine.version}"
    yield from (f"## {called}", "")
    number = f" N is {engine.unit}." if engine.unit else ""
    loads = f" Loads {', '.join(engine.families)}." if engine.families else ""
    yield from (f"`--for {name}`, {engine.date}.{number}{loads}", "")
    if engine.refused:
        reasons: dict[str, list[str]] = {}
        for family, why in engine.refused.items():
            reasons.setdefault(why, []).append(family)
        told = "; ".join(f"{', '.join(each)} ({why})" for why, each in reasons.items())
        yield from (f"Does not load, small or grown: {told}.", "")
    if engine.rows:
        rows = ([described(r), families(engine, r), r.seen.version, r.seen.how] for r in engine.rows)
        yield from table(("what it does", "model types", "version", "seen"), rows)
    else:
        yield "Nothing was seen to differ."
    yield ""


def measured() -> Iterator[str]:
    """What was run again since: each cell as it is grown plainly, and for the engine."""
    rows = (
        [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()] if ROWS.exists() else []
    )
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        at = tuple(row[key] for key in ("engine", "version", "family", "keys", "axis"))
        cells.setdefault(at, {})[row["made"]] = _told(row)
    changed = {
        at: made
        for at, made in cells.items()
        if made.get("for it", "") != made["plainly"] and at[4] != "baseline"
    }
    if not changed:
        return
    alike = sum(1 for at, made in cells.items() if at[4] != "baseline" and at not in changed)
    yield from (
        "## Run in the engine",
        "",
        "The small model there against the grown one there, max |Δ| / max |logit|, on models of random weights
        with", f"ε = 1e-2 (`python -m benchmarks.engines`). In {alike} more cells both are the same.", "",
    )
    heads = ("engine", "model type", "keys of", "axis", "grown plainly", "with --for")
    yield from table(
        heads,
        (
            [f"{e} {v}", f, f"transformers {k}", a, made["plainly"], made["for it"]]
            for (e, v, f, k, a), made in changed.items()
        ),
    )
    yield ""


def _told(row: Mapping[str, Any]) -> str:
    return f"{row['verdict']} {row['figure']:.1e}" if "figure" in row else row["verdict"]


def page() -> str:
    """The whole page."""
    ordered = sorted(ENGINES.values(), key=lambda engine: (engine.aside, engine.title.lower()))
    lines = [HEAD, *(line for engine in ordered for line in section(engine)), *measured()]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
