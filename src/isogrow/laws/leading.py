"""Law 1 where something beside the model is added behind its first layers (images' features of several
depths), or a layer reads what the one before it chose: those layers stay the first, and whole, so that each
is followed by what followed it."""

from __future__ import annotations

from isogrow.errors import LawError
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import OLD, Plan


def check_leading(anatomy: Anatomy, plan: Plan) -> None:
    """Raise `LawError` where a step moves one of the layers that must stay the first."""
    for step, sizes in zip(plan.steps, plan.stages, strict=False):
        if step.axis != "layers":
            continue
        for layer in range(anatomy.layout.leads(anatomy.config, sizes.values)):
            source, label = step.source(layer)
            if source != layer or not label.startswith(OLD):
                raise LawError(
                    f"{step.expansion} puts a new layer before layer {layer}, which must stay where it is:"
                    f" {anatomy.layout.led}"
                )
