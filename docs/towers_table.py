"""Which wrappers grow in a tower, and along what: asked of the layout of each class's own config, for
docs/not_yet.py."""

from __future__ import annotations

from collections.abc import Iterable

import transformers

from isogrow.families import layout_of
from isogrow.families.wrappers import WRAPPERS

AXES = ("ffn", "layers", "hidden")


def towers(kind: str, headless: bool = False) -> dict[str, list[str]]:
    """The towers of a wrapper with its class's own config (or one without a pooling head) that grow, and
    along which of AXES each does."""
    config = transformers.CONFIG_MAPPING[kind]().to_dict()
    if headless and isinstance(config.get("vision_config"), dict):
        config["vision_config"] |= {"vision_use_head": False}
    layout = layout_of(config)
    found = {
        stack: [
            axis
            for axis in AXES
            if f"{stack}_{axis}" in layout.axes and layout.refused(f"{stack}_{axis}", config) is None
        ]
        for stack in layout.stacks
    }
    return {stack: axes for stack, axes in found.items() if axes}


def section(kinds: Iterable[str]) -> list[str]:
    """How many of these wrappers grow in a tower, and all that do, in Markdown."""
    grown = {kind: found for kind in sorted(WRAPPERS) if (found := towers(kind))}
    here = [kind for kind in kinds if kind in WRAPPERS]
    more = [kind for kind in grown if towers(kind, headless=True) != grown[kind]]
    alike: dict[str, list[str]] = {}
    for kind, found in grown.items():
        said = ", ".join(f"{stack}.{axis}" for stack, axes in found.items() for axis in axes)
        alike.setdefault(said, []).append(kind)
    return [
        "## Towers in wrappers",
        "",
        f"Of the {len(here)} image-text wrappers around a language model of a type of its own,"
        f" **{sum(kind in grown for kind in here)} grow in their tower, too**; of all {len(WRAPPERS)}, with"
        f" those for sound, {len(grown)} do. Where a config may name another tower, these are the class's"
        f" own; without a pooling head, which nothing reads there, {', '.join(more)} grow in `vision.hidden`,"
        " too.",
        "",
        "| grows | wrappers |",
        "|---|---|",
        *(f"| {said} | {', '.join(kinds)} |" for said, kinds in alike.items()),
        "",
    ]
