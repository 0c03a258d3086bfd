"""What `train` does and tells."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

from isogrow.gradmax import NAME
from isogrow.paths import expanded
from isogrow.quiet import quiet
from isogrow.recipes.advice import advice
from isogrow.recipes.folder import Outcome, check_claimable, folder_of, learned
from isogrow.recipes.reading import read
from isogrow.recipes.recipe import Recipe
from isogrow.recipes.running import checked, device, run, timed
from isogrow.recipes.starting import Outlook
from isogrow.train.kept import stage_of

Data = dict[str, Any]
Tell = Callable[[str], None]
Steps = Callable[[int, int, str], None]
TRIED = 3  # steps that an estimate of the time is made from


def outlook(path: Path, tell: Tell) -> Data:
    """A recipe stage by stage: sizes, parameters, operations, and about how long it would take here."""
    recipe, base = read(path), path.resolve().parent
    check_claimable(folder_of(recipe, base), recipe)
    with quiet():
        stages = checked(recipe, base)
        where = str(device())
        tell(f"timing {TRIED} steps of the first stage on {where}")
        first = stages[0]
        seconds = timed(recipe, base, TRIED)
    rate = first.flops / first.steps / seconds  # operations a second
    rows = [_row(stage, rate) for stage in stages]
    total = sum(row["seconds"] + (row["release"] or {"seconds": 0})["seconds"] for row in rows)
    source = recipe.model.source
    tokens = recipe.model.learned or (learned((base / expanded(source)).resolve()) if source else 0)
    told = advice(stages, bool(source), tokens)
    left_out = ["what gradmax looks at"] if any(stage.init == NAME for stage in recipe.stages) else []
    return {
        "run": str(folder_of(recipe, base)),
        "stages": rows,
        "seconds": total,
        "device": where,
        "not_counted": left_out,
        "advice": dataclasses.asdict(told),
    }


def _row(stage: Outlook, rate: float) -> Data:
    """A stage and its release, with the seconds that they take at so many operations a second."""
    row: Data = {**dataclasses.asdict(stage), "seconds": stage.flops / rate}
    if stage.release is not None:
        row["release"]["seconds"] = stage.release.flops / rate
    return row


def trained(path: Path, tell: Tell, steps: Steps) -> Data:
    """Carry a recipe out, to its end."""
    recipe, base = read(path), path.resolve().parent
    start = time.monotonic()
    with quiet():
        outcome = run(recipe, base, tell, _told(recipe, steps))
    return {
        "model": str(outcome.model),
        "step": outcome.step,
        "loss": outcome.loss,
        "held_out": outcome.held_out,
        "released": [_released(each) for each in outcome.released],
        "checks": [_finite("loss", outcome.loss), *(_finite("released", o.loss) for o in outcome.released)],
        "seconds": time.monotonic() - start,
        "next": [f"isogrow report {quote(str(outcome.model.parent))}"],
    }


def _released(outcome: Outcome) -> Data:
    return {
        "stage": stage_of(outcome.model.parent),
        "model": str(outcome.model),
        "step": outcome.step,
        "loss": outcome.loss,
        "held_out": outcome.held_out,
    }


def _finite(name: str, loss: float | None) -> Data:
    """Whether a run has come to something, as a check."""
    fine = loss is None or math.isfinite(loss)
    mend = "the run has diverged, so its model is of no use: try a lower rate, a longer warmup or a clip"
    return {
        "name": name,
        "passed": fine,
        "detail": "" if fine else f"{'its loss' if name != 'loss' else 'it'} is {loss}; {mend}",
    }


def _told(recipe: Recipe, steps: Steps) -> Callable[[int, int, float | None], None]:
    total = sum(recipe.longest(stage) for stage in recipe.stages)

    def tell(step: int, stage: int, loss: float | None) -> None:
        at = f"stage {stage} of {len(recipe.stages)}"
        steps(step, total, at if loss is None else f"{at}, loss {loss:.3f}")

    return tell
