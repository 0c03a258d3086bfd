"""Law 1 for a clamp: what the model clamps before its use, old entries may not give scaled.

clamp(c x) = c clamp(x) for all x only where c = 1. So what gives x (a weight, its bias, the gain and shift of
a norm behind it) keeps its old entries as they are, but for what reads a norm without a gain: its scale is
undone before the clamp (norms.py).
"""

from __future__ import annotations

from collections.abc import Collection

from isogrow.errors import LawError
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import OLD, Old, Plan, Step


def check_clamps(anatomy: Anatomy, plan: Plan, plain: Collection[str] = ()) -> None:
    """Raise `LawError` where a step scales what is clamped. `plain`: what reads the residual
    without a gain before it."""
    config, slots = anatomy.config, anatomy.slots.items()
    stems = {name for name, slot in slots if anatomy.layout.clamps(slot, config)}
    clamped = {name for name, slot in slots if stems & {name, slot.stem}}
    for step in plan.steps:
        for slot in sorted(clamped & step.rewrites.keys()):
            if not (slot in plain and step.axis in anatomy.slots[slot].consumed):
                _check_kept(step, slot)


def _check_kept(step: Step, slot: str) -> None:
    for label, entry in step.rewrites[slot].items():
        if label.startswith(OLD) and entry != Old():
            raise LawError(
                f"{step.expansion} makes old entries of {slot} {entry}, but the model clamps what it gives:"
                " no scale passes a clamp"
            )
