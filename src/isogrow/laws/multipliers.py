"""Numbers that the model multiplies a weight's input or output by, which depend on the size of an axis."""

from __future__ import annotations

from isogrow.layouts.formula import evaluate
from isogrow.layouts.layout import Slot
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import Step


def multiplied(anatomy: Anatomy, step: Step, slot: Slot) -> float:
    """What a step makes of the number that the model multiplies a weight's input or output by."""
    if not slot.times:
        return 1.0
    view = anatomy.layout.facts(anatomy.config, anatomy.sizes.values)
    before, after = (float(evaluate(slot.times, view.over({step.axis: n}))) for n in (step.old, step.new))
    return after / before
