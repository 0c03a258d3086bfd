"""Write docs/siblings.md: which published models grow into their larger siblings' shapes.

    python docs/siblings_page.py            write it
    python docs/siblings_page.py --check    exit with 1 if it is not what stands there

docs/siblings.json has the sizes that the published configs say. Each step is planned at full size, on headers
alone; where it is exact, the planned tensors are those of the larger class.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers

from isogrow.errors import IsogrowError
from isogrow.families import layout_for
from isogrow.interpreters.module import headers
from isogrow.planning.planner import plan
from isogrow.planning.sibling import sizes_of
from isogrow.plans.expansions import expansions
from isogrow.plans.matching import match
from isogrow.stores.binding import outputs

DATA, PAGE = (Path(__file__).with_name(f"siblings.{end}") for end in ("json", "md"))
REASON = re.compile(r"[:;] (grow|give|untie) .*")


def built(series: dict[str, Any], size: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A published model as its config.json and its tensors' headers."""
    made: Any = getattr(transformers, series["class"])
    said = dict(zip(series["keys"], series["sizes"][size], strict=True))
    config = made.config_class(**series["alike"], **said)
    with torch.device("meta"):
        found = headers(made(config))
    return json.loads(config.to_json_string(use_diff=False)), found


def step(small: tuple[dict[str, Any], dict[str, Any]], large: tuple[dict[str, Any], dict[str, Any]]) -> str:
    """What growing one into the other's shape is: exact, or why not."""
    source, tensors = small
    anatomy = match(layout_for(source["model_type"]), source, tensors)
    try:
        made = plan(anatomy, expansions(sizes_of(anatomy, large[0])))
    except IsogrowError as error:
        return "refused: " + REASON.sub("", str(error)).replace("|", "/")
    planned = {stored.name: stored.header.shape for stored in outputs(anatomy, made)}
    assert planned == {name: header.shape for name, header in large[1].items()}
    return "exact"


def rows(wanted: Collection[str] = ()) -> Iterator[tuple[str, str, str]]:
    """(series, step, what it is) of each model and the next larger one, in all series or in these."""
    for name, series in json.loads(DATA.read_text(encoding="utf-8")).items():
        if wanted and name not in wanted:
            continue
        models = {size: built(series, size) for size in series["sizes"]}
        for small, large in pairwise(series["sizes"]):
            yield name, f"{small} → {large}", step(models[small], models[large])


def page() -> str:
    """The page in Markdown."""
    found = list(rows())
    exact = sum(said == "exact" for *_, said in found)
    return "\n".join(
        [
            "# Published siblings",
            "",
            "Whether `isogrow grow SMALL OUT --to LARGE` takes a published model into the shape"
            " of the next larger one of its series: planned at full size, on the sizes in docs/siblings.json."
            " Written by docs/siblings_page.py.",
            "",
            f"{exact} of {len(found)} steps are exact.",
            "",
            "| series | step | |",
            "|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in found),
            "",
        ]
    )


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
