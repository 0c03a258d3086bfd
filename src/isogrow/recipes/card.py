"""The README.md of a model that a recipe has made: what it is, and all that it comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from isogrow.recipes.progress import stage_ends
from isogrow.recipes.recipe import Recipe
from isogrow.recipes.starting import Outlook
from isogrow.train.kept import RELEASED
from isogrow.train.schedule import History


def card(
    recipe: Recipe, stages: Sequence[Outlook], records: History, ended: int, versions: Mapping[str, str]
) -> str:
    """A model card in Markdown: stages, growths, losses, data, and the recipe itself.

    It says nothing of time or place, so that the same run writes the same card.
    """
    name, of_stage = Path(recipe.run).name, f"/{RELEASED}/" in f"/{recipe.run}"
    run = Path(recipe.run).parents[1].name if of_stage else name
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "---",
            "",
            f"# {run}, {name.replace('-', ' ')}, released" if of_stage else f"# {run}",
            "",
            f"{stages[-1].parameters:,} parameters, trained over {ended:,} steps"
            f" by `isogrow train`. {_start(recipe)}{_end(recipe, of_stage)}",
            "",
            *_stages(stages, [*stage_ends(recipe, records), ended]),
            *_growths(records),
            *_losses(records),
            f"Learned from {', '.join(f'`{name}`' for name in recipe.data.train)}, tokenizer"
            f" `{recipe.data.tokenizer}`, in sequences of {recipe.data.length} tokens."
            f" {', '.join(f'{library} {version}' for library, version in versions.items())}.",
            "",
            "The recipe, every default filled in:",
            "",
            "```json",
            json.dumps(dataclasses.asdict(recipe), indent=1),
            "```",
            "",
        ]
    )


def _start(recipe: Recipe) -> str:
    source = recipe.model.source
    return f"It began as the checkpoint `{source}`. " if source else ""


def _end(recipe: Recipe, of_stage: bool) -> str:
    last = recipe.stages[-1]
    decay = recipe.decay_steps(last)
    over = f"Its rate fell to 0 over the last {decay:,} steps"
    if of_stage:
        there = "from there" if last.decay else "from before these, and grew"
        return f"{over}, {'in' if last.decay else 'beside'} a run that went on {there}."
    return f"{over}." if decay else "Its rate was not decayed."


def _stages(stages: Sequence[Outlook], last: Sequence[int]) -> Iterable[str]:
    yield "| stage | sizes | parameters | last step |"
    yield "|---|---|---|---|"
    before: Mapping[str, int] = {}
    for stage, step in zip(stages, last, strict=True):
        changed = ", ".join(f"{axis} {n:,}" for axis, n in stage.sizes.items() if before.get(axis) != n)
        before = stage.sizes
        yield f"| {stage.number} | {changed} | {stage.parameters:,} | {step:,} |"
    yield ""


def _growths(records: History) -> Iterable[str]:
    """How far the outputs moved at each growth, which is to keep them."""
    for record in (record for record in records if "growth" in record):
        moved: Any = record.get("growth_difference")
        said = "" if moved is None else f"; its own outputs moved by {moved:.1e}, relatively"
        when = f"After step {record['step']:,}" if record["step"] else "Before its first step"
        yield (
            f"{when} it grew from {record['growth_parameters_before']:,} to"
            f" {record['growth_parameters']:,} parameters{said}."
        )
        yield ""


def _losses(records: History) -> Iterable[str]:
    found = [
        f"{word} {values[-1]:.4f}"
        for key, word in (("loss", "training loss"), ("eval_loss", "held-out loss"))
        if (values := [float(record[key]) for record in records if key in record])
    ]
    if found:
        yield f"At its end: {', '.join(found)}."
        yield ""
