"""Configs are read and edited as plain data, through their class's defaults."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogrow.errors import FormulaError
from isogrow.layouts.config import Defaults, edited, get

CONFIG: dict[str, Any] = {"b": 1, "a": {"y": 2, "x": {"z": [3, 4]}}, "none": None}

keys = st.text("abcxyz", min_size=1, max_size=2)
configs = st.recursive(
    st.integers() | st.lists(st.integers()),
    lambda inner: st.dictionaries(keys, inner, max_size=4),
).filter(lambda found: isinstance(found, dict))


@pytest.mark.parametrize(
    ("path", "value"),
    [("b", 1), ("a.y", 2), ("a.x.z", [3, 4]), ("none", None), ("c", None), ("a.c", None), ("b.y", None)],
)
def test_get(path: str, value: Any) -> None:
    assert get(CONFIG, path) == value


def test_edited_keeps_the_order_and_the_rest() -> None:
    before = copy.deepcopy(CONFIG)
    after = edited(CONFIG, {"a.x.z": [5], "new.deep": 6, "b": 7})
    assert after == {"b": 7, "a": {"y": 2, "x": {"z": [5]}}, "none": None, "new": {"deep": 6}}
    assert list(after) == ["b", "a", "none", "new"]
    assert before == CONFIG


@pytest.mark.parametrize("config", [{}, {"a": None}, {"a": {"c": 1}}])
def test_edited_makes_what_the_path_needs(config: dict[str, Any]) -> None:
    assert edited(config, {"a.b": 2}) == {"a": {**(config.get("a") or {}), "b": 2}}


def test_edited_shares_nothing() -> None:
    value = [1]
    after = edited(CONFIG, {"list": value})
    value.append(2)
    after["a"]["x"]["z"].append(5)
    assert after["list"] == [1]
    assert CONFIG["a"]["x"]["z"] == [3, 4]


@given(configs, st.lists(keys, min_size=1, max_size=3), st.integers())
def test_what_is_put_is_got(config: Any, path: list[str], value: int) -> None:
    dotted = ".".join(path)
    if all(isinstance(get(config, ".".join(path[:i])), dict | None) for i in range(1, len(path))):
        assert get(edited(config, {dotted: value}), dotted) == value
        assert edited(config, {}) == config


def test_defaults_stand_in_for_what_is_missing_or_null() -> None:
    view = Defaults({"hidden": 48, "heads": None}, {"heads": 6, "dim": "hidden // heads", "off": False})
    assert (view["hidden"], view["heads"], view["dim"], view["off"]) == (48, 6, 8, False)
    assert sorted(view) == ["dim", "heads", "hidden", "off"]
    assert len(view) == 4
    assert "dim" in view and "other" not in view
    assert view.get("other") is None
    with pytest.raises(KeyError):
        view["other"]


def test_defaults_that_are_formulas_see_what_is_put_over() -> None:
    view = Defaults({"hidden": 48}, {"heads": 6, "dim": "hidden // heads"})
    assert view.over({"heads": 4})["dim"] == 12
    assert view.over({"dim": 5})["dim"] == 5
    assert view["dim"] == 8


def test_a_default_that_lacks_its_names_is_refused() -> None:
    with pytest.raises(FormulaError, match="needs hidden, which is not given"):
        Defaults({}, {"dim": "hidden // 2"})["dim"]
