"""Filling is a pure function: any box of a block, in any order, by any thread, has the bytes of the whole."""

from __future__ import annotations

import random
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from typing import Any

import families as F
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from subjects import weights
from sweeping import examples
from test_arithmetic import bits
from test_boxes import PATTERNS, SIZES, numbered, regions, stored
from torch import Tensor

import isogrow
from isogrow.numbers import filling
from isogrow.numbers.arithmetic import blocked, rounded
from isogrow.numbers.filling import FALLBACK_STD, Read, Stats, fill_, remembered
from isogrow.numbers.statistics import statistics
from isogrow.plans.anatomy import Stored
from isogrow.plans.boxes import chunks, slices
from isogrow.plans.pieces import Block, Box, Draw, pieces, whole
from isogrow.plans.plan import Constant, Entry, Free, Init, Mean, Old, Place, Plan, Step
from isogrow.plans.regions import Region
from isogrow.plans.sizes import Sizes
from isogrow.stores.binding import fill_region_, outputs, reader, viewer
from isogrow.stores.store import StateDict

# ── each kind of entry ──

BLOCK = Block("w", (), ("a", "b"))
NEW = slice(3, None)


def grown(old: Tensor, entry: Entry, kept: Entry | None = None, dtype: Any = None, limit: int = 5) -> Tensor:
    """A 3 x 4 block after a step from a = 3 to 5."""
    rewrites = {"w": {"new": entry, "old": kept or Old()}}
    step = Step("Growth", "a", 3, 5, (Place(0, 3, 0), Place(3, 2, 0, "new")), rewrites)
    plan = Plan("f", Sizes({"a": 3, "b": 4}), (step,))
    return filled(plan, {"w": old}, dtype or old.dtype, limit)


def filled(plan: Plan, old: dict[str, Tensor], dtype: torch.dtype, limit: int = 5) -> Tensor:
    """All of the grown block, box by box."""

    def read(block: Block, box: Box) -> Tensor:
        return old[block.slot][slices(box)]

    stats = statistics(plan, [BLOCK], read)
    out = torch.empty(BLOCK.shape(plan.target), dtype=dtype)
    for box in chunks(whole(tuple(out.shape)), (1, 0), limit):
        fill_(out[slices(box)], BLOCK, box, plan, read, stats)
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
    out = filled(plan, {"w": old, "l": weights}, torch.float64)
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


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("center", [False, True], ids=["bias", "gain"])
def test_a_gain_that_extends_zeros_is_none_itself(value: float, center: bool) -> None:
    """Those of a new branch are 0: new ones before weights that are 0 would never learn. Biases may be 0."""
    step = Step(
        "Growth", "a", 3, 5, (Place(0, 3, 0), Place(3, 2, 0, "new")), {"w": {"new": Free(center=center)}}
    )
    plan, gains = Plan("f", Sizes({"a": 3}), (step,)), Block("w", (), ("a",))
    stats, out = Stats({gains: (value, 0.0)}), torch.empty(2).double()
    fill_(out, gains, (range(3, 5),), plan, lambda block, box: torch.full((3,), value)[slices(box)], stats)
    spread = center and value == 0.0
    assert bool((out != out[0]).any()) == spread
    assert spread or torch.equal(out, torch.full((2,), value if center else 0.0).double())


def test_signs_of_a_stream_cancel() -> None:
    old = torch.randn((3, 4), generator=torch.Generator().manual_seed(2)).double()
    one, two = (grown(old, Free(sign=sign, stream="pair0"))[NEW] for sign in (1.0, -1.0))
    assert torch.equal(one, -two) and one.all()


def test_a_block_after_some_of_the_steps() -> None:
    old = torch.randn((3, 4), generator=torch.Generator().manual_seed(2)).double()
    step = Step("Growth", "a", 3, 5, (Place(0, 3, 0), Place(3, 2, 0, "new")), {"w": {"new": Free()}})
    before, plan = torch.empty((3, 4), dtype=torch.float64), Plan("f", Sizes({"a": 3, "b": 4}), (step,))
    fill_(before, BLOCK, whole((3, 4)), plan, lambda _, box: old[slices(box)], Stats(), steps=0)
    assert torch.equal(before, old)


# ── any box, region, order and thread ──

INITS = ("normal", "uniform", "orthogonal", "copy", "test_filling.noisy")
GROWN = ("bloom", "gpt2", "mixtral", "stablelm")  # copies and streams, means, stacked experts, heads by name


def noisy(region: Region) -> np.ndarray:
    """A user's function, which makes regions whole."""
    return region.mean + region.std * np.random.default_rng(region.seed).standard_normal(region.shape)


isogrow.register_initializer("test_filling.noisy", noisy)


class Growth:
    """A family grown in all that it grows in together; what is `whole` is filled at one go."""

    def __init__(self, name: str, kind: str) -> None:
        subject = F.subject(F.FAMILIES[name])
        self.plan = subject.plan(F.FAMILIES[name].together, init=Init(kind))
        self.stored = outputs(subject.anatomy, self.plan)
        state = weights(subject.anatomy)
        self.read: Read = reader(subject.anatomy, StateDict(state))
        self.blocks = [block for each in self.stored for _, block in each.blocks(self.plan.target)]
        self.stats = statistics(self.plan, self.blocks, self.read)
        self.whole = {each.name: self.region(each, whole(each.header.shape)) for each in self.stored}

    def region(self, each: Stored, region: Box, dtype: torch.dtype = torch.float64) -> Tensor:
        out = torch.full([len(r) for r in region], torch.nan, dtype=dtype)
        fill_region_(out, each, region, self.plan, self.read, self.stats)
        return out


growth = cache(Growth)
every_growth = pytest.mark.parametrize(
    ("name", "kind"),
    [("gpt2", kind) for kind in INITS] + [(name, "normal") for name in GROWN if name != "gpt2"],
)


@pytest.mark.slow
@every_growth
@settings(max_examples=examples(80), deadline=None)
@given(data=st.data())
def test_any_box_of_any_block_is_a_part_of_the_whole(name: str, kind: str, data: st.DataObject) -> None:
    made = growth(name, kind)
    block = data.draw(st.sampled_from(made.blocks))
    shape = block.shape(made.plan.target)
    box = data.draw(regions(shape))
    full, part = (torch.full([len(r) for r in b], torch.nan).double() for b in (whole(shape), box))
    for out, own in ((full, whole(shape)), (part, box)):
        fill_(out, block, own, made.plan, made.read, made.stats)
    assert torch.equal(part, full[slices(box)])
    assert not full.isnan().any()


@every_growth
@settings(max_examples=examples(80), deadline=None)
@given(data=st.data())
def test_any_region_of_a_tensor_is_a_part_of_the_whole(name: str, kind: str, data: st.DataObject) -> None:
    """A slab, a rank's shard, an item of a distributed checkpoint; in the dtype in which it is stored."""
    made = growth(name, kind)
    each = data.draw(st.sampled_from(made.stored))
    region = data.draw(regions(each.header.shape))
    assert torch.equal(made.region(each, region), made.whole[each.name][slices(region)])
    half = made.region(each, region, torch.bfloat16)
    assert torch.equal(half, rounded(made.whole[each.name], torch.bfloat16)[slices(region)])


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS)
@given(limit=st.integers(1, 300), data=st.data())
def test_regions_of_any_pattern_are_filled(pattern: str, limit: int, data: st.DataObject) -> None:
    """A plan that changes nothing gives the tensor back, whatever its order in storage."""
    each, plan = stored(pattern), Plan("none", SIZES)
    full = numbered(each).double()
    parts = {slot.name: part for part, slot in each.line.parts()}

    def read(block: Block, box: Box) -> Tensor:
        view = each.line.parsed.view(parts[block.slot], dict(block.index), SIZES.of)
        return blocked(full, view)[slices(box)]

    out = torch.full(full.shape, torch.nan, dtype=torch.float64)
    some = list(chunks(whole(each.header.shape), tuple(range(full.dim())), limit))
    for region in data.draw(st.permutations(some)) if len(some) < 20 else some:
        fill_region_(out[slices(region)], each, region, plan, read, Stats())
    assert torch.equal(out, full)


@pytest.mark.slow
@every_growth
def test_threads_fill_one_tensor_each_a_part(name: str, kind: str) -> None:
    made, rng = growth(name, kind), random.Random(3)
    out = {each.name: torch.full(each.header.shape, torch.nan).double() for each in made.stored}
    work = [
        (each, region)
        for each in made.stored
        for region in chunks(whole(each.header.shape), tuple(range(len(each.header.shape))), 1500)
    ]
    assert len(work) > 2 * len(made.stored)
    rng.shuffle(work)

    def fill(item: tuple[Stored, Box]) -> None:
        each, region = item
        fill_region_(out[each.name][slices(region)], each, region, made.plan, made.read, made.stats)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, work))
    assert all(torch.equal(x, made.whole[key]) for key, x in out.items())


@pytest.mark.parametrize("kind", ["orthogonal", "test_filling.noisy"])
def test_regions_that_are_remembered_change_no_bit(kind: str) -> None:
    made = growth("gpt2", kind)
    for each in made.stored[:8]:
        drawings, out = remembered(made.plan, made.read, made.stats), torch.empty(each.header.shape).double()
        for part in chunks(whole(each.header.shape), tuple(range(out.dim())), 90):
            fill_region_(out[slices(part)], each, part, made.plan, made.read, made.stats, drawings)
        assert torch.equal(out, made.whole[each.name])


def test_a_box_one_entry_further_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: numbers that were counted along the box, and not along the block."""
    made, true = growth("gpt2", "normal"), filling.pieces
    block = next(b for b in made.blocks if b.slot == "mlp.up" and _draws(made, b))
    shape = block.shape(made.plan.target)
    box = (range(1, shape[0]), range(1, shape[1]))
    full, part = torch.empty(shape).double(), torch.empty([len(r) for r in box]).double()
    fill_(full, block, whole(shape), made.plan, made.read, made.stats)

    def from_its_corner(plan: Plan, block: Block, box: Box, steps: int | None) -> Any:
        return true(plan, block, whole(tuple(map(len, box))), steps)

    monkeypatch.setattr(filling, "pieces", from_its_corner)
    fill_(part, block, box, made.plan, made.read, made.stats)
    assert not torch.equal(part, full[slices(box)])


def _draws(made: Growth, block: Block) -> bool:
    box = whole(block.shape(made.plan.target))
    return any(isinstance(piece.value, Draw) for piece in pieces(made.plan, block, box))


# ── what is read ──


@every_growth
def test_a_box_reads_no_more_than_it_holds(name: str, kind: str) -> None:
    """Old entries are fetched for the box alone: for as many of its own entries at the most."""
    made = growth(name, kind)
    for block in made.blocks:
        box = tuple(range(len(r) // 3, len(r)) for r in whole(block.shape(made.plan.target)))
        fetched = list[int]()

        def read(block: Block, box: Box, fetched: list[int] = fetched) -> Tensor:
            fetched.append(prod(map(len, box)))
            return made.read(block, box)

        out = torch.empty([len(r) for r in box]).double()
        fill_(out, block, box, made.plan, read, made.stats)
        assert sum(fetched) <= out.numel()


def test_what_a_reader_reads_is_a_box_of_what_a_viewer_shows() -> None:
    subject = F.subject(F.FAMILIES["mixtral"])
    state = weights(subject.anatomy)
    read, view = reader(subject.anatomy, StateDict(state)), viewer(subject.anatomy, state.__getitem__)
    for block in (b for each in subject.anatomy.stored for _, b in each.blocks(subject.anatomy.sizes)):
        full = view(block)
        box = tuple(range(n // 2, n) for n in full.shape)
        assert torch.equal(read(block, box), full[slices(box)])
        assert read(block, box).data_ptr() == full[slices(box)].data_ptr()
