"""Rounded once, copied bit by bit, summed in an order of its own."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isogrow.arithmetic import FALLBACK_STD, FIXED, Filler, chunks, moments, rounded, tree_sum
from isogrow.pieces import Block, whole
from isogrow.plans import Constant, Entry, Free, Init, Mean, Old, Place, Plan, Step
from isogrow.sizes import Sizes

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


@pytest.mark.parametrize("shape", [(7,), (5, 3), (FIXED // 100, 101, 3)])
def test_moments(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3 + 5
    mean, std = moments(x)
    assert mean == pytest.approx(x.mean().item(), rel=1e-12)
    assert std == pytest.approx(x.std(correction=0).item(), rel=1e-12)
    back = tuple(reversed(range(x.dim())))
    assert moments(x.permute(back).contiguous().permute(back)) == (mean, std)
    torch.set_num_threads(2)
    try:
        assert moments(x) == (mean, std)
    finally:
        torch.set_num_threads(1)
    narrow = x.to(torch.bfloat16)
    assert moments(narrow) == moments(narrow.double())


# Chunks


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=3),
    st.integers(1, 50),
    st.randoms(use_true_random=False),
)
def test_chunks_tile_a_box(sides: list[tuple[int, int]], limit: int, shuffle: Any) -> None:
    box = tuple(range(start, start + count) for start, count in sides)
    order = list(range(len(box)))
    shuffle.shuffle(order)
    count = np.zeros(shape(box), dtype=int)
    for part in chunks(box, tuple(order), limit):
        assert math.prod(shape(part)) <= limit
        count[tuple(slice(r.start - b.start, r.stop - b.start) for r, b in zip(part, box, strict=True))] += 1
    assert (count == 1).all()


def shape(box: tuple[range, ...]) -> tuple[int, ...]:
    return tuple(len(r) for r in box)


# Filling

BLOCK = Block("w", (), ("a", "b"))
NEW = slice(3, None)


def grown(old: Tensor, entry: Entry, kept: Entry | None = None, dtype: Any = None, limit: int = 5) -> Tensor:
    """A 3 x 4 block after a step from a = 3 to 5."""
    rewrites = {"w": {"new": entry, "old": kept or Old()}}
    step = Step("Growth", "a", 3, 5, (Place(0, 3, 0), Place(3, 2, 0, "new")), rewrites)
    plan = Plan("f", Sizes({"a": 3, "b": 4}), (step,))
    out = torch.empty((5, 4), dtype=dtype or old.dtype)
    Filler(plan, lambda _: old, limit).fill_(out, BLOCK, (0, 1))
    return out


def payloads(dtype: torch.dtype) -> Tensor:
    """Bits of all kinds: NaNs with payloads, infinities, both zeros, subnormals."""
    size = torch.empty(0, dtype=dtype).element_size()
    ones = (1 << (8 * size - 1)) - 1
    patterns = [0, -1, 1, 2, -2, ones, ones - 1, -ones, -ones - 1, 12345, -12345, 77]
    packed = b"".join(struct.pack({2: "<h", 4: "<i", 8: "<q"}[size], p) for p in patterns)
    return torch.frombuffer(bytearray(packed), dtype=dtype).view(3, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_old_bits_are_kept_nan_and_all(dtype: torch.dtype) -> None:
    old = payloads(dtype)
    assert old.isnan().any()
    out = grown(old, Constant(3.0))
    assert torch.equal(bits(out[:3]), bits(old))
    assert (out[NEW] == 3.0).all()
    assert torch.equal(bits(grown(old, Old())[NEW]), bits(old[:2]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_scaled_entries_are_rounded_once(dtype: torch.dtype) -> None:
    old = torch.randn((3, 4), generator=torch.Generator().manual_seed(2)).to(dtype)
    a, b = 1.37, 0.0521
    exact = old.double() * a + b
    assert torch.equal(grown(old, Old(), Old(a, b))[:3], rounded(exact, dtype))
    assert torch.equal(grown(old.double(), Old(), dtype=dtype)[:3], rounded(old.double(), dtype))
    mean = old.double().mean(0, keepdim=True).expand(2, 4) * 3.0
    assert torch.equal(grown(old, Mean(a=3.0))[NEW], rounded(mean, dtype))


def test_means_may_be_weighted() -> None:
    old = torch.arange(12.0).double().view(3, 4)
    weights = torch.tensor([2.0, -1.0, 0.5]).double()
    rewrites = {"w": {"new": Mean("l")}, "l": {"new": Constant(1.0)}}
    step = Step("Growth", "a", 3, 5, (Place(0, 3, 0), Place(3, 2, 0, "new")), rewrites)
    plan = Plan("f", Sizes({"a": 3, "b": 4}), (step,))
    out = torch.empty((5, 4), dtype=torch.float64)
    filler = Filler(plan, lambda block: old if block.slot == "w" else weights)
    filler.fill_(out, BLOCK, (1, 0))
    expected = (weights[:, None] * old).mean(0)
    assert torch.allclose(out[NEW], expected.expand(2, 4), rtol=1e-15)


@settings(max_examples=20)
@given(st.sampled_from(["normal", "uniform", "orthogonal"]), st.integers(1, 30))
def test_free_entries_do_not_depend_on_the_chunk(kind: Any, limit: int) -> None:
    old = torch.randn((3, 4), generator=torch.Generator().manual_seed(2)).double()
    entry = Free(Init(kind), center=True)
    assert torch.equal(grown(old, entry, limit=limit), grown(old, entry, limit=99))


def matched(old: Tensor, entry: Free, kept: Old | None = None) -> tuple[float, float]:
    """Mean and std that free entries are drawn with."""
    out = grown(old, entry, kept)[NEW]
    unit = grown(torch.zeros_like(old), Free(Init(entry.init.kind, 1.0)))[NEW]
    std = ((out[0, 0] - out[0, 1]) / (unit[0, 0] - unit[0, 1])).item()
    return (out[0, 0] - std * unit[0, 0]).item(), std


def test_free_entries_match_what_they_extend() -> None:
    old = torch.randn((3, 4), generator=torch.Generator().manual_seed(2)).double() + 7.0
    mean, std = old.mean().item(), old.std(correction=0).item()
    cases: list[tuple[Free, Old | None, float, float]] = [
        (Free(), None, 0.0, std),
        (Free(center=True), None, mean, std),
        (Free(Init(std=0.3)), None, 0.0, 0.3),
        (Free(Init(std=0.3), center=True), None, mean, 0.3),
        (Free(center=True), Old(-2.0, 1.0), -2.0 * mean + 1.0, 2.0 * std),
        (Free(Init("uniform")), None, 0.0, std),
    ]
    for entry, kept, center, spread in cases:
        assert matched(old, entry, kept) == pytest.approx((center, spread), rel=1e-12, abs=1e-12)


def test_what_extends_zeros_is_spread_all_the_same() -> None:
    assert matched(torch.zeros(3, 4).double(), Free()) == pytest.approx((0.0, FALLBACK_STD))


def test_signs_of_a_stream_cancel() -> None:
    old = torch.randn((3, 4), generator=torch.Generator().manual_seed(2)).double()
    one, two = (grown(old, Free(sign=sign, stream="pair0"))[NEW] for sign in (1.0, -1.0))
    assert torch.equal(one, -two) and one.all()


def test_filling_part_of_a_block() -> None:
    old = torch.randn((3, 4), generator=torch.Generator().manual_seed(2)).double()
    full = grown(old, Free())
    step = Step("Growth", "a", 3, 5, (Place(0, 3, 0), Place(3, 2, 0, "new")), {"w": {"new": Free()}})
    filler = Filler(Plan("f", Sizes({"a": 3, "b": 4}), (step,)), lambda _: old)
    out = torch.empty((3, 2), dtype=torch.float64)
    filler.fill_box_(out, BLOCK, (range(2, 5), range(1, 3)))
    assert torch.equal(out, full[2:5, 1:3])
    before = torch.empty((3, 4), dtype=torch.float64)
    filler.fill_box_(before, BLOCK, whole((3, 4)), steps=0)
    assert torch.equal(before, old)
