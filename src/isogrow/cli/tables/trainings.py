"""What `train` and `report` tell, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType

from isogrow.cli.tables.blocks import page, pairs, table, title

Data = Mapping[str, Any]
WHERE = "in isogrow's benchmark, of models of 55k to 442k parameters and one kind of text"


def outlook(data: Data) -> RenderableType:
    """What `train --dry-run` tells."""
    numbers = ("parameters", "steps", "tokens", "operations", "time")
    stages = table("stage", "sizes", *numbers, ratios=(0, 1), right=numbers)
    before: Mapping[str, int] = {}
    for row in data["stages"]:
        changed = [f"{axis} {n:,}" for axis, n in row["sizes"].items() if before.get(axis) != n]
        before = row["sizes"]
        counts = (f"{row[key]:,}" for key in ("parameters", "steps", "tokens"))
        cost = (f"{row['flops']:.2e}", _time(row["seconds"]))
        stages.add_row(str(row["number"]), ", ".join(changed), *counts, *cost)
        if row["release"] is not None:
            of = "released: its decay" if row["release"]["steps"] else "released as it ends"
            stages.add_row("", of, *_release(row["release"]))
    facts = [
        ("run", data["run"]),
        ("time", f"about {_time(data['seconds'])} on this machine ({data['device']})"),
    ]
    facts += [("not counted", what) for what in data["not_counted"]]
    told = (*_advice(data["advice"]), *_depth(data["advice"]), *_rate(data["advice"]))
    return page(title("the recipe can be carried out"), stages, pairs(facts), pairs(told))


def _advice(advice: Data) -> Iterable[tuple[str, str]]:
    """Whether to grow, and when, by a law of other data; where it can't say, tokens per parameter alone."""
    per = ", ".join(map(_few, advice["tokens_per_parameter"]))
    yield "tokens per parameter", f"{per} (at the end of each stage)"
    if advice["unknown"]:
        yield (
            "growing",
            "what it saves is told where the recipe says how many tokens the checkpoint has learned"
            " (model, learned)",
        )
    if advice["ceiling"] is None:
        return
    share, sunk = _few(100 * advice["ceiling"]), advice["moment"] is None
    beside = ", what the checkpoint has cost not counted" if sunk else ""
    yield "growing", f"saves at most {share} % of a scratch run's operations to the same loss{beside}"
    if not sunk:
        yield (
            "when",
            f"the last growth comes at {_few(advice['moment'])} tokens per parameter of the smaller model,"
            f" and would save most at {_few(advice['best'])}",
        )
    if advice["alone"] is not None:
        whose = f"that of stage {advice['alone']}" if advice["alone"] else "the checkpoint's own, trained on"
        yield "instead", f"the smaller model alone ({whose}) would be better at this budget"
    yield "by", advice["fit"]


def _depth(advice: Data) -> Iterable[tuple[str, str]]:
    """A growth in layers alone."""
    if advice["deeper"] is not None:
        yield (
            "depth",
            f"stage {advice['deeper']} adds layers alone, which kept less of the smaller model's lead than"
            f" width and layers together {WHERE}",
        )


def _rate(advice: Data) -> Iterable[tuple[str, str]]:
    """Another rate after a late growth."""
    if advice["steady"] is None:
        return
    if advice["steady"] == 1:
        told = (
            "stage 1 grows a model that has learned before: 0.7 times the rate that is best from scratch"
            " (rate: 0.7) kept more of its lead, and 0.4 times where it had learned long,"
        )
    else:
        told = (
            f"stage {advice['steady']} grows late and goes on at the rate from before: 0.7 times it (rate:"
            " 0.7) kept more of the smaller model's lead"
        )
    yield "rate", f"{told} {WHERE}, so it is worth a trial"


def _few(value: float) -> str:
    """Two digits that count.

    >>> _few(0.0314), _few(2.049), _few(1834.0)
    ('0.031', '2.0', '1,834')
    """
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _release(row: Data) -> tuple[str, ...]:
    return "", f"{row['steps']:,}", f"{row['tokens']:,}", f"{row['flops']:.2e}", _time(row["seconds"])


def trained(data: Data) -> RenderableType:
    """What `train` tells at its end."""
    facts = [("model", data["model"]), ("steps", f"{data['step']:,}"), ("loss", _loss(data["loss"]))]
    facts += [("held-out loss", _loss(data["held_out"]))] if data["held_out"] is not None else []
    for each in data["released"]:
        held_out = "" if each["held_out"] is None else f", held-out loss {_loss(each['held_out'])}"
        facts.append((f"stage {each['stage']}", f"{each['model']} (step {each['step']:,}{held_out})"))
    return page(title("trained"), pairs([*facts, ("took", _time(data["seconds"]))]))


def reported(data: Data) -> RenderableType:
    """What `report` tells."""
    return page(pairs([("page", data["page"])]))


def _loss(value: float | None) -> str:
    return "none logged" if value is None else f"{value:.4f}"


def _time(seconds: float) -> str:
    """
    >>> _time(42.0), _time(3700.0)
    ('42 s', '1 h 2 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
