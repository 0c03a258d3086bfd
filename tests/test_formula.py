"""Formulas are arithmetic over names, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogrow.errors import FormulaError
from isogrow.layouts.formula import evaluate, names


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("a", 12),
        ("a // b + 2 * c - 1", 7),
        ("a % b ** 2", 12),
        ("-a / 8", -1.5),
        ("sqrt(c * c)", 3.0),
        ("int(a * 1.05) + round(0.6) + min(a, b) + max(b, c)", 23),
        ("a if c > b else b", 5),
        ("'yes' if a == 12 and not b < c or c else 'no'", "yes"),
        ("None", None),
    ],
)
def test_values(formula: str, value: Any) -> None:
    assert evaluate(formula, {"a": 12, "b": 5, "c": 3, "d": 99}) == value


@given(st.integers(1, 999), st.integers(1, 999))
def test_it_is_python_s_arithmetic(a: int, b: int) -> None:
    assert evaluate("(a + 1) // b * b + (a + 1) % b", {"a": a, "b": b}) == a + 1


def test_a_name_with_dots_is_one_name() -> None:
    """The path of a nested config key."""
    formula = "attn_config.scale or a.b.c * 2"
    assert names(formula) == {"attn_config.scale", "a.b.c"}
    assert evaluate(formula, {"attn_config.scale": 0.0, "a.b.c": 7}) == 14


def test_names_are_what_it_reads() -> None:
    assert names("int(heads * key_dim) == hidden if x else max(y, 1)") == {
        "heads",
        "key_dim",
        "hidden",
        "x",
        "y",
    }


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("a + + ", "the formula 'a + + ' can't be read: invalid syntax"),
        ("(a + b).c", "the formula '(a + b).c' may not use Attribute"),
        ("a.b", "the formula 'a.b' needs a.b, which is not given: add it to the config"),
        ("a[0:1]", "the formula 'a[0:1]' may not use Slice"),
        ("b[a]", "the formula 'b[a]' has no value at {'a': 12, 'b': 5}: 'int' object is not subscriptable"),
        ("open(a)", "the formula 'open(a)' may not use Call"),
        ("(lambda: 1)()", "the formula '(lambda: 1)()' may not use Call"),
        ("[a for a in b]", "the formula '[a for a in b]' may not use ListComp"),
        ("(a := 1)", "the formula '(a := 1)' may not use NamedExpr"),
        ("min(*a)", "the formula 'min(*a)' may not use Starred"),
        ("x + y", "the formula 'x + y' needs x, y, which is not given: add it to the config"),
        ("a / (b - 5)", "the formula 'a / (b - 5)' has no value at {'a': 12, 'b': 5}: division by zero"),
        ("sqrt(-a)", "the formula 'sqrt(-a)' has no value at {'a': 12}: math domain error"),
        (
            "a + 'x'",
            "the formula \"a + 'x'\" has no value at {'a': 12}:"
            " unsupported operand type(s) for +: 'int' and 'str'",
        ),
    ],
)
def test_refusals(formula: str, message: str) -> None:
    with pytest.raises(FormulaError) as refused:
        evaluate(formula, {"a": 12, "b": 5})
    assert str(refused.value) == message


def test_an_entry_of_a_list_is_read_where_it_is_there() -> None:
    kinds = {"layer_types": ["sliding", "full"], "layers": 1}
    assert evaluate("layer_types[layers] == 'full'", kinds) is True
    with pytest.raises(FormulaError, match="has no value at .*: list index out of range"):
        evaluate("layer_types[layers]", {**kinds, "layers": 2})
