"""A run's page: what it tells, that it needs nothing but itself, and how a browser takes it."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import isogrow

from isogrow.errors import OutputError, RecipeError
from isogrow.recipes.report import report
from isogrow.recipes.report.log import opened
from isogrow.recipes.report.page import page

PHONE = 390  # CSS pixels across
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that grew once."""
    records: list[dict[str, Any]] = []
    for step in range(10, 401, 10):
        large = step > 200
        record: dict[str, Any] = {"step": step, "loss": 5 * math.exp(-step / 200), "learning_rate": 1e-3}
        record |= {"num_input_tokens_seen": step * 512, "flops": step * 10**7 * (1 + large)}
        if large:
            record |= {"grad_norm_old": 0.4, "grad_norm_new": 0.01 * (step - 200)}
            record |= {"weight_norm_old": 9.0, "weight_norm_new": 0.1 * (step - 200)}
        records.append(record)
        if step % 100 == 0:
            records.append({"step": step, "eval_loss": record["loss"] + 0.1})
        if step == 200:
            records.append(
                {
                    "step": 200,
                    "growth": 1,
                    "growth_parameters_before": 40_000,
                    "growth_parameters": 150_000,
                    "growth_difference": 3.2e-7,
                }
            )
    stage = {"parameters": 40_000, "steps": 200, "tokens": 102_400, "flops": 7e9}
    stages = [{**stage, "number": n, "sizes": {"hidden": 32 * n, "layers": 2}} for n in (1, 2)]
    folder = tmp_path / "a <run> & more"
    folder.mkdir()
    for name, said in (("recipe", {}), ("log", records), ("stages", stages)):
        (folder / f"{name}.json").write_text(json.dumps(said))
    return folder


@pytest.mark.slow
def test_what_the_page_tells(run: Path) -> None:
    page = report(run).read_text(encoding="utf-8")
    assert "a &lt;run&gt; &amp; more: a finished run" in page
    assert "400 steps, training loss 0.6767, held-out loss 0.7767" in page
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        *("Stages", "Growths", "Loss by steps", "Loss by tokens", "Loss by operations", "Learning rate"),
        *("Gradient norm of old and new blocks", "Weight norm of old and new blocks"),
    ]
    assert "<td>1</td><td>200</td><td>40,000</td><td>150,000</td><td>3.2e-07</td>" in page


@pytest.mark.slow
def test_the_page_needs_nothing_but_itself(run: Path) -> None:
    page = report(run).read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    assert not re.search(r"url\((?!#)", page)
    assert "<script" not in page and "@import" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert ids and len(ids) == len(set(ids))
    assert {target for target in re.findall(r'href="#([^"]+)"', page)} <= set(ids)


def test_a_run_under_way_is_read_from_its_checkpoints(run: Path) -> None:
    log = json.loads((run / "log.json").read_text())
    (run / "log.json").unlink()
    with pytest.raises(RecipeError, match="has no checkpoint yet: set save_every, or wait"):
        opened(run)
    for step, kept in ((9, 5), (100, 11)):
        folder = run / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": log[:kept]}))
    (run / "checkpoint-200").mkdir()
    (run / "checkpoint-200" / "trainer_state.json").write_text('{"log_hist')
    (run / "checkpoint-300").mkdir()
    (run / "checkpoint-300" / "trainer_state.json").write_text("{}")
    (run / "checkpoint-best").mkdir()
    (run / "checkpoint-best" / "trainer_state.json").write_text('{"log_history": []}')
    found = opened(run)
    assert not found.finished and list(found.records) == log[:11]


@pytest.mark.slow
def test_growths_are_on_every_axis(run: Path) -> None:
    found = opened(run)
    assert found.grown_at() == [200.0]
    assert found.grown_at("num_input_tokens_seen") == [200.0 * 512]
    assert found.grown_at("flops") == [200.0 * 10**7]
    assert found.grown_at("never logged") == []
    charts = re.findall(r"<h2>(Loss by \w+|Learning rate)</h2><figure>(.*?)</figure>", page(found), re.DOTALL)
    assert [title for title, svg in charts if "<!-- growth -->" in svg] == [
        *("Loss by steps", "Loss by tokens", "Loss by operations", "Learning rate")
    ]


def test_a_growth_between_two_records_lies_between_them(run: Path) -> None:
    log = json.loads((run / "log.json").read_text())
    for record in log:
        if "growth" in record:
            record["step"] = 204
    (run / "log.json").write_text(json.dumps(log))
    assert opened(run).grown_at("num_input_tokens_seen") == [204.0 * 512]


def test_records_that_lack_numbers_are_told_without(run: Path) -> None:
    (run / "log.json").write_text('[{"step": 3, "growth": 1}]')
    (run / "stages.json").write_text("[{}]")
    told = report(run).read_text(encoding="utf-8")
    assert "<td>1</td><td>3</td><td>–</td><td>–</td><td>–</td>" in told
    assert "<tr><td>–</td><td>–</td><td>–</td><td>–</td><td>–</td></tr>" in told


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log", "[{", "log.json is no JSON .*: it is damaged"),
        ("recipe", "{", "recipe.json is no JSON .*: it is damaged"),
        ("stages", "[3]", "stages.json is no list of records: it is damaged"),
    ],
)
def test_a_damaged_file_is_refused(run: Path, name: str, text: str, message: str) -> None:
    (run / f"{name}.json").write_text(text)
    with pytest.raises(RecipeError, match=message):
        report(run)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no run .recipe.json is missing.: give the folder named"):
        report(tmp_path)


def test_a_page_replaces_a_page_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isogrow.recipes.report.page.drawn", lambda _: [])
    mine = tmp_path / "notes.html"
    mine.write_text("mine")
    with pytest.raises(OutputError, match="notes.html exists: name another file, or give --overwrite"):
        report(run, mine)
    told = isogrow("report", run, "--out", mine)
    assert told.code == 2 and mine.read_text() == "mine"
    assert isogrow("report", run, "--out", mine, "--overwrite").code == 0
    first = report(run).read_text()
    assert mine.read_text() == first == report(run).read_text()
    with pytest.raises(OutputError, match="is a folder: name a file"):
        report(run, tmp_path)


# ── in a browser ──


def in_browser(page: Path, probe: str = "") -> tuple[str, str]:
    """(title, console) after a browser has shown a page, to which a probe may be added."""
    assert BROWSER is not None
    shown = page.with_name("shown.html")
    shown.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{probe}</body>"), encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    made = subprocess.run(
        [BROWSER, *flags, f"--user-data-dir={page.parent / 'profile'}", shown.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", made.stdout, re.DOTALL)
    assert title is not None
    return title[1], "\n".join(line for line in made.stderr.splitlines() if "CONSOLE" in line)


def framed(page: Path) -> str:
    """A probe that shows the page in a phone-wide frame, and puts (scrolled, shown) width into the title."""
    inside = json.dumps(page.read_text(encoding="utf-8")).replace("</", "<\\/")
    return f"""<script>
      const frame = document.createElement("iframe");
      frame.style.width = "{PHONE}px"; frame.style.border = "0"; frame.srcdoc = {inside};
      frame.onload = () => {{
        const root = frame.contentDocument.documentElement;
        document.title = root.scrollWidth + " " + root.clientWidth;
      }};
      document.body.append(frame);
    </script>"""


needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt install chromium)")


@pytest.mark.slow
@needs_browser
def test_a_browser_has_nothing_to_complain_of(run: Path) -> None:
    page = report(run)
    assert in_browser(page)[1] == ""
    assert "CONSOLE" in in_browser(page, "<script>console.error('seen')</script>")[1]


@pytest.mark.slow
@needs_browser
def test_no_sideways_scrolling_on_a_phone(run: Path) -> None:
    page = report(run)
    scrolled, shown = map(int, in_browser(page, framed(page))[0].split())
    assert scrolled <= shown <= PHONE
    wide = page.with_name("wide.html")
    wide.write_text(page.read_text(encoding="utf-8").replace("<h1>", "<h1 style='width: 900px'>"))
    scrolled, shown = map(int, in_browser(page, framed(wide))[0].split())
    assert scrolled > shown
