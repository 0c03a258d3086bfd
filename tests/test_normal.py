"""Normal entries: what law they have, and that a table of what they become gives the very same bits."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isogrow.numbers.arithmetic import rounded
from isogrow.numbers.filling import _levels, _scaled, normals
from isogrow.numbers.normal import COUNT, looked_up, normal, values

SHAPE = (7, 5, 11)
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def test_the_law_in_closed_form() -> None:
    z = values()
    assert z.shape == (COUNT,) and np.array_equal(z, -z[::-1]) and (np.diff(z) > 0).all()
    assert abs((z**2).mean() - 1.0) < 1e-12 and abs((z**4).mean() - 2.99990) < 1e-5
    assert abs(z[-1] - 4.40108) < 1e-5
    quantiles = [NormalDist().inv_cdf((i + 0.5) / COUNT) for i in range(COUNT)]
    assert np.abs(z - quantiles)[1:-1].max() < 1e-11
    # The share of the numbers below any point, and the normal's probability there: at a number either half
    # of a step is too much or too little.
    below = np.array([NormalDist().cdf(v) for v in z[::37]])
    at = np.arange(COUNT)[::37]
    off = np.maximum(abs(below - at / COUNT), abs(below - (at + 1) / COUNT))
    assert off[1:].max() < 2.0**-17 + 1e-12 and off[0] < 1e-5


def test_entries_have_the_law() -> None:
    count = 1 << 20
    x = np.sort(normal("law", (1024, 1024), (range(1024), range(1024))).reshape(-1))
    uniform = np.array([NormalDist().cdf(v) for v in x[::64]])
    assert np.abs(uniform - np.arange(0, count, 64) / count).max() < 1.95 / count**0.5  # Kolmogorov, 0.1 %
    outer = NormalDist().inv_cdf(1 - 2.0**-12)
    assert abs((np.abs(x) > outer).sum() - count / 2**11) < 4 * (count / 2**11) ** 0.5
    _, times = np.unique(x, return_counts=True)  # each about count / COUNT times, as independent draws
    missed = np.exp(-count / COUNT) * COUNT
    assert abs(COUNT - len(times)) < 4 * missed**0.5 + 4
    assert abs(times.var() - count / COUNT) < 4 * (2.0 / COUNT) ** 0.5 * count / COUNT


def test_neighbours_that_share_random_bits_know_nothing_of_each_other() -> None:
    x = normal("lanes", (2048, 512), (range(2048), range(512))).reshape(2048, 128, 4)
    for i in range(4):
        for j in range(i):
            for one, two in ((x, x), (x**2 - 1.0, x**2 - 1.0), (np.abs(x), x)):
                product = one[..., i] * two[..., j]
                assert abs(product.mean()) < 4 * product.std() / product.size**0.5


@every_dtype
@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0.0, 0.0213, 1.0, 0.0), (1.0, 0.3, 1.0, 0.0), (0.0, 900.0, -1.0, 0.0), (0.1, 0.02, 0.7071, -1.0)],
)
def test_a_table_gives_the_same_bits(dtype: torch.dtype, mean: float, std: float, a: float, b: float) -> None:
    shape, box = (90, 2051), (range(3, 80), range(5, 2046))
    table = normals(mean, std, a, b, dtype)
    wanted = rounded((torch.from_numpy(normal("key", shape, box)) * std + mean) * a + b, dtype)
    found = torch.from_numpy(looked_up(table, "key", shape, box)).view(dtype)
    assert torch.equal(found, wanted)
    assert len(found.unique()) > 30


@st.composite
def boxes(draw: st.DrawFn) -> tuple[range, ...]:
    bounds = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in SHAPE]
    return tuple(range(*pair) for pair in bounds)


@given(box=boxes())
def test_a_table_fills_any_box(box: tuple[range, ...]) -> None:
    table = np.arange(COUNT)
    found = looked_up(table, "key", SHAPE, box)
    whole = looked_up(table, "key", SHAPE, tuple(range(n) for n in SHAPE))
    assert np.array_equal(found, whole[tuple(slice(r.start, r.stop) for r in box)])
    assert np.array_equal(values()[found], normal("key", SHAPE, box))


def test_a_region_without_dims() -> None:
    assert normal("key", (), ()).shape == ()
    assert normal("key", (), ()) in values()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_is_scaled_is_looked_up_with_the_same_bits(dtype: torch.dtype) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).reshape(256, 256)
    for a, b in ((0.7071, 0.0), (-3.0, 0.1), (1.0, 0.0)):
        found: Any = _scaled(every.t(), _levels(torch.bfloat16, dtype, a, b))((range(9, 256), range(256)))
        wanted = rounded(every.t()[9:].to(torch.float64) * a + b, dtype)
        whole = torch.from_numpy(found).view(dtype)
        number = ~wanted.isnan()
        assert torch.equal(whole.isnan(), ~number)
        assert torch.equal(whole[number], wanted[number])
