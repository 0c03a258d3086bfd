"""Slabs tile a stored tensor front to back, and filling them is filling the tensor."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isogrow.anatomy import Header, Stored
from isogrow.arithmetic import Filler, blocked
from isogrow.layout import Weight
from isogrow.pieces import Block
from isogrow.plans import Plan
from isogrow.sizes import Sizes
from isogrow.writing.slabs import fill_slab_, slabs

SIZES = Sizes({"a": 2, "b": 3, "c": 5, "d": 7, "e": 4, "n": 1})
PATTERNS = (
    "a <- b",
    "-> c",
    "* d",
    "(a b) <- c",
    "c -> (a b)",
    "(a b c) <- (d e)",
    "(x: a b + y: c) <- d",
    "d -> (x: a b + y: c + z: 2 e)",
    "(a (x: b + y: 1 + z: 1) c) <- d",
    "(3 a b) <- c",
    "(a 3 b) <- (2 c)",
    "{a} b -> c",
    "{a} c -> (b (x: 1 + y: 1))",
    "{c} (x: a + y: b) -> d",
    "(n a) <- (b)",
)


def stored(pattern: str) -> Stored:
    (line,) = Weight("w", pattern, "s.*" if ":" in pattern else "s").lines()
    shape = line.parsed.shape(lambda axis: SIZES.of(axis))
    return Stored("w", line, (), Header(shape, "F64"), "w")


def identity(found: Stored, limit: int) -> tuple[Filler, torch.Tensor]:
    """A plan that changes nothing, reading a tensor whose entries all differ."""
    whole = torch.arange(prod(found.header.shape), dtype=torch.float64).reshape(found.header.shape)
    parts = {slot.name: part for part, slot in found.line.parts()}

    def read(block: Block) -> torch.Tensor:
        view = found.line.parsed.view(parts[block.slot], dict(block.index), SIZES.of)
        return blocked(whole, view)

    return Filler(Plan("none", SIZES), read, limit), whole


@pytest.mark.parametrize("pattern", PATTERNS)
@given(limit=st.integers(1, 300))
def test_slabs_filled_one_after_the_other_are_the_tensor(pattern: str, limit: int) -> None:
    found = stored(pattern)
    filler, whole = identity(found, limit)
    done: list[torch.Tensor] = []
    for slab in slabs(found, SIZES, limit):
        assert 1 <= slab.count <= limit
        out = torch.full((slab.count,), torch.nan, dtype=torch.float64)
        fill_slab_(out, slab, found, filler, SIZES)
        done.append(out)
    assert torch.equal(torch.cat(done), whole.reshape(-1))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_tensor_within_the_limit_is_one_slab(pattern: str) -> None:
    found = stored(pattern)
    assert len(list(slabs(found, SIZES, prod(found.header.shape)))) == 1


def test_slabs_are_as_large_as_the_limit_allows() -> None:
    counts = [slab.count for slab in slabs(stored("(a b c) <- (d e)"), SIZES, 300)]
    assert counts == [280, 140] * 2  # two of three b's, then the third, of each a
