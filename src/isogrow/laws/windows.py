"""Law 1 along the taps of a causal convolution: each keeps its distance from the newest token, whose tap is
the last."""

from __future__ import annotations

from isogrow.errors import LawError
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import OLD, Plan


def check_windows(anatomy: Anatomy, plan: Plan) -> None:
    """Raise `LawError` where a step moves an old tap nearer to the newest token, or away from it."""
    for step in (step for step in plan.steps if step.axis in anatomy.layout.windows):
        for back in range(1, step.old + 1):
            source, label = step.source(step.new - back)
            if source != step.old - back or not label.startswith(OLD):
                raise LawError(
                    f"{step.expansion} moves {step.axis}: what a convolution reads {back - 1} tokens back"
                    " would be another token, so new ones must come before the old"
                )
