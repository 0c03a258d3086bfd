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
Data = Mapping[str, Any]
ROWS = Path(__file__).parents[1] / "benchmarks" / "engines" / "rows.jsonl"

HEAD = """# Engines

Written by `docs/engines_page.py` from the tables in `src/isogrow/engines/`; [what each was seen to
do](../benchmarks/engines/README.md) is measured.

Plain transformers loads what isogrow grows and computes the same. Other programs read the same files their
own way: some fix a number that growing edits, some have no place for a size. `isogrow plan`, `isogrow grow`
and the grown model's card say so in a line each, where *this* growth brings it about:

    elsewhere   CTranslate2 4.8.5 runs 'gpt2' with layer_norm_epsilon 1e-05 whatever the config says,
                which goes from 1e-05 to 6.66667e-06; --for ctranslate2 keeps it

`--for ENGINE` (in Python `engines="ENGINE"`; several with commas between them, or repeated) grows only what
that engine computes right: the grown model computes there what the small one does, and so it stays off where
the small one is off already.

- **An ε stays** where the engine has one of its own: what writes the residual makes up for the new width
  ([the law](laws.md#the-hidden-axis-and-its-norms)). That rounds more weights than an edited ε does, once
  each; where hidden grows fourfold nothing is rounded.
- **A θ stays** by multiples of the head dim, and is written under its old name too where the engine looks
  for no other.
- **New layers** are of the kind that the engine takes them for, and old ones keep theirs: they go to the end,
  or come as a whole period.
- **Sizes** that the engine can't have are refused, with the nearest that it can.

Of a model type that an engine's section does not name nothing is known, and nothing is said; with `--for` it
is refused.

Nothing has to be asked for where it costs nothing: Gemma's `query_pre_attn_scalar` follows the head dim where
it is the head dim, and an edited θ always stands under both names.

## Proof in the engine

    isogrow verify small/ large/ --engine ctranslate2      # where that engine is installed beside isogrow

(`isogrow.verify_in("ctranslate2", "small/", "large/")`) has the engine convert and run both folders on the
same tokens, in a process of its own, on the CPU, and compares the grown model there with the small one there:

    max |f(L) − f(S)|  ≤  16 · max(noise, rounding, ulp)

`noise` is how far the engine is from itself on the small model, the same rows in other batch shapes and
orders (llama.cpp, which runs row by row: with every weight one unit in the last place larger); `rounding`
what the small model's own dtype costs it in transformers, against float64. What the engine computes its own
way for both is not asked. Where it fails it names the token, says what transformers makes of the same two
folders (so whether it is the engine or the weights), and what the tables below know. Exit codes are those of
`verify`: 0 where it passes, 1 where it fails, 2 where the engine is not there or doesn't run the small model.

llama.cpp's converter is a script in its source, and no part of what pip installs; the source archive of
llama-cpp-python has the one of its version. The vocabulary is not converted, since token ids are compared:

    pip install llama-cpp-python==0.3.36                   # compiles llama.cpp: a C++ compiler, some minutes
    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36
    tar xf llama_cpp_python-0.3.36.tar.gz
    export LLAMA_CPP_SOURCE=llama_cpp_python-0.3.36/vendor/llama.cpp
    isogrow verify small/ large/ --engine llama.cpp
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
    if engine.packages:
        installed = " ".join(f"`{package}`" for package in engine.packages)
        beside = "".join(
            f" {variable} must name the folder {folder} of that package's source archive."
            for variable, folder in engine.sources.items()
        )
        yield from (f"`isogrow verify --engine {engine.name}` runs it: {installed}.{beside}", "")
    if engine.rows:
        rows = ([described(r), families(engine, r), r.seen.version, r.seen.how] for r in engine.rows)
        yield from table(("what it does", "model types", "version", "seen"), rows)
    else:
        yield "Nothing was seen to differ."
    yield ""


def measured() -> Iterator[str]:
    """What was run again since: each cell as it is grown plainly, and for the engine."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    cells: dict[tuple[str, ...], dict[str, Data]] = {}
    for row in (row for row in rows if row["axis"] != "baseline"):
        at = tuple(row[key] for key in ("engine", "version", "family", "keys", "axis"))
        cells.setdefault(at, {})[row["made"]] = row
    alike = 0
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for at, made in cells.items():
        verdicts = (made["plainly"]["verdict"], made["for it"]["verdict"])
        alike += verdicts == ("ok", "ok")
        if verdicts != ("ok", "ok"):
            groups.setdefault((*at[:4], *verdicts), []).append(at)
    told: list[list[str]] = []
    for (engine, version, family, keys, *_), found in groups.items():
        sides = (_told([cells[at][how] for at in found]) for how in ("plainly", "for it"))
        axes = ", ".join(at[4] for at in found)
        told.append([f"{engine} {version}", family, f"transformers {keys}", axes, *sides])
    yield from (
        "## Run in the engine",
        "",
        "The small model there against the grown one there, max |Δ| / max |logit|, the largest of several",
        "axes, on models of random weights with ε = 1e-2 (`python -m benchmarks.engines`). Where growing",
        "wrote a key that the small one lacked, it is compared with the small one with that key.",
        f"{alike} more cells are right",
        "either way.",
        "",
    )
    yield from table(("engine", "model type", "keys of", "axes", "grown plainly", "with --for"), told)
    yield ""


def _told(rows: list[Data]) -> str:
    """A verdict, and how far it is from the small model, the farthest of several."""
    figures = [min(row["figure"], row.get("named", row["figure"])) for row in rows if "figure" in row]
    return rows[0]["verdict"] + (f" {max(figures):.1e}" if figures else "")


def page() -> str:
    """The whole page."""
    ordered = sorted(ENGINES.values(), key=lambda engine: (engine.aside, engine.title.lower()))
    lines = [HEAD, *(line for engine in ordered for line in section(engine)), *measured()]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
