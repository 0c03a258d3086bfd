"""What a grown folder says of itself: README.md for people and the Hub, isogrow.json for machines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from isogrow.engines import announcements, change, itemsize
from isogrow.families import LAYOUTS
from isogrow.plans.plan import Plan
from isogrow.plans.serial import RECORD, to_json
from isogrow.plans.sizes import key
from isogrow.plans.words import with_words
from isogrow.stores.sources import HUB_ID, Checkpoint

FORMAT = 1
PAPER = "https://arxiv.org/abs/2308.06103"


def record(
    checkpoint: Checkpoint, plan: Plan, versions: Mapping[str, str], hashes: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The contents of isogrow.json: enough to grow the same bytes again (`--plan isogrow.json`)."""
    found: dict[str, Any] = {
        "format": FORMAT,
        "source": {"name": checkpoint.name, "revision": checkpoint.revision or None},
        "seed": plan.seed,
        "versions": dict(versions),
        "plan": to_json(plan),
    }
    return found if hashes is None else {**found, "sha256": dict(hashes)}


def model_card(
    checkpoint: Checkpoint,
    plan: Plan,
    parameters: tuple[int, int],
    versions: Mapping[str, str],
    source_card: str = "",
    verified: str = "",
) -> str:
    """README.md: where the model comes from, what grew, and how that it is unchanged was checked.

    `parameters` are those of the source and of the grown model. The front matter of the source's
    card (licence, language, tags) is kept, with `base_model` set to the source where that is a Hub id.
    """
    name = checkpoint.name
    before, after = (f"{count:,}" for count in parameters)
    link = f"[{name}](https://huggingface.co/{name})" if _on_hub(checkpoint) else f"`{name}`"
    revision = f" (revision `{checkpoint.revision}`)" if checkpoint.revision else ""
    return "\n".join(
        [
            *_front_matter(checkpoint, source_card),
            f"# {name.rpartition('/')[2]}, grown",
            "",
            f"This is {link}{revision} in a larger architecture that computes the same function: it was",
            f"grown by isogrow from {before} to {after} parameters by [function-preserving",
            f"expansions]({PAPER}), and has not been trained since. Standard",
            "libraries load it with no code of isogrow's.",
            "",
            "| expansion | axis | from | to |",
            "|---|---|---|---|",
            *_rows(plan),
            "",
            f"Seed {plan.seed}; {', '.join(f'{lib} {version}' for lib, version in versions.items())}."
            f" The whole plan is in `{RECORD}`.",
            "",
            "## Verified",
            "",
            verified or "Not on writing. To compare it with the model that it comes from:",
            *([] if verified else ["", f"    isogrow verify {name} ."]),
            "",
            *_elsewhere(checkpoint, plan),
            f"Licence, intended uses and limits are those of the source ({link}), whose function this is.",
            "",
        ]
    )


def _rows(plan: Plan) -> Iterable[str]:
    for step, before, after in zip(plan.steps, plan.stages, plan.stages[1:], strict=False):
        axis, old, new = step.axis, step.old, step.new
        of, group, rest = axis.rpartition("group")
        if group and not rest and not step.site:  # nobody asks for a group: it is a part of the heads
            axis = f"{of}heads"
            old, new = (with_words(sizes.values)[axis] for sizes in (before, after))
        yield f"| {step.expansion} | {key(axis, step.site)} | {old} | {new} |"


def _elsewhere(checkpoint: Checkpoint, plan: Plan) -> Iterable[str]:
    """What engines other than transformers would compute otherwise, or refuse."""
    layout = LAYOUTS.get(str(checkpoint.config.get("model_type")))
    width = itemsize(header.dtype for header in checkpoint.headers.values())
    lines = announcements(change(layout, checkpoint.config, plan, width)) if layout is not None else []
    if lines:
        yield from ("## Elsewhere", "", "These are known to compute it otherwise, or to refuse it:", "")
        yield from (f"- {line}" for line in lines)
        yield ""


def _on_hub(checkpoint: Checkpoint) -> bool:
    return bool(checkpoint.revision) and HUB_ID.fullmatch(checkpoint.name) is not None


def _front_matter(checkpoint: Checkpoint, source_card: str) -> list[str]:
    """The source's front matter, line by line, with `base_model` replaced."""
    found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", source_card, flags=re.DOTALL)
    lines = found[1].splitlines() if found else ["library_name: transformers"]
    if _on_hub(checkpoint):
        lines = [*_without(lines, "base_model"), f"base_model: {checkpoint.name}"]
    return ["---", *lines, "---", ""]


def _without(lines: Iterable[str], dropped: str) -> Iterable[str]:
    """YAML without one top-level key: its line, and the list or the indented lines below it."""
    inside = False
    for line in lines:
        own = re.match(r"([\w-]+)\s*:", line)
        if own is not None:
            inside = own[1] == dropped
        if not inside:
            yield line
