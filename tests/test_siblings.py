"""The page of published siblings says what the planner says."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "siblings_page.py"
QUICK = ("BERT", "Pythia")  # what every run plans: steps of both kinds


def script() -> Any:
    found = importlib.util.spec_from_file_location("siblings_page", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_steps_are_what_the_page_says() -> None:
    made = script()
    page = made.PAGE.read_text(encoding="utf-8")
    found = [" | ".join(row) for row in made.rows(QUICK)]
    assert found and [row for row in found if row not in page] == []
    assert {row.endswith("| exact") for row in found} == {True, False}


@pytest.mark.slow
@pytest.mark.sweep("whole")
def test_the_page_is_as_written() -> None:
    made = script()
    assert made.PAGE.read_text(encoding="utf-8") == made.page()


def test_every_series_has_a_size_for_each_key() -> None:
    for series in json.loads(script().DATA.read_text(encoding="utf-8")).values():
        assert all(len(sizes) == len(series["keys"]) for sizes in series["sizes"].values())
        assert len(series["sizes"]) > 1
