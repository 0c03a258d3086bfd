"""results.md and results.svg from the rows."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Pick = Callable[[Row], bool]

FIELDS = ("seconds", "busy", "memory")
INITS = ("normal", "copy")


def where(gigabytes: float) -> Row:
    """When and on what a row was measured."""
    return {
        "load": round(os.getloadavg()[0], 1),
        "day": time.strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.release(),
        "gigabytes": gigabytes,
    }


def is_(what: str, **values: str) -> Pick:
    return lambda row: row["what"] == what and all(row.get(name) == value for name, value in values.items())


CONTESTANTS: tuple[tuple[str, Pick, str], ...] = (
    ("`cp -r --reflink=never` and `sync`", is_("cp", output="wide"), "wide"),
    ("numpy `tofile` of as many bytes, and fsync", is_("tofile"), "wide"),
    ("`save_pretrained` of the grown model in memory", is_("save_pretrained"), "wide"),
    ("`grow_checkpoint`, copied", is_("alone", init="copy", build="now"), "wide"),
    ("the build before, copied", is_("alone", init="copy", build="before"), "wide"),
    ("`grow_checkpoint`, random fill", is_("alone", init="normal", build="now"), "wide"),
    ("the build before, random fill", is_("alone", init="normal", build="before"), "wide"),
    ("a process that loads the model's class, and nothing else", is_("class"), "wide"),
    ("whole command, copied", is_("whole", init="copy", build="now"), "wide"),
    ("the build before, whole command, copied", is_("whole", init="copy", build="before"), "wide"),
    ("whole command, random fill", is_("whole", init="normal", build="now"), "wide"),
    ("the build before, whole command, random fill", is_("whole", init="normal", build="before"), "wide"),
    ("`cp` and `sync`, nothing of the source in the cache", is_("cp", output="cold"), "cold"),
    ("`grow_checkpoint`, copied, from a cold cache", is_("cold", init="copy"), "cold"),
    ("`grow_checkpoint`, random fill, from a cold cache", is_("cold", init="normal"), "cold"),
    ("`verify --bytes` of the output, without start", is_("bytes"), "wide"),
    ("`cp` and `sync` of the deeper output", is_("cp", output="deep"), "deep"),
    ("`grow_checkpoint` in layers alone", is_("depth", build="now"), "deep"),
    ("the build before, in layers alone", is_("depth", build="before"), "deep"),
    ("whole command in layers alone", is_("whole depth", build="now"), "deep"),
    ("the build before, whole command in layers alone", is_("whole depth", build="before"), "deep"),
    ("mergekit 0.1.5's start, which merges nothing", is_("mergekit start"), "deep"),
    ("mergekit 0.1.5's passthrough to the same layers, with start and imports", is_("mergekit"), "deep"),
)


def by_round(rows: Iterable[Row], pick: Pick, field: str) -> dict[int, float]:
    """A field of the rows that are picked, by their round: the mean where a round has several."""
    found: dict[int, list[float]] = {}
    for row in filter(pick, rows):
        found.setdefault(row["round"], []).append(row[field])
    return {number: statistics.mean(values) for number, values in found.items()}


def ratios(rows: list[Row], pick: Pick, output: str, field: str = "seconds") -> list[float]:
    """To the copy of the same round."""
    own, copies = by_round(rows, pick, field), by_round(rows, is_("cp", output=output), field)
    return [own[number] / copies[number] for number in own if number in copies]


def told(many: Iterable[float]) -> str:
    """A median, and the least and the most."""
    found = sorted(many)
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def shares(one: dict[int, float], other: dict[int, float]) -> list[float]:
    """One in units of another, by rounds."""
    return [one[number] / other[number] for number in one if other.get(number)]


def less(one: dict[int, float], other: dict[int, float]) -> dict[int, float]:
    return {number: one[number] - other[number] for number in one if number in other}


def sayings(rows: list[Row]) -> Iterator[str]:
    """What is measured against another thing than a copy."""
    own = {field: by_round(rows, is_("whole depth", build="now"), field) for field in FIELDS}
    theirs = {field: by_round(rows, is_("mergekit"), field) for field in FIELDS}
    start = {field: by_round(rows, is_("mergekit start"), field) for field in FIELDS}
    if own["seconds"] and theirs["seconds"]:
        yield (
            "- In layers alone mergekit's command takes"
            f" {told(shares(theirs['seconds'], own['seconds']))} times the seconds of isogrow's,"
            f" {told(shares(theirs['busy'], own['busy']))} times its processor seconds, and"
            f" {told(shares(theirs['memory'], own['memory']))} times its memory."
        )
        copy, load = (by_round(rows, pick, "seconds") for pick in (is_("cp", output="deep"), is_("class")))
        third, copy, load = (statistics.median(each.values()) for each in (theirs["seconds"], copy, load))
        yield (
            f"- A third of mergekit's seconds is {third / 3:.2f}. `cp` and `sync` of what is written take"
            f" {copy:.2f} of their own, and loading the model's class, which ends before the output gets its"
            f" name, {load:.2f}: {third / max(copy, load):.2f} times is all that can be had."
        )
    alone = {field: by_round(rows, is_("depth", build="now"), field) for field in FIELDS}
    if start["seconds"] and alone["seconds"]:
        merging = {field: less(theirs[field], start[field]) for field in FIELDS}
        memory = [statistics.median(each["memory"].values()) for each in (merging, alone)]
        yield (
            "- Without both starts it takes"
            f" {told(shares(merging['seconds'], alone['seconds']))} times the seconds,"
            f" {told(shares(merging['busy'], alone['busy']))} times the processor seconds, and"
            f" {memory[0]:.0f} MB to {memory[1]:.0f}."
        )
    drawn = {build: by_round(rows, is_("draw", build=build), "busy") for build in ("now", "before")}
    if drawn["before"]:
        now, before = (1e9 * statistics.median(drawn[build].values()) for build in ("now", "before"))
        yield (
            f"- To draw a bfloat16 entry, in memory, takes {now:.1f} ns of the processor, and in the build"
            f" before {before:.1f}: {told(shares(drawn['now'], drawn['before']))} of it."
        )
    busy = {
        build: [by_round(rows, is_("alone", init=init, build=build), "busy") for init in INITS]
        for build in ("now", "before")
    }
    if all(busy["before"]):
        now, before = (
            drawn - copied
            for drawn, copied in (map(statistics.median, (a.values(), b.values())) for a, b in busy.values())
        )
        rounds = sorted(shares(less(*busy["now"]), less(*busy["before"])))
        yield (
            "- Random fill with its writing, which is what it takes over copied new entries, takes"
            f" {now:.2f} processor seconds, and that of the build before {before:.2f}: {now / before:.2f} of"
            f" it (of medians; in single rounds {rounds[0]:.2f} to {rounds[-1]:.2f})."
        )


def table(rows: list[Row]) -> list[str]:
    lines = [
        "| | seconds | of `cp`'s in its round | (least to most) | processor s | MB over the start |",
        "|---|---|---|---|---|---|",
    ]
    for name, pick, output in CONTESTANTS:
        if not any(map(pick, rows)):
            continue
        seconds, busy, memory = (
            statistics.median(by_round(rows, pick, field).values()) for field in ("seconds", "busy", "memory")
        )
        of = ratios(rows, pick, output)
        spread = f"{min(of):.2f} to {max(of):.2f}"
        lines.append(
            f"| {name} | {seconds:.2f} | {statistics.median(of):.2f} | {spread} | {busy:.2f} | {memory:.0f} |"
        )
    return lines


def runs(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each run, the last one first: machines differ, so no median is over two of them."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["day"], row["system"], row.get("run", "")), []).append(row)
    return list(found.values())[::-1]


def section(rows: list[Row]) -> list[str]:
    """One run: where it was, and its table."""
    last, count = rows[-1], len({row["round"] for row in rows})
    loads = [row["load"] for row in rows]
    said = list(sayings(rows))
    return [
        "## " + ", ".join(last[key] for key in ("day", "run") if key in last),
        "",
        f"{last['cores']} cores, Linux {last['system']}; a random bfloat16 Llama of"
        f" {last['gigabytes']:g} GB (hidden 2048, ffn 5632) grown by hidden +256, ffn +512, layers +2."
        f" Medians of {count} rounds. The load was {min(loads):.1f} to {max(loads):.1f}: above the number"
        " of cores other work ran beside, and only what stands in one round can be compared.",
        "",
        *table(rows),
        "",
        *said,
        *([""] if said else []),
    ]


def write(rows: Path, folder: Path) -> None:
    """The page, and a plot of the last run."""
    found = runs(json.loads(line) for line in rows.read_text().splitlines())
    parts = [
        "# Growing a checkpoint on disk",
        "",
        "Made by `python -m benchmarks.checkpoint` (its docstring says what is measured, and how). Each run"
        " is of a build of its day, on a machine of its own: how costly `cp` is differs between them.",
        "",
        "![seconds by contestant, the last run](results.svg)",
        "",
        *(line for run in found for line in section(run)),
        "- A whole command's seconds include the start of Python and its imports, which no size changes; its"
        " memory is all that it has, not what it has over its start, and in runs that have a whole command in"
        " layers alone that of the process which loads the class, too.",
        "- `save_pretrained` starts with the grown model in memory.",
        "",
    ]
    (folder / "results.md").write_text("\n".join(parts))
    draw(found[0], folder / "results.svg")


def draw(rows: list[Row], path: Path) -> None:
    """Ratios to the copy, a dot for each round."""
    import matplotlib
    from matplotlib.figure import Figure

    shown = [(name.replace("`", ""), ratios(rows, pick, output)) for name, pick, output in CONTESTANTS]
    shown = [(name, of) for name, of in shown if of][::-1]
    with matplotlib.rc_context({"svg.hashsalt": "isogrow"}):  # the same rows make the same file
        figure = Figure(figsize=(8, 0.36 * len(shown) + 1), layout="constrained")
        axes = figure.subplots()
        for at, (_, of) in enumerate(shown):
            axes.plot(of, [at] * len(of), "o", color="tab:blue", alpha=0.45, markersize=5)
            axes.plot([statistics.median(of)], [at], "|", color="black", markersize=14)
        axes.set_yticks(range(len(shown)), [name for name, _ in shown], fontsize=8)
        axes.set_xlabel("seconds in units of cp's and sync's in the same round (bar: median)")
        axes.axvline(1.0, color="grey", linewidth=0.8)
        axes.set_xlim(left=0)
        figure.savefig(path, metadata={"Date": None})
