"""What `train` does and tells."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isogrow.gradmax import NAME
from isogrow.quiet import quiet
from isogrow.recipes.recipe import Recipe, read
from isogrow.recipes.running import checked, device, run, timed

Data = dict[str, Any]
Tell = Callable[[str], None]
Steps = Callable[[int, int, str], None]
TRIED = 3  # steps that an estimate of the time is made from


def outlook(path: Path, tell: Tell) -> Data:
    """A recipe stage by stage: sizes, parameters, operations, and about how long it would take here."""
    recipe, base = read(path), path.resolve().parent
    with quiet():
        stages = checked(recipe, base)
        where = str(device())
        tell(f"timing {TRIED} steps of the first stage on {where}")
        first = stages[0]
        seconds = timed(recipe, base, TRIED)
    rate = first.flops / first.steps / seconds  # operations a second
    rows = [{**dataclasses.asdict(stage), "seconds": stage.flops / rate} for stage in stages]
    total = sum(stage.flops for stage in stages) / rate
    left_out = ["what gradmax looks at"] if any(stage.init == NAME for stage in recipe.stages) else []
    return {
        "run": str(base / recipe.run),
        "stages": rows,
        "seconds": total,
        "device": where,
        "not_counted": left_out,
    }


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
        "checks": [_finite(outcome.loss)],
        "seconds": time.monotonic() - start,
        "next": [f"isogrow report {outcome.model.parent}"],
    }


def _finite(loss: float | None) -> Data:
    """Whether a run has come to something, as a check."""
    fine = loss is None or math.isfinite(loss)
    mend = "the run has diverged, so its model is of no use: try a lower rate, a longer warmup or a clip"
    return {"name": "loss", "passed": fine, "detail": "" if fine else f"it is {loss}; {mend}"}


def _told(recipe: Recipe, steps: Steps) -> Callable[[int, int, float | None], None]:
    total = sum(recipe.longest(stage) for stage in recipe.stages)

    def tell(step: int, growths: int, loss: float | None) -> None:
        at = f"stage {growths + 1} of {len(recipe.stages)}"
        steps(step, total, at if loss is None else f"{at}, loss {loss:.3f}")

    return tell
