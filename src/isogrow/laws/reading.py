"""Law 1 where a stack is read between its layers (a tower's features, from before its end; a backbone's
stages): behind the old layers that it was read behind, and no others. What nothing reads can't learn."""

from __future__ import annotations

from collections.abc import Callable

from isogrow.errors import LawError
from isogrow.layouts.config import edited
from isogrow.layouts.layout import Index
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import OLD, Plan


def check_reading(anatomy: Anatomy, plan: Plan) -> None:
    """Raise `LawError` where the grown model is read behind other old layers than the small one, or a new
    layer is behind all that is read."""
    layout, config = anatomy.layout, anatomy.config
    for step in plan.steps:
        after = edited(config, step.config)
        views = [layout.defaults(each) for each in (config, after)]
        old = [label.startswith(OLD) for _, label in map(step.source, range(step.new))]
        for read in (read for read in layout.readouts if read.axis == step.axis):
            if not all(read.key in view for view in views):
                continue
            before = tuple(min(n, step.old) for n in read.past(views[0][read.key], step.old))
            now = read.past(views[1][read.key], step.new)
            behind = tuple(sum(old[:n]) for n in now)
            if before != behind or (read.only and not all(old[max(now) :])):
                raise LawError(
                    f"{step.expansion} leaves {read.key} {views[1][read.key]}, which reads the model behind"
                    f" {', '.join(map(str, behind))} of its old layers, and before behind"
                    f" {', '.join(map(str, before))}: every new layer must come before what is read last"
                )
        config = after


def unread(anatomy: Anatomy, plan: Plan) -> Callable[[Index], bool]:
    """Whether nothing reads what a block of the grown model gives: its layer is behind all that is read."""
    last = anatomy.layout.reads(edited(anatomy.config, plan.config), plan.target.values)

    def beyond(index: Index) -> bool:
        return any(i >= last.get(axis, i + 1) for axis, i in index)

    return beyond
