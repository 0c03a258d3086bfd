"""The page that says where each model type's table is: none is left out, and none stands twice."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from isogrow.families import LAYOUTS, arcee
from isogrow.families.wrappers import WRAPPERS

SCRIPT = Path(__file__).parents[1] / "docs" / "families_index.py"


def script() -> Any:
    found = importlib.util.spec_from_file_location("families_index", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_each_type_that_grows_has_one_file_and_the_page_is_as_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = script()
    listed = [name for _, types in made.tables().values() for name in types]
    assert set(listed) == LAYOUTS.keys() | WRAPPERS.keys()
    assert sorted(name for name in listed if listed.count(name) > 1) == []
    assert made.PAGE.read_text(encoding="utf-8") == made.page()
    monkeypatch.setattr(arcee, "LAYOUTS", arcee.LAYOUTS[:-1])
    assert made.PAGE.read_text(encoding="utf-8") != made.page()
