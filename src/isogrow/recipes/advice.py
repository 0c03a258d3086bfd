"""What a published law says of a recipe before it is run: is growing worth it here, and when."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from isogrow.recipes.scaling import CHINCHILLA, Law, ModelSize, carried, ceiling, spent
from isogrow.recipes.starting import Outlook

FIT = (
    "Chinchilla's law as refit in arXiv 2404.10102, of natural text, its own tokens and models of 70 million"
    " to 16 billion parameters: of other data than yours, so a hint and no forecast"
)


@dataclass(frozen=True)
class Advice:
    """Of a recipe, by a law that was fitted to other data.

    tokens_per_parameter: of each stage, at its end, with all tokens until then; those that the first model
        has learned before, too, where they are known.
    ceiling: the share of a scratch run's operations, to the loss that the last model then has, that the
        recipe saves if every growth carries the loss over whole; what the first model has cost before is not
        counted. None where nothing grows, or where it is not known what the first model has learned before.
    moment, best: tokens of each stage's own parameters at which the last growth comes, and at which it
        would save most. None where the first model has learned before: the longer, the more is saved.
    alone: the stage whose model, never grown, would have the lower loss for all of the operations; 0 for the
        first model that has learned before.
    unknown: whether something grows, and it is not known how much the first model has learned before.
    steady: the stage of the last growth, where it comes late and the rate stays as it was: half of all
        operations are behind it, or the first model has learned before, and the rate falls for less than half
        of the stage. There a lower one kept more of the smaller model's lead (benchmarks/training).
    deeper: the stage of the last growth, where that is in layers alone: less of the lead was kept there.
    """

    tokens_per_parameter: tuple[float, ...]
    ceiling: float | None = None
    moment: float | None = None
    best: float | None = None
    alone: int | None = None
    steady: int | None = None
    deeper: int | None = None
    unknown: bool = False
    fit: str = FIT


def advice(
    stages: Sequence[Outlook], from_checkpoint: bool, learned: float = 0, law: Law = CHINCHILLA
) -> Advice:
    """What the law says of stages; `from_checkpoint` is whether the first model comes from one, which has
    `learned` so many tokens (0 where it is not known)."""
    seen = [learned + sum(stage.tokens for stage in stages[: i + 1]) for i in range(len(stages))]
    per = tuple(own / stage.parameters for own, stage in zip(seen, stages, strict=True))
    growing = [i for i, stage in enumerate(stages) if stage.grows]
    if not growing:
        return Advice(per)
    unknown = from_checkpoint and not learned
    at = growing[-1]
    deeper = stages[at].number if stages[at].deeper else None
    found = Advice(per, steady=_steady(stages, at, from_checkpoint), deeper=deeper, unknown=unknown)
    if unknown:
        return found
    sizes = [ModelSize(stage.parameters, stage.flops / stage.tokens) for stage in stages]
    spans = [(size, float(stage.flops)) for size, stage in zip(sizes, stages, strict=True)]
    first = stages[0].before
    loss = carried(law, spans, law.loss(first.parameters, learned))
    total, scratch = sum(operations for _, operations in spans), spent(law, sizes[-1], loss)
    found = dataclasses.replace(found, ceiling=max(0.0, 1 - total / scratch))
    if from_checkpoint:
        onward = law.loss(first.parameters, learned + total / first.cost)
        return dataclasses.replace(found, alone=0 if onward < loss else None)
    best = ceiling(law, sizes[at - 1], sizes[-1], scratch)
    alone = [law.loss(size.parameters, total / size.cost) for size in sizes[:at]]
    lowest = min(alone)
    return dataclasses.replace(
        found,
        moment=_moment(law, spans[:at]),
        best=best.tokens / stages[at - 1].parameters,
        alone=1 + alone.index(lowest) if lowest < loss else None,
    )


def _steady(stages: Sequence[Outlook], last: int, from_checkpoint: bool) -> int | None:
    """The number of the last stage that grows, if that is late and the rate stays as it was."""
    stage = stages[last]
    before, total = (sum(each.flops for each in part) for part in (stages[:last], stages))
    late = from_checkpoint or 2 * before >= total
    return stage.number if late and stage.rate >= 1 and 2 * stage.decay < stage.steps else None


def _moment(law: Law, spans: Sequence[tuple[ModelSize, float]]) -> float:
    """Tokens per parameter that the last of these models would have needed alone for the loss it has."""
    size = spans[-1][0]
    return law.tokens(size.parameters, carried(law, spans)) / size.parameters
