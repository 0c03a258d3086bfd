"""Patterns: parse and format are inverse, views are what a slow loop makes of them, errors underline."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from isogrow.errors import PatternError
from isogrow.layouts.pattern import Dim, Pattern, Sum, extent, parse
from isogrow.numbers.arithmetic import blocked

AXES = ("hidden", "heads", "kv_heads", "group", "head_dim", "ffn", "layers", "e_2", "x", "Y")
SIZES: dict[str, int] = dict(zip(AXES, (3, 2, 5, 4, 7, 6, 8, 9, 1, 10), strict=True))


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """Any pattern of the grammar: no axis twice, at most one sum, index axes in dims of their own."""
    names = draw(st.permutations([*AXES, "2"]))[: draw(st.integers(1, 6))]
    dims = [draw(dim(group)) for group in groups(draw, names)]
    if draw(st.booleans()):
        at = draw(st.integers(0, len(dims)))
        left = [axis for axis in AXES if axis not in names]
        parts = tuple(
            (name, tuple(draw(st.permutations(left))[: draw(st.integers(1, 2))]))
            for name in draw(st.sampled_from([("q", "k"), ("q", "k", "v"), ("gate", "up")]))
        )
        beside = dims.pop(at).factors if at < len(dims) and not dims[at].index else ()
        dims.insert(at, Dim((*beside, Sum(parts))))
    arrow = draw(st.sampled_from(["<-", "->", "*"]))
    cut = 0 if arrow == "*" else draw(st.integers(0, len(dims)))
    return Pattern(tuple(dims[:cut]), arrow, tuple(dims[cut:]))


def groups(draw: st.DrawFn, names: list[str]) -> Iterator[list[str]]:
    while names:
        count = draw(st.integers(1, 3))
        yield names[:count]
        names = names[count:]


def dim(group: list[str]) -> st.SearchStrategy[Dim]:
    index = len(group) == 1 and not group[0].isdigit()
    return st.builds(Dim, st.just(tuple(group)), st.booleans() if index else st.just(False))


def size(axis: str) -> int:
    return SIZES[axis]


@given(patterns())
def test_format_and_parse_are_inverse(pattern: Pattern) -> None:
    assert parse(str(pattern)) == pattern
    assert parse(f"  {str(pattern).replace(' ', '   ')} ") == pattern


@given(patterns())
def test_a_view_is_what_a_loop_makes(pattern: Pattern) -> None:
    shape = pattern.shape(size)
    assume(prod(shape) <= 2_000)
    stored = np.arange(prod(shape)).reshape(shape)
    seen = np.zeros(shape, dtype=int)
    for part in pattern.parts:
        for index in product(*(range(size(axis)) for axis in pattern.index)):
            chosen = dict(zip(pattern.index, index, strict=True))
            view = pattern.view(part, chosen, size)
            block = blocked(torch.from_numpy(stored), view).numpy()
            assert block.shape == tuple(extent(axis, size) for axis in pattern.axes(part))
            assert np.shares_memory(block, stored)
            assert np.array_equal(block, slow(stored, pattern, part, chosen))
            seen.reshape(-1)[block.reshape(-1)] += 1
    assert (seen == 1).all()


def slow(stored: np.ndarray, pattern: Pattern, part: str, index: dict[str, int]) -> np.ndarray:
    """The block entry by entry: each dim's position is counted up row-major over its factors."""
    axes = pattern.axes(part)
    block = np.empty([extent(axis, size) for axis in axes], dtype=int)
    for point in np.ndindex(*block.shape):
        given = list(zip(axes, point, strict=True))
        block[point] = stored[tuple(position(dim, part, given, index) for dim in pattern.dims)]
    return block


def position(dim: Dim, part: str, given: list[tuple[str, int]], index: dict[str, int]) -> int:
    place = 0
    for factor in dim.factors:
        if not isinstance(factor, Sum):
            at = index[factor] if dim.index else taken(given, factor)
            place = place * extent(factor, size) + at
            continue
        lengths = [prod(extent(axis, size) for axis in axes) for _, axes in factor.parts]
        names = [name for name, _ in factor.parts]
        inside = 0
        for axis in dict(factor.parts)[part]:
            inside = inside * extent(axis, size) + taken(given, axis)
        place = place * sum(lengths) + sum(lengths[: names.index(part)]) + inside
    return place


def taken(given: list[tuple[str, int]], axis: str) -> int:
    """The coordinate of an axis; equal numbers are used up in order."""
    found = next(pair for pair in given if pair[0] == axis)
    given.remove(found)
    return found[1]


def test_roles() -> None:
    linear = parse("(kv_heads group head_dim) <- hidden")
    assert linear.produced() == ("kv_heads", "group", "head_dim")
    assert linear.consumed() == ("hidden",)
    assert not linear.gate
    conv = parse("hidden -> (q: heads head_dim + k: heads head_dim)")
    assert conv.parts == ("q", "k")
    assert conv.produced("k") == ("heads", "head_dim")
    assert conv.axes("q") == ("heads", "head_dim", "hidden")
    assert conv.shape(size) == (3, 28)
    gain = parse("* hidden")
    assert gain.gate and gain.produced() == ("hidden",) and gain.consumed() == ()
    assert parse("-> ffn").consumed() == ()
    assert parse("{layers} ffn <- hidden").index == ("layers",)
    assert parse("{layers} ffn <- hidden").axes() == ("ffn", "hidden")


@pytest.mark.parametrize(
    ("text", "why", "underline"),
    [
        ("ffn hidden", "expected <- or -> here", "          ^"),
        ("", "expected <- or -> or * here", "^"),
        ("ffn $ hidden", "is no word of the grammar", "    ^"),
        ("ffn <- hidden <- x", "expected the end here", "              ^^"),
        ("(heads head_dim <- hidden", "expected an axis here", "                ^^"),
        ("heads) <- hidden", "expected an axis here", "     ^"),
        ("(q: + k: heads) <- hidden", "expected an axis here", "    ^"),
        ("(q: heads + k) <- hidden", "expected : here", "             ^"),
        ("(heads q: group) <- hidden", "expected an axis here", "        ^"),
        ("{heads group} <- hidden", "expected } here", "       ^^^^^"),
        ("{heads} <- (hidden", "expected an axis here", "                  ^"),
        ("() <- hidden", "expected an axis here", " ^"),
        ("ffn * hidden", "expected <- or -> here", "    ^"),
    ],
)
def test_an_error_underlines_its_span(text: str, why: str, underline: str) -> None:
    with pytest.raises(PatternError) as refused:
        parse(text)
    assert str(refused.value) == f"pattern: {why}\n  {text}\n  {underline}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "(q: heads + k: group) <- (a: ffn + b: x)",
            "'(q: heads + k: group) <- (a: ffn + b: x)' has two sums, and a tensor may have one:"
            " name the blocks apart",
        ),
        ("ffn <- ffn", "'ffn <- ffn' names ffn twice: give the second meaning its own name"),
        (
            "(q: heads + k: hidden) <- hidden",
            "'(q: heads + k: hidden) <- hidden' names hidden twice: give the second meaning its own name",
        ),
        ("{ffn} x <- ffn", "'{ffn} x <- ffn' names ffn twice: give the second meaning its own name"),
        (
            "(q: heads + q: group) <- hidden",
            "'(q: heads + q: group) <- hidden' names q twice: give the second meaning its own name",
        ),
    ],
)
def test_what_has_no_one_meaning_is_refused(text: str, message: str) -> None:
    with pytest.raises(PatternError) as refused:
        parse(text)
    assert str(refused.value) == message
