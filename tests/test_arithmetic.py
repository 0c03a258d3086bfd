"""Rounded once, and summed in an order of its own."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isogrow.numbers.arithmetic import rounded, tree_sum

HALVES = {torch.bfloat16: (8, -126, 127), torch.float16: (11, -14, 15)}  # precision, exponents
every_half = pytest.mark.parametrize("dtype", HALVES, ids=str)
floats = st.floats(width=64, allow_nan=False)


# Rounding, against exact fractions


def nearest(x: float, dtype: torch.dtype) -> float:
    """The nearest number of a format, ties to even, in exact arithmetic."""
    precision, low, high = HALVES[dtype]
    if x == 0 or math.isinf(x):
        return x
    exact = abs(Fraction(x))
    exponent = max(math.frexp(abs(x))[1] - 1, low)
    quantum = Fraction(2) ** (exponent - precision + 1)
    result = round(exact / quantum) * quantum  # Fraction rounds half to even
    if result >= Fraction(2) ** (high + 1):
        return math.copysign(math.inf, x)
    return math.copysign(float(result), x)


@st.composite
def traps(draw: st.DrawFn, dtype: torch.dtype) -> float:
    """Numbers at, and a hair beside, the middle of two neighbours of a format."""
    precision, low, high = HALVES[dtype]
    mantissa = draw(st.integers(0, 2**precision)) * 2 + draw(st.sampled_from([0, 1]))
    hair = draw(st.sampled_from([0.0, 2.0**-20, -(2.0**-20), 2.0**-40, -(2.0**-40)]))
    exponent = draw(st.integers(low - precision - 2, high - precision + 2))
    return draw(st.sampled_from([1, -1])) * math.ldexp(mantissa + hair, exponent)


def bits(x: Tensor) -> Tensor:
    return x.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


def is_rounded_once(numbers: list[float], dtype: torch.dtype) -> bool:
    x = torch.tensor(numbers, dtype=torch.float64)
    expected = torch.tensor([nearest(one, dtype) for one in numbers], dtype=torch.float64).to(dtype)
    return torch.equal(bits(rounded(x, dtype)), bits(expected))


@pytest.mark.slow
@every_half
@settings(max_examples=20)
@given(data=st.data())
def test_rounding_is_correct_at_ties_and_beside_them(dtype: torch.dtype, data: st.DataObject) -> None:
    assert is_rounded_once(data.draw(st.lists(traps(dtype), min_size=20)), dtype)


@every_half
@given(numbers=st.lists(floats, min_size=20))
def test_rounding_is_correct_anywhere(dtype: torch.dtype, numbers: list[float]) -> None:
    assert is_rounded_once(numbers, dtype)


@every_half
def test_rounding_at_the_edges(dtype: torch.dtype) -> None:
    precision, low, high = HALVES[dtype]
    largest, least = 2.0**high * (2 - 2.0 ** (1 - precision)), 2.0 ** (low - precision + 1)
    middle = largest + 2.0 ** (high - precision)
    edges = [0.0, largest, middle, math.nextafter(middle, 0), least, least / 2, 5e-324, 1.7e308, math.inf]
    edges += [math.nextafter(least / 2, 1), least * 1.5, 2.0**-149, 2.0**-150, 3.4028235677973366e38]
    assert is_rounded_once([*edges, *(-edge for edge in edges)], dtype)
    assert rounded(torch.tensor([math.nan], dtype=torch.float64), dtype).isnan().all()


def test_torch_itself_rounds_twice() -> None:
    # Beside the middle of 1 and its bfloat16 neighbour: float32 can't hold the hair.
    x = torch.tensor([1 + 2.0**-8 + 2.0**-40], dtype=torch.float64)
    assert rounded(x, torch.bfloat16).item() == 1 + 2.0**-7
    assert x.to(torch.float32).to(torch.bfloat16).item() == 1.0


@given(st.lists(floats, min_size=1))
def test_wider_formats_are_ieee_s(numbers: list[float]) -> None:
    x = torch.tensor(numbers, dtype=torch.float64)
    with np.errstate(over="ignore"):
        single = np.array(numbers).astype(np.float32)
    assert torch.equal(bits(rounded(x, torch.float32)), bits(torch.from_numpy(single)))
    assert torch.equal(bits(rounded(x, torch.float64)), bits(x))


# Sums


@settings(max_examples=20)
@given(st.integers(1, 300), st.integers(0, 99))
def test_tree_sum(count: int, seed: int) -> None:
    x = torch.randn((2, count, 3), generator=torch.Generator().manual_seed(seed)).double()
    total = tree_sum(x, 1)
    assert total.shape == (2, 1, 3)
    exact = [[math.fsum(x[i, :, j].tolist()) for j in range(3)] for i in range(2)]
    assert torch.allclose(total[:, 0], torch.tensor(exact, dtype=torch.float64), rtol=1e-12, atol=1e-13)
    strided = x.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert torch.equal(tree_sum(strided, 1), total)
    each = torch.stack([tree_sum(x[:, :, j], 1) for j in range(3)], dim=2)
    assert torch.equal(each, total)


def test_tree_sum_leaves_its_input() -> None:
    x = torch.arange(7.0)
    assert tree_sum(x, 0).tolist() == [21.0]
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
