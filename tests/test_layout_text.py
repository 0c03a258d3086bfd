"""Layouts as text: what is written is read back, and nothing but data is read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isogrow.errors import LayoutError
from isogrow.families import LAYOUTS
from isogrow.layouts.text import read, written

HEAD = 'W = Weight("embed.weight", "vocab -> hidden", "embed")\n'
TINY = HEAD + 'TINY = Layout("tiny", (W,), {"vocab": "vocab_size"})\n'


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_family_is_read_back(name: str) -> None:
    assert read(written(LAYOUTS[name], "A family.")) == LAYOUTS[name]


@pytest.mark.parametrize("family", ["lfm2_vl with lfm2", "4x-tiny.1", "a, 'b'"])
def test_a_family_of_any_name_is_read_back(family: str) -> None:
    layout = replace(LAYOUTS["llama"], family=family)
    assert read(written(layout)) == layout


def test_it_is_the_text_of_a_family_file() -> None:
    found: dict[str, object] = {}
    exec(compile(written(LAYOUTS["gemma2"]), "gemma2.py", "exec"), found)
    assert found["LAYOUTS"] == (LAYOUTS["gemma2"],)


def test_lines_are_short_and_names_are_used() -> None:
    text = written(LAYOUTS["llama"])
    assert 'Weight(A + "q_proj.weight", "(kv_heads group key_dim) <- hidden", "attn.q"' in text
    assert max(map(len, text.splitlines())) <= 110


def test_numbers_strings_and_sums_of_strings_are_read() -> None:
    text = 'S = "a." + "b"\nLAYOUT = Layout(S, (), {}, keys=(Key(S, default=-1),), fixed=frozenset({"x"}))'
    made = read(text)
    assert (made.family, made.keys[0].default, made.fixed) == ("a.b", -1, frozenset({"x"}))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("import os", "line 1: 'import os' is no data of a layout"),
        ("X = __import__('os')", "line 1: \"__import__('os')\" is no data"),
        ("X = open('secret').read()", "is no data of a layout"),
        ("X = [i for i in 'ab']", "is no data of a layout"),
        ("X = Norm.__init__", "is no data of a layout"),
        ("def f(): ...", "line 1: 'def f():' is no data of a layout"),
        ("X = Norm(*(1, 2))", "is no data of a layout"),
        ("X = Norm(**{})", "is no data of a layout"),
        ("X = f'{1}'", "is no data of a layout"),
        ("X = 2 ** 99", "is no data of a layout"),
        ("X = Bias(nothing=1)", "line 1: Bias.__init__() got an unexpected keyword argument 'nothing'"),
        ("X = (", "can't be read (line 1: '(' was never closed): correct it"),
        ("X = 1", "makes no Layout"),
    ],
)
def test_what_is_no_data_is_refused(line: str, fault: str) -> None:
    rest = "" if line == "X = 1" else "\n" + TINY
    with pytest.raises(LayoutError) as error:
        read(line + rest, "tiny.py")
    assert str(error.value).startswith("tiny.py") and fault in str(error.value)
