"""The tables and the plot, from rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.training.ceiling import Fit, fitted, points, seen
from benchmarks.training.headroom import carry, ceiling_of, section
from benchmarks.training.models import step_flops
from benchmarks.training.notes import NOTES
from benchmarks.training.rows import Row, Rows
from benchmarks.training.runs import MARKS
from benchmarks.training.saved import Reached, interval, reached, told
from benchmarks.training.scale import scale
from benchmarks.training.stages import Course, final_loss

MIDDLE = "middle alone"  # in every table that says what growing comes to
AFTER = ("0", *map(str, MARKS))


def finals(rows: Rows) -> dict[str, dict[int, Row]]:
    """Final rows by contestant and seed; best first."""
    found: dict[str, dict[int, Row]] = {}
    for row in rows.values():
        if row["stage"] == "final":
            found.setdefault(row["name"], {})[row["seed"]] = row
    return dict(sorted(found.items(), key=lambda item: statistics.mean(map(final_loss, item[1].values()))))


def where(rows: Rows) -> dict[str, dict[int, Reached]]:
    """Where each contestant reaches scratch's final loss on the same seed."""
    found = finals(rows)
    scratch = found.get("scratch", {})
    return {
        name: {
            seed: reached(row["losses"], row["seconds"], final_loss(scratch[seed]))
            for seed, row in sorted(own.items())
            if seed in scratch
        }
        for name, own in found.items()
    }


def table(rows: Rows, fit: Fit | None = None, steps: int = 0) -> str:
    """The final table: what each contestant saved; with a law, of what it could have saved."""
    found = finals(rows)
    scratch = found.get("scratch", {})
    lines = [
        "| contestant | seeds | loss at equal operations | against scratch | operations saved, % | seeds that"
        f" reached it | core time saved, % |{' ceiling, % | carry |' if fit else ''}",
        "|---" * (9 if fit else 7) + "|",
    ]
    for name, places in where(rows).items():
        own = found[name]
        losses = [final_loss(row) for row in own.values()]
        against = [final_loss(own[seed]) - final_loss(scratch[seed]) for seed in places]
        time = [100 * (1 - place.seconds / scratch[seed]["seconds"]["1.0"]) for seed, place in places.items()]
        hit = sum(place.found or _before(place) for place in places.values())
        cells = (
            ["", "", "", ""]
            if name == "scratch"
            else [
                told(interval(against), "+.4f"),
                _saved(list(places.values())),
                f"{hit} of {len(places)}",
                told(interval(time), "+.1f") if hit == len(places) else "",
            ]
        )
        cells += _of(fit, own, steps, list(places.values())) if fit else []
        lines.append(f"| {name} | {len(own)} | {statistics.mean(losses):.4f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _of(fit: Fit, own: Mapping[int, Row], steps: int, places: Sequence[Reached]) -> list[str]:
    """The ceiling at a contestant's growth, and its carry where every seed tells what was saved."""
    top = ceiling_of(fit.law, own, steps)
    if top is None:
        return ["", ""]
    found = interval([100 * (1 - place.share) for place in places])
    return [f"{top:.0f}", carry(found, top) if all(place.found for place in places) else ""]


def _saved(places: Sequence[Reached]) -> str:
    """With its interval where every seed tells; a bound where the loss was there at the shortest budget.

    Nothing where a seed did not reach it, since a mean of the others would flatter.
    """
    if not all(place.found or _before(place) for place in places):
        return ""
    found = interval([100 * (1 - place.share) for place in places])
    return told(found, "+.1f") if all(place.found for place in places) else f"more than {found.mean:.1f}"


def _before(place: Reached) -> bool:
    """Whether the shortest budget that was tried has the loss already."""
    return not place.found and place.share < 1


def growths(rows: Rows) -> str:
    """How the held-out loss goes on after the last growth, less that before it."""
    lines = [
        f"| contestant | {' | '.join(f'after {m}' for m in AFTER)} | largest after 0, relative |",
        "|---" * (len(AFTER) + 2) + "|",
    ]
    for name, own in finals(rows).items():
        last = [row["growths"][-1] for row in own.values() if row["growths"]]
        if not last:
            lines += [f"| {name} |{' – |' * (len(AFTER) + 1)}"] if name == MIDDLE else []
            continue
        cells = [
            told(interval([g["marks"][m] - g["before"] for g in last if m in g["marks"]]), "+.4f")
            for m in AFTER
        ]
        at_once = max(abs(g["marks"]["0"] / g["before"] - 1) for row in own.values() for g in row["growths"])
        lines.append(f"| {name} | {' | '.join(cells)} | {at_once:.1e} |")
    return "\n".join(lines)


def tuned(rows: Rows) -> str:
    """What scratch was tuned over."""
    lines = ["| rate | std | decay | steps | seed | loss |", "|---|---|---|---|---|---|"]
    chosen = sorted(
        (row for row in rows.values() if row["stage"] == "tune"),
        key=lambda row: (row["budget"], *row["tuned"].values(), row["seed"]),
    )
    for row in chosen:
        said = (*row["tuned"].values(), row["budget"], row["seed"])
        lines.append(f"| {' | '.join(map(str, said))} | {final_loss(row):.4f} |")
    return "\n".join(lines)


def screened(rows: Rows, fit: Fit | None = None) -> str:
    """Losses of screening, rung by rung; who got furthest first. The middle model alone, by the law."""
    found: dict[str, dict[tuple[int, int], float]] = {}
    for row in rows.values():
        if row["stage"] == "screen":
            found.setdefault(row["name"], {})[row["budget"], row["seed"]] = final_loss(row)
    rungs = sorted({rung for own in found.values() for rung in own})
    heads = " | ".join(f"{steps} steps, seed {seed}" for steps, seed in rungs)
    lines = [f"| contestant | {heads} | mean of the last |", "|---" * (len(rungs) + 2) + "|"]

    def last(name: str) -> tuple[int, int, float]:
        furthest = max(steps for steps, _ in found[name])
        losses = [loss for (steps, _), loss in found[name].items() if steps == furthest]
        return -furthest, -len(losses), statistics.mean(losses)

    for name in sorted(found, key=last):
        own = [f"{found[name][rung]:.4f}" if rung in found[name] else "" for rung in rungs]
        lines.append(f"| {name} | {' | '.join(own)} | {last(name)[-1]:.4f} |")
    if fit:
        middle = seen("middle")
        own = [
            fit.law.loss(middle.parameters, steps * step_flops("large") / middle.cost) for steps, _ in rungs
        ]
        lines.append(f"| {MIDDLE}, by the law | {' | '.join(f'{x:.4f}' for x in own)} | {own[-1]:.4f} |")
    return "\n".join(lines)


def single(rows: Rows) -> str:
    """Every final number."""
    shares = sorted({s for row in rows.values() if row["stage"] == "final" for s in row["losses"]}, key=float)
    lines = [
        f"| contestant | seed | {' | '.join(shares)} | core seconds |",
        "|---" * (len(shares) + 3) + "|",
    ]
    for name, own in finals(rows).items():
        for seed, row in sorted(own.items()):
            cells = " | ".join(f"{row['losses'][s]:.4f}" if s in row["losses"] else "" for s in shares)
            lines.append(f"| {name} | {seed} | {cells} | {row['seconds']['1.0']:.0f} |")
    return "\n".join(lines)


def law_of(rows: Rows, longer: Rows) -> Fit | None:
    """The law of the runs that never grew, of both courses."""
    finished = [row for row in rows.values() if row["stage"] == "final"]
    if not finished:
        return None
    return fitted([*points([*rows.values(), *longer.values()], finished[0]["tuned"]["decay"])])


def write_page(
    course: Course, rows: Rows, longer: Rows, folder: Path, others: Mapping[str, str] | None = None
) -> None:
    """results.md and results.svg in `folder`; `longer` are rows of the longer course, `others` tables
    of others by the title of their section."""
    fit = law_of(rows, longer)
    sections = {
        "Scratch, tuned": tuned(rows),
        "Screening": screened(rows, fit),
        "What is saved": table(rows, fit, course.steps),
        **({"Ceiling and carry": section(fit, course.steps, finals(rows))} if fit else {}),
        "After the growth": growths(rows),
        "Every run": single(rows),
    }
    if longer:
        sections["Three times the budget"] = single(longer)
    sections |= others or {}
    parts = [_head(course, rows)]
    parts += [f"## {title}\n\n{NOTES[title]}\n\n{made}" for title, made in sections.items()]
    parts.insert(4, "![operations saved, by contestant and seed](results.svg)")
    (folder / "results.md").write_text("\n\n".join(parts) + "\n")
    draw(where(rows), folder / "results.svg")


def _head(course: Course, rows: Rows) -> str:
    some = [row for row in rows.values() if row["stage"] == "final"]
    dates = sorted(row["date"] for row in rows.values())
    versions = ", ".join(f"{k} {v}" for k, v in some[0]["versions"].items()) if some else ""
    best = some[0]["tuned"] if some else {}
    sizes = (
        f"{name}: {', '.join(f'{k} {v}' for k, v in size.items())}" for name, size in scale().sizes.items()
    )
    return (
        "# What growing saves: the figures\n\nMade by `python -m benchmarks.training page` from"
        " rows-full.jsonl, and the last sections from the other rows; README.md says what they mean. Runs of"
        f" rows-full.jsonl from {dates[0]} to {dates[-1]}; {versions}."
        f" Budget: {course.steps} steps of the large model on {scale().rows} x {scale().length} bytes,"
        f" {step_flops('large') / 1e9:.2f} G operations each; scratch's rate {best.get('rate')}, std"
        f" {best.get('std')}, decay over {best.get('decay')} of a budget.\n\nSizes: {'; '.join(sizes)}."
    )


def draw(places: Mapping[str, Mapping[int, Reached]], path: Path) -> None:
    """Operations saved by contestant: a dot for each seed that tells, a bar for the interval where all do."""
    import matplotlib
    from matplotlib.figure import Figure

    names = [name for name in places if name != "scratch" and any(p.found for p in places[name].values())]
    figure = Figure(figsize=(8, 0.4 * len(names) + 1.2), layout="constrained")
    axes: Any = figure.add_subplot()
    for row, name in enumerate(reversed(names)):
        values = [100 * (1 - place.share) for place in places[name].values() if place.found]
        axes.plot(values, [row] * len(values), "o", color="0.6", markersize=4)
        if 1 < len(values) == len(places[name]):
            found = interval(values)
            axes.errorbar(found.mean, row, xerr=found.half, fmt="D", color="C0", capsize=4, markersize=5)
    axes.axvline(0, color="0.3", linewidth=1)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_xlabel("operations saved to scratch's final loss, % (dots: seeds; bar: 95 % interval)")
    with matplotlib.rc_context({"svg.hashsalt": "isogrow"}):  # the same rows make the same file
        figure.savefig(path, metadata={"Date": None})
