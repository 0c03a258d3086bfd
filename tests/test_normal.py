"""Normal entries: what law they have, and that a table of 16-bit outputs gives the very same bits."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isogrow.numbers.arithmetic import rounded
from isogrow.numbers.filling import _levels, _looked_up
from isogrow.numbers.normal import CELLS, UNSURE, Words, edges, normal, normal_words, rounding

SHAPE = (7, 5, 11)
every_dtype = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def words_of(dtype: torch.dtype, mean: float, std: float, sign: float = 1.0) -> Any:
    def exact(z: np.ndarray) -> Words:
        x = (torch.from_numpy(np.ascontiguousarray(z)) * std + mean) * sign
        return rounded(x, dtype).view(torch.int16).numpy().view(np.uint16)

    return exact


def test_the_law_in_closed_form() -> None:
    e = edges()
    a, b = e[:-1], e[1:]

    def moment(k: int) -> float:
        return float(np.mean((b ** (k + 1) - a ** (k + 1)) / ((k + 1) * (b - a))))

    assert np.array_equal(e, -e[::-1]) and (b > a).all()
    assert abs(moment(1)) < 1e-15 and abs(moment(2) - 1.0) < 1e-11
    assert abs(moment(3)) < 1e-13 and abs(moment(4) - 2.99989) < 1e-5
    assert abs(e[-1] - 4.57928) < 1e-5
    inner = e[1:-1]
    quantiles = [NormalDist().inv_cdf(i / CELLS) for i in range(1, CELLS)]
    assert np.abs(inner - quantiles).max() < 1e-11


def test_entries_have_the_law() -> None:
    count = 1 << 20
    x = np.sort(normal("law", (1024, 1024), (range(1024), range(1024))).reshape(-1))
    uniform = np.array([NormalDist().cdf(v) for v in x[::64]])
    assert np.abs(uniform - np.arange(0, count, 64) / count).max() < 1.95 / count**0.5  # Kolmogorov, 0.1 %
    outer = NormalDist().inv_cdf(1 - 2.0**-12)
    assert abs((np.abs(x) > outer).sum() - count / 2**11) < 4 * (count / 2**11) ** 0.5
    assert np.abs(x).max() < 4.58


def test_neighbours_that_share_random_bits_know_nothing_of_each_other() -> None:
    x = normal("lanes", (2048, 512), (range(2048), range(512))).reshape(2048, 128, 4)
    for i in range(4):
        for j in range(i):
            for one, two in ((x, x), (x**2 - 1.0, x**2 - 1.0), (np.abs(x), x)):
                product = one[..., i] * two[..., j]
                assert abs(product.mean()) < 4 * product.std() / product.size**0.5


@every_dtype
@pytest.mark.parametrize(("mean", "std", "sign"), [(0.0, 0.0213, 1.0), (1.0, 0.3, 1.0), (0.0, 900.0, -1.0)])
def test_a_table_gives_the_same_bits(dtype: torch.dtype, mean: float, std: float, sign: float) -> None:
    shape, box = (90, 2051), (range(3, 80), range(5, 2046))
    exact = words_of(dtype, mean, std, sign)
    rule = rounding(exact)
    assert 0.0 < (rule.words == UNSURE).mean() < 0.5
    assert np.array_equal(normal_words("key", shape, box, rule), exact(normal("key", shape, box)))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[range, ...]:
    bounds = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in SHAPE]
    return tuple(range(*pair) for pair in bounds)


@given(box=boxes())
def test_a_table_fills_any_box(box: tuple[range, ...]) -> None:
    exact = words_of(torch.float16, 0.0, 0.02)
    found = normal_words("key", SHAPE, box, rounding(exact))
    whole = exact(normal("key", SHAPE, tuple(range(n) for n in SHAPE))).reshape(SHAPE)
    assert np.array_equal(found, whole[tuple(slice(r.start, r.stop) for r in box)])


def test_a_cell_with_two_outputs_is_not_taken_from_the_table() -> None:
    exact = words_of(torch.bfloat16, 0.0, 1.0)
    rule = rounding(exact)
    e, unsure = edges(), rule.words == UNSURE
    inside = exact(e[:-1] + (e[1:] - e[:-1]) * 0.5)
    assert np.array_equal(rule.words[~unsure], inside[~unsure])
    assert 0.01 < unsure.mean() < 0.06


def test_a_region_without_dims() -> None:
    exact = words_of(torch.bfloat16, 0.0, 1.0)
    assert normal("key", (), ()).shape == ()
    found = normal_words("key", (), (), rounding(exact))
    assert found.shape == () and found == exact(normal("key", (), ()))[0]


@every_dtype
def test_what_is_scaled_is_looked_up_with_the_same_bits(dtype: torch.dtype) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).reshape(256, 256)
    for a, b in ((0.7071, 0.0), (-3.0, 0.1), (1.0, 0.0)):
        found = _looked_up(every.t(), _levels(torch.bfloat16, dtype, a, b))((range(9, 256), range(256)))
        wanted = rounded(every.t()[9:].to(torch.float64) * a + b, dtype)
        whole = torch.from_numpy(found.view(np.int16)).view(dtype)
        number = ~wanted.isnan()
        assert torch.equal(whole.isnan(), ~number)
        assert torch.equal(whole[number], wanted[number])
