"""Plans that break a law: what a test of a test changes in a plan that is exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from isogrow.plans.plan import Constant, Entry, Free, Init, Old, Plan, Step

Change = Callable[[Step, str, Entry], Entry]


def changed(plan: Plan, slots: tuple[str, ...], change: Change) -> Plan:
    """The plan with other entries in some slots; at least one of them must change."""

    def step(old: Step) -> Step:
        rewrites = {
            slot: {label: change(old, label, entry) for label, entry in rewrite.items()}
            if slot in slots
            else rewrite
            for slot, rewrite in old.rewrites.items()
        }
        return dataclasses.replace(old, rewrites=rewrites)

    made = dataclasses.replace(plan, steps=tuple(map(step, plan.steps)))
    assert made != plan
    return made


def unscaled(step: Step, label: str, entry: Entry) -> Entry:
    return Old() if isinstance(entry, Old) and label.startswith("old") else entry


def switched_on(step: Step, label: str, entry: Entry) -> Entry:
    return Free(Init("normal", 0.1)) if entry == Constant(0.0) else entry


def zeroed(step: Step, label: str, entry: Entry) -> Entry:
    return entry if label.startswith("old") else Constant(0.0)
