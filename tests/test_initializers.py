"""Free entries: numbers that depend on their key and their place alone, and are spread as they should."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isogrow.errors import SizeError
from isogrow.numbers.initializers import INITIALIZERS, WHOLE_LIMIT, check_whole, sample
from isogrow.numbers.normal import COUNT
from isogrow.plans.boxes import chunks, slices

PINNED = [[-0.14516035440577907, 1.196550525470418], [-1.3202331850956879, -0.09035605512715235]]
QUANTILES = [[1.4225679164528628, 0.05324739922070876], [-1.2954206133090338, 0.8545930269519886]]
BOX_MULLER = [[-1.2384316506005502, 0.19152461136221857], [0.3376977450454289, -0.7456300785281981]]
KINDS = sorted(INITIALIZERS)
SHAPE = (7, 5, 11)
every_kind = pytest.mark.parametrize("kind", KINDS)


def whole(kind: str, key: str, *shape: int) -> np.ndarray:
    return sample(kind, key, shape, tuple(range(n) for n in shape))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[range, ...]:
    bounds = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in SHAPE]
    return tuple(range(*pair) for pair in bounds)


@every_kind
@given(box=boxes())
def test_a_box_is_a_part_of_the_whole(kind: str, box: Any) -> None:
    part = sample(kind, "key", SHAPE, box)
    assert np.array_equal(part, whole(kind, "key", *SHAPE)[slices(box)])


@every_kind
@settings(max_examples=10)
@given(limit=st.integers(9, 99), order=st.permutations(range(3)))
def test_chunks_add_up_bit_by_bit(kind: str, limit: int, order: list[int]) -> None:
    expected, found = whole(kind, "key", *SHAPE), np.zeros(SHAPE)
    for box in chunks(tuple(range(n) for n in SHAPE), tuple(order), limit):
        found[slices(box)] = sample(kind, "key", SHAPE, box)
    assert np.array_equal(found, expected)


@every_kind
def test_other_keys_give_other_numbers(kind: str) -> None:
    drawn = [whole(kind, f"{i}", 13, 17) for i in range(9)]
    for i, one in enumerate(drawn):
        assert np.array_equal(one, whole(kind, f"{i}", 13, 17))
        # of 221 entries one in 2^16 is the same by chance, where so few numbers are drawn
        assert not any((one == other).mean() > 0.02 for other in drawn[:i])


@pytest.mark.parametrize(("kind", "kurtosis"), [("normal", 3.0), ("box-muller", 3.0), ("uniform", 1.8)])
def test_moments(kind: str, kurtosis: float) -> None:
    count = 500_000
    x = whole(kind, "moments", 1000, count // 1000)
    sigma = count**-0.5
    assert abs(x.mean()) < 4 * sigma
    assert abs(x.var() - 1.0) < 4 * sigma * (kurtosis - 1.0) ** 0.5
    assert abs((x**4).mean() - kurtosis) < 4 * sigma * 10
    assert abs((x**3).mean()) < 4 * sigma * 4
    for near in (x[1:] * x[:-1], x[:, 1:] * x[:, :-1], x * whole(kind, "moment", *x.shape)):
        assert abs(near.mean()) < 4 * sigma
    assert len(np.unique(x)) > 0.999 * (COUNT if kind == "normal" else count)


def test_uniform_fills_its_interval_evenly() -> None:
    x = whole("uniform", "even", 300_000)
    assert np.abs(x).max() < 3**0.5
    bins, _ = np.histogram(x, bins=30, range=(-(3**0.5), 3**0.5))
    assert np.abs(bins - 10_000).max() < 500


def test_the_numbers_are_pinned() -> None:
    # These bits are part of every checkpoint that was grown: they may not change between versions.
    assert whole("uniform", "pinned", 2, 2).tolist() == PINNED
    assert whole("normal", "pinned", 2, 2).tolist() == QUANTILES
    assert np.allclose(whole("box-muller", "pinned", 2, 2), BOX_MULLER, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("shape", [(9, 9), (5, 12), (12, 5), (2, 3, 4), (3, 5, 2), (7,), (1, 6)])
def test_orthogonal_is_orthonormal(shape: tuple[int, ...]) -> None:
    x = whole("orthogonal", "key", *shape).reshape(-1, shape[-1])
    small = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    assert np.allclose(small, max(x.shape) * np.eye(len(small)), rtol=0, atol=1e-13 * max(x.shape))
    assert np.isclose((x**2).mean(), 1.0)


def test_orthogonal_is_spread_like_a_random_one() -> None:
    x = whole("orthogonal", "key", 200, 190)
    assert abs((x**4).mean() - 3.0) < 0.3
    assert abs(x.mean()) < 4 / x.size**0.5
    traces = np.array([whole("orthogonal", f"{i}", 30, 30).trace() for i in range(100)]) / 30**0.5
    assert abs(traces.mean()) < 0.4 and abs(traces.var() - 1.0) < 0.6


THREADS = """
import hashlib
from isogrow.numbers.initializers import INITIALIZERS, sample
for kind in INITIALIZERS:
    print(hashlib.sha256(sample(kind, "key", (300, 200), (range(300), range(200))).tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_no_bit_depends_on_the_number_of_threads() -> None:
    found: set[bytes] = set()
    for count in ("1", "2"):
        threads = {f"{library}_NUM_THREADS": count for library in ("OMP", "OPENBLAS", "MKL")}
        run = [sys.executable, "-c", THREADS]
        found.add(subprocess.run(run, env=os.environ | threads, capture_output=True, check=True).stdout)
    assert len(found) == 1 and found.pop().count(b"\n") == len(KINDS)


def test_orthogonal_needs_the_whole_block() -> None:
    shape = (WHOLE_LIMIT // 64 + 1, 64)
    check_whole("normal", shape)
    check_whole("orthogonal", (WHOLE_LIMIT // 64, 64))
    with pytest.raises(SizeError) as refused:
        check_whole("orthogonal", shape)
    assert str(refused.value) == (
        "init 'orthogonal' needs a new block of 16,777,280 entries whole, and at most 16,777,216"
        " are filled at once: choose init 'normal'"
    )
    with pytest.raises(SizeError):
        sample("orthogonal", "key", shape, (range(1), range(1)))


def test_far_corners_of_huge_blocks_are_filled_alone() -> None:
    shape = (1 << 40, 7)
    corner = (range((1 << 40) - 3, 1 << 40), range(7))
    x = sample("normal", "key", shape, corner)
    assert len(np.unique(x)) == 21
    assert np.array_equal(sample("normal", "key", shape, (corner[0][1:], range(2, 5))), x[1:, 2:5])


@every_kind
def test_no_global_random_state_is_touched(kind: str) -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()

    before = states()
    whole(kind, "key", 5, 6)
    assert states() == before
