"""The page's section on ceilings: what could be saved, and what contestants carried of it."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.training.ceiling import Fit, at_growth, between, by_law, highest
from benchmarks.training.models import step_flops
from benchmarks.training.rows import Row
from benchmarks.training.saved import Interval, interval, told
from benchmarks.training.stages import final_loss
from isogrow.recipes.scaling import Law

Finals = Mapping[str, Mapping[int, Row]]
BUDGETS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
FROM = ("middle", "small")
NAMES = {"e": "E", "a": "A", "alpha": "alpha", "b": "B", "beta": "beta"}


def constants(fit: Fit) -> str:
    """The law's numbers, with their intervals."""
    lines = ["| | value | 95 % |", "|---|---|---|"]
    for name, word in NAMES.items():
        low, high = between([getattr(law, name) for law in fit.drawn])
        lines.append(f"| {word} | {getattr(fit.law, name):.3g} | {low:.3g} to {high:.3g} |")
    return "\n".join(lines)


def ceilings(fit: Fit, steps: int) -> str:
    """The most that growing to large could save, by budget and by the size that it starts from."""
    heads = " | ".join(f"from {size}, % | 95 % | at bytes per parameter" for size in FROM)
    lines = [f"| budget | {heads} |", "|---" * (3 * len(FROM) + 1) + "|"]
    for times in BUDGETS:
        budget, cells = times * steps * step_flops("large"), list[str]()
        for size in FROM:
            share, moment = highest(fit.law, size, "large", budget)
            low, high = between([highest(law, size, "large", budget)[0] for law in fit.drawn])
            cells += [f"{100 * share:.0f}", f"{100 * low:.0f} to {100 * high:.0f}", f"{moment:.1f}"]
        lines.append(f"| {times:g} x | {' | '.join(cells)} |")
    return "\n".join(lines)


def carries(fit: Fit, steps: int, finals: Finals) -> str:
    """Each contestant's ceiling at the moment of its growth, its offset by the law, and its carry."""
    budget, scratch = steps * step_flops("large"), finals["scratch"]
    lines = ["| contestant | ceiling at its growth, % | 95 % | offset, % | carry |", "|---|---|---|---|---|"]
    for name, own in finals.items():
        if name == "scratch":
            continue
        off = [
            100 * by_law(fit.law, final_loss(row) - final_loss(scratch[seed]), budget)
            for seed, row in own.items()
            if seed in scratch
        ]
        found, top = interval(off), ceiling_of(fit.law, own, steps)
        said = told(found, "+.1f")
        if top is None:
            lines.append(f"| {name} | never grown |  | {said} |  |")
            continue
        low, high = between([ceiling_of(law, own, steps) or 0.0 for law in fit.drawn])
        cells = f"{top:.0f} | {low:.0f} to {high:.0f} | {said} | {carry(found, top)}"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def ceiling_of(law: Law, own: Mapping[int, Row], steps: int) -> float | None:
    """The ceiling of a contestant at the moment of its last growth, in percent."""
    share = at_growth(law, next(iter(own.values()))["contestant"], steps * step_flops("large"))
    return None if share is None else 100 * share


def carry(found: Interval, top: float) -> str:
    """What was had of what could be."""
    return told(Interval(found.mean / top, found.half / top), "+.2f")


def section(fit: Fit, steps: int, finals: Finals) -> str:
    """All of it."""
    parts = [
        f"{fit.points} losses, rms {fit.rms:.4f}.",
        constants(fit),
        "At most, for one growth to large at the best moment that the budget holds:",
        ceilings(fit, steps),
        "Of the contestants:",
        carries(fit, steps, finals),
    ]
    return "\n\n".join(parts)
