"""Any region of a stored tensor holds boxes of its blocks: held against the tensor itself, entry by entry."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from isogrow.layouts.layout import Weight
from isogrow.layouts.pattern import View
from isogrow.numbers.arithmetic import blocked
from isogrow.plans import boxes as geometry
from isogrow.plans.anatomy import Header, Stored
from isogrow.plans.boxes import Held, boxes, chunks, contiguous, lying, slices
from isogrow.plans.parts import view_of
from isogrow.plans.pieces import Block, Box, whole
from isogrow.plans.sizes import Sizes

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
every_pattern = pytest.mark.parametrize("pattern", PATTERNS)


def stored(pattern: str) -> Stored:
    (line,) = Weight("w", pattern, "s.*" if ":" in pattern else "s").lines()
    shape = line.parsed.shape(lambda axis: SIZES.of(axis))
    return Stored("w", line, (), Header(shape, "F64"), "w")


def numbered(found: Stored) -> Tensor:
    """A tensor whose entries all differ."""
    return torch.arange(prod(found.header.shape)).reshape(found.header.shape)


def views(found: Stored) -> dict[Block, View]:
    return {block: view_of(found, part, block, SIZES) for part, block in found.blocks(SIZES)}


@st.composite
def regions(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    """Rectangles that begin and end anywhere, with gaps and without."""
    steps = st.one_of(st.just(1), st.integers(1, 12))
    sides: list[range] = []
    for size in shape:
        start, stop = draw(st.integers(0, size)), draw(st.integers(0, size))
        sides.append(range(min(start, stop), max(start, stop), draw(steps)))
    return tuple(sides)


def wrong(found: Stored, region: Box, held: list[Held]) -> bool:
    """Whether what is held is not what lies in the region, each entry once."""
    full, seen, known = numbered(found), torch.zeros([len(r) for r in region]), views(found)
    local = full[slices(region)].clone()
    for each in held:
        blocked(seen[slices(each.place)], each.view).add_(1)
        own = blocked(local[slices(each.place)], each.view)
        if not torch.equal(own, blocked(full, known[each.block])[slices(each.box)]):
            return True
    return not bool((seen == 1).all())


@every_pattern
@given(data=st.data())
def test_a_region_holds_each_of_its_entries_once(pattern: str, data: st.DataObject) -> None:
    found = stored(pattern)
    region = data.draw(regions(found.header.shape))
    assert not wrong(found, region, list(boxes(found, region, SIZES)))


@every_pattern
@given(data=st.data())
def test_a_box_lies_where_the_region_has_it(pattern: str, data: st.DataObject) -> None:
    """There and back."""
    found = stored(pattern)
    region = data.draw(regions(found.header.shape))
    full, known = numbered(found), views(found)
    counts = [len(dim.factors) for dim in found.line.parsed.dims]
    there = [
        entry
        for held in boxes(found, region, SIZES)
        for box in lying(known[held.block], held.box, counts)
        for entry in full[slices(box)].reshape(-1).tolist()
    ]
    assert sorted(there) == full[slices(region)].reshape(-1).tolist()


@every_pattern
def test_all_of_a_tensor_is_a_box_of_each_block(pattern: str) -> None:
    found = stored(pattern)
    held = list(boxes(found, whole(found.header.shape), SIZES))
    assert [(each.block, each.box) for each in held] == [
        (block, whole(block.shape(SIZES))) for _, block in found.blocks(SIZES)
    ]


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (range(2, 7), [(0, 1, 2, 4), (1, 2, 0, 3)]),  # the rest of a row, and the first of the next
        (range(1, 12), [(0, 1, 1, 4), (1, 3, 0, 4)]),  # rows that are whole are one box
        (range(4, 12), [(1, 3, 0, 4)]),
        (range(1, 12, 2), [(0, 3, 1, 5)]),  # gaps that fall alike in each row
        (range(2, 12, 4), [(0, 3, 2, 6)]),
    ],
)
def test_ranges_of_a_dim_are_few_boxes(region: range, expected: list[tuple[int, int, int, int]]) -> None:
    sizes = Sizes({"a": 3, "b": 4})
    found = Stored("w", next(iter(Weight("w", "-> (a b)", "s").lines())), (), Header((12,), "F64"), "w")
    made = [each.box for each in boxes(found, (region,), sizes)]
    assert [(a.start, a.stop, b.start, b.stop) for a, b in made] == expected


def test_a_region_one_entry_further_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail."""
    found = stored("(a (x: b + y: 1 + z: 1) c) <- d")
    region = (range(3, 41), range(1, 6))
    true = geometry._narrowed

    def shifted(view: View, factors: Box) -> Any:
        for narrow, split in true(view, factors):
            yield narrow and (narrow[0], max(0, narrow[1] - 1), narrow[2]), split

    assert not wrong(found, region, list(boxes(found, region, SIZES)))
    monkeypatch.setattr(geometry, "_narrowed", shifted)
    assert wrong(found, region, list(boxes(found, region, SIZES)))


@every_pattern
@given(limit=st.integers(1, 300))
def test_chunks_in_the_order_of_storage_are_the_tensor(pattern: str, limit: int) -> None:
    full = numbered(stored(pattern))
    found = list(chunks(whole(tuple(full.shape)), tuple(range(full.dim())), limit))
    assert all(1 <= prod(map(len, part)) <= limit for part in found)
    assert torch.equal(torch.cat([full[slices(part)].reshape(-1) for part in found]), full.reshape(-1))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=3),
    st.integers(1, 50),
    st.randoms(use_true_random=False),
)
def test_chunks_tile_a_box_in_any_order(sides: list[tuple[int, int]], limit: int, shuffle: Any) -> None:
    box = tuple(range(start, start + count) for start, count in sides)
    order = list(range(len(box)))
    shuffle.shuffle(order)
    count = torch.zeros([r.stop for r in box], dtype=torch.int)
    for part in chunks(box, tuple(order), limit):
        assert prod(map(len, part)) <= limit
        count[slices(part)] += 1
    assert (count[slices(box)] == 1).all() and int(count.sum()) == prod(map(len, box))


def test_chunks_are_as_large_as_the_limit_allows() -> None:
    found = chunks(whole((30, 28)), (0, 1), 300)
    assert [prod(map(len, part)) for part in found] == [280, 280, 280]


@given(st.data())
def test_boxes_without_gaps_are_the_box(data: st.DataObject) -> None:
    full = torch.arange(6 * 7).reshape(6, 7)
    box = data.draw(regions((6, 7)))
    own = torch.full([len(r) for r in box], -1)
    for place, part in contiguous(box):
        assert all(r.step == 1 for r in part)
        own[slices(place)] = full[slices(part)]
    assert torch.equal(own, full[slices(box)])
