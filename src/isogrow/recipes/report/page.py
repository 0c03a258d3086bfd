"""The page: curves, stages and growths of a run in one HTML file without outside requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from isogrow.paths import expanded
from isogrow.recipes.report.charts import drawn
from isogrow.recipes.report.log import LoggedRun, Record, opened
from isogrow.stores.texts import write_text

STYLE = """
:root { color-scheme: light; --ink: #222; --faint: #666; --line: #ddd; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p { color: var(--faint); }
figure { margin: 0; } svg { width: 100%; height: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .7rem; }
th, td { text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
"""


MARK = '<meta name="generator" content="isogrow report">'


def report(folder: str | Path, out: str | Path | None = None, overwrite: bool = False) -> Path:
    """Write the page of the run in `folder` (by default into it) and return its path.

    An older page is replaced, and another file only with `overwrite`. Raises `RecipeError` where there is no
    run, or none with a record yet, and `OutputError` for a place that can't be written.
    """
    path = expanded(folder) / "report.html" if out is None else expanded(out)
    write_text(page(opened(folder)), path, overwrite or _is_page(path))
    return path


def _is_page(path: Path) -> bool:
    """Whether a file is a page of a run, by the mark that it has near its start."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.read(1 << 10)


def page(run: LoggedRun) -> str:
    """A run's page as HTML."""
    title = f"{run.name}: {'a finished run' if run.finished else 'a run under way'}"
    parts = [f"<h1>{escape(title)}</h1>", _summary(run), *_stages(run), *_growths(run), *_releases(run)]
    for chart, svg in drawn(run):
        parts.append(f"<h2>{escape(chart.title)}</h2><figure>{svg}</figure>")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'{MARK}<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _summary(run: LoggedRun) -> str:
    steps, losses = run.series("loss")
    _, held_out = run.series("eval_loss")
    words = [f"{int(steps[-1]):,} steps"] if steps else ["no step yet"]
    words += [f"training loss {losses[-1]:.4f}"] if losses else []
    words += [f"held-out loss {held_out[-1]:.4f}"] if held_out else []
    return f"<p>{escape(', '.join(words))}</p>"


def _stages(run: LoggedRun) -> Iterable[str]:
    if not run.stages:
        return
    sizes = [stage.get("sizes", {}) for stage in run.stages]
    axes = list(dict.fromkeys(axis for each in sizes for axis in each))
    rows = [
        [
            _cell(stage, "number"),
            *(str(each.get(axis, "")) for axis in axes),
            *(_cell(stage, key) for key in ("parameters", "steps", "tokens")),
            _cell(stage, "flops", ".3g"),
        ]
        for stage, each in zip(run.stages, sizes, strict=True)
    ]
    yield "<h2>Stages</h2>"
    yield _table(["stage", *axes, "parameters", "steps at most", "tokens", "operations"], rows)


def _growths(run: LoggedRun) -> Iterable[str]:
    if not run.growths:
        return
    rows = [
        [
            *(
                _cell(record, key)
                for key in ("growth", "step", "growth_parameters_before", "growth_parameters")
            ),
            _cell(record, "growth_difference", ".1e"),
        ]
        for record in run.growths
    ]
    yield "<h2>Growths</h2>"
    yield "<p>The difference is that of the model's own outputs just before and after, in its own dtype.</p>"
    yield _table(["growth", "after step", "parameters before", "after", "largest relative difference"], rows)


def _releases(run: LoggedRun) -> Iterable[str]:
    if not run.releases:
        return
    yield "<h2>Released models</h2>"
    yield (
        "<p>Each is the model of a stage's end. One that was decayed left the run there, which went on from"
        " before the decay; tokens and operations are those of the decay, beside the run's own.</p>"
    )
    head = ("model", "after step", "steps of decay", "tokens", "operations", "training loss", "held-out loss")
    yield _table(head, [_released(branch) for branch in run.releases])


def _released(branch: LoggedRun) -> list[str]:
    stage, decay = branch.stages[-1] if branch.stages else {}, branch.decay
    share = decay / stage["steps"] if stage.get("steps") else None
    costs = {key: share * stage[key] for key in ("tokens", "flops") if share is not None and key in stage}
    losses = {key: values[-1] for key in ("loss", "eval_loss") if (values := branch.series(key)[1])}
    return [
        branch.name.replace("-", " "),
        f"{branch.last_step - decay:,}",
        f"{decay:,}",
        _cell(costs, "tokens", ",.0f"),
        _cell(costs, "flops", ".3g"),
        _cell(losses, "loss", ".4f"),
        _cell(losses, "eval_loss", ".4f"),
    ]


def _cell(record: Record, key: str, form: str = ",") -> str:
    """A number of a record, in which it may be missing."""
    value = record.get(key)
    return "–" if value is None else format(value, form)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(word)}</th>" for word in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{cells}</tr>{body}</table></div>'
