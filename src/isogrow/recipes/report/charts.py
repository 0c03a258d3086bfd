"""A run's curves as SVG, drawn by matplotlib, with its growths as lines across them."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isogrow.recipes.report.log import LoggedRun

OLD, NEW, GROWTH, INK, FAINT = "#2f6fb0", "#d9822b", "#9a9a9a", "#222222", "#e6e6e6"
SIZE = (7.2, 3.1)  # inches


@dataclass(frozen=True)
class Chart:
    """Curves over one axis: (key of the records, label, colour) each."""

    title: str
    x: str
    about: str
    curves: tuple[tuple[str, str, str], ...]
    log: bool = False


LOSS = (("loss", "training", OLD), ("eval_loss", "held out", NEW))
CHARTS = (
    Chart("Loss by steps", "step", "optimizer steps", LOSS),
    Chart("Loss by tokens", "num_input_tokens_seen", "tokens", LOSS),
    Chart("Loss by operations", "flops", "floating-point operations", LOSS),
    Chart("Learning rate", "step", "optimizer steps", (("learning_rate", "rate", OLD),)),
    Chart(
        "Gradient norm of old and new blocks",
        "step",
        "optimizer steps",
        (("grad_norm_old", "old", OLD), ("grad_norm_new", "new", NEW)),
        True,
    ),
    Chart(
        "Weight norm of old and new blocks",
        "step",
        "optimizer steps",
        (("weight_norm_old", "old", OLD), ("weight_norm_new", "new", NEW)),
    ),
)


def drawn(run: LoggedRun) -> Iterator[tuple[Chart, str]]:
    """Every chart that the run has records for, as an SVG element."""
    for chart in CHARTS:
        if any(run.series(key, chart.x)[0] for key, _, _ in chart.curves):
            yield chart, _svg(run, chart)


def _svg(run: LoggedRun, chart: Chart) -> str:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for key, label, colour in chart.curves:
        x, y = run.series(key, chart.x)
        if x:
            axes.plot(x, y, color=colour, linewidth=1.4, label=label)
        _releases(axes, run, chart, key, colour)
    _growths(axes, run.grown_at(chart.x))
    if chart.log and any(value > 0 for key, _, _ in chart.curves for value in run.series(key, chart.x)[1]):
        axes.set_yscale("log")
    axes.set_xlabel(chart.about)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8)
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), chart.title)


def _releases(axes: Axes, run: LoggedRun, chart: Chart, key: str, colour: str) -> None:
    """The decays of released models, dotted, from where they left the run."""
    for branch in run.releases:
        own = [record for record in branch.records if record.get("step", 0) > branch.last_step - branch.decay]
        x, y = dataclasses.replace(branch, records=tuple(own)).series(key, chart.x)
        if x:
            axes.plot(x, y, color=colour, linewidth=1.2, linestyle=":", marker=".", markersize=3)


def _growths(axes: Axes, places: Sequence[float]) -> None:
    for i, place in enumerate(places):
        axes.axvline(place, color=GROWTH, linewidth=1.0, linestyle="--", label=None if i else "growth")


def _inline(svg: str, title: str) -> str:
    """The element alone, scaled by the page, its ids its own, named for who can't see it."""
    element = svg[svg.index("<svg") :]
    slug = re.sub(r"\W+", "-", title.lower())
    element = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{slug}-", element)
    element = re.sub(r'<svg ([^>]*?)width="[^"]*" ', r"<svg \1", element, count=1)
    element = re.sub(r'<svg ([^>]*?)height="[^"]*" ', r"<svg \1", element, count=1)
    return element.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
