"""The first pass: what is found depends on no order of storage, and can be sent away as data."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import pairwise
from math import prod

import families as F
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from subjects import weights
from torch import Tensor

from isogrow.errors import CheckpointError
from isogrow.numbers.filling import Read, Stats, fill_
from isogrow.numbers.statistics import FIXED, mean_and_std, statistics
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.boxes import slices
from isogrow.plans.pieces import Average, Block, Box, Draw, pieces, whole
from isogrow.plans.plan import Init, Plan, StdOf
from isogrow.plans.taking import PARTS, SAMPLED, summed
from isogrow.stores.binding import outputs, reader
from isogrow.stores.store import StateDict

AXES = ("a", "b", "c")
WITH_MEANS = ("gpt2", "olmo", "dinov2")  # a LayerNorm's residual grows by means, an RMSNorm's by zeros


def measured(x: Tensor, std_of: StdOf = "all") -> tuple[float, float]:
    block = Block("w", (), AXES[: x.dim()])
    return mean_and_std(lambda _, box: x[slices(box)], block, summed(tuple(x.shape), FIXED, std_of))


# ── of one block ──


@pytest.mark.parametrize("shape", [(7,), (5, 3), (FIXED // 100, 101, 3), (1, 3 * FIXED // 5, 2)])
def test_mean_and_std(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3 + 5
    mean, std = measured(x)
    assert mean == pytest.approx(x.mean().item(), rel=1e-12)
    assert std == pytest.approx(x.std(correction=0).item(), rel=1e-12)
    back = tuple(reversed(range(x.dim())))
    assert measured(x.permute(back).contiguous().permute(back)) == (mean, std)
    torch.set_num_threads(2)
    try:
        assert measured(x) == (mean, std)
    finally:
        torch.set_num_threads(1)
    narrow = x.to(torch.bfloat16)
    assert measured(narrow) == measured(narrow.double())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    x = torch.ones(5, 3)
    x[2, 1] = value
    with pytest.raises(CheckpointError, match="w holds numbers that are not finite, and new entries take"):
        measured(x)


@pytest.mark.parametrize("shape", [(FIXED // 100, 101, 3), (2, FIXED // 50, 75), (1, 3 * FIXED)])
def test_mean_and_std_read_each_entry_once_and_few_at_a_time(shape: tuple[int, ...]) -> None:
    """A row that has more is cut, as that of a shared expert, which is the only one."""
    x, boxes = torch.arange(prod(shape), dtype=torch.float64).view(shape), list[Box]()

    def read(block: Block, box: Box) -> Tensor:
        boxes.append(box)
        return x[slices(box)]

    mean_and_std(read, Block("w", (), AXES[: len(shape)]), summed(shape, FIXED, "all"))
    assert torch.equal(torch.cat([x[slices(box)].reshape(-1) for box in boxes]), x.reshape(-1))
    assert len(boxes) > 1 and all(x[slices(box)].numel() <= FIXED for box in boxes)


# ── of a sample of one block ──


@given(st.lists(st.integers(1, 38), min_size=1, max_size=4), st.integers(SAMPLED + 1, 4 * SAMPLED))
def test_a_sample_is_spread_over_all_of_a_block(lead: list[int], most: int) -> None:
    """One run in each stretch, none twice, and about as many entries together as are asked for."""
    shape = (*lead, -(-most // prod(lead)))
    if len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    boxes = list(summed(shape, FIXED))
    if prod(shape) <= SAMPLED:
        assert boxes == list(summed(shape, FIXED, "all"))
        return
    flat = np.arange(prod(shape), dtype=np.int64).reshape(shape)
    runs = [flat[slices(box)].reshape(-1) for box in boxes]
    assert all(run[-1] - run[0] + 1 == len(run) for run in runs), "in logical order each is a run"
    assert all(one[-1] < two[0] for one, two in pairwise(runs))
    assert len(runs) == PARTS and SAMPLED / 2 <= sum(map(len, runs)) <= 2 * SAMPLED
    stretch = prod(shape) / PARTS
    assert all(abs(run[0] / stretch - i) < 2 for i, run in enumerate(runs))


def test_a_sample_has_the_std_of_its_block() -> None:
    """Within five standard errors, also where it differs from channel to channel alike in all heads."""
    x = torch.randn(40, 64, 500, generator=torch.Generator().manual_seed(2)) * 3 + 5
    assert prod(x.shape) > 2 * SAMPLED
    error = (2 * SAMPLED) ** -0.5
    mean, std = measured(x, "sample")
    assert (mean, std) != measured(x)
    assert std == pytest.approx(3, rel=5 * error) and mean == pytest.approx(5, abs=5 * 3 * SAMPLED**-0.5)
    by_channel = x * torch.arange(64)[:, None]
    assert measured(by_channel, "sample")[1] == pytest.approx(measured(by_channel)[1], rel=0.1)
    back = x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert measured(back, "sample") == (mean, std)


# ── of a growth ──


def growth(name: str, init: Init | None = None) -> tuple[Anatomy, Plan, Read, list[Block]]:
    """A family grown in all that it grows in together."""
    subject = F.subject(F.FAMILIES[name])
    plan = subject.plan(F.FAMILIES[name].together, init=init or Init())
    state = weights(subject.anatomy)
    blocks = [b for s in outputs(subject.anatomy, plan) for _, b in s.blocks(plan.target)]
    return subject.anatomy, plan, reader(subject.anatomy, StateDict(state)), blocks


def taken(plan: Plan, blocks: list[Block]) -> Iterator[Draw | Average]:
    """What boxes of blocks take of old ones as a whole."""
    for block in blocks:
        for piece in pieces(plan, block, whole(block.shape(plan.target))):
            if isinstance(piece.value, Draw | Average):
                yield piece.value


@pytest.mark.parametrize("name", (*WITH_MEANS, "t5"))
def test_what_is_taken_is_found(name: str) -> None:
    anatomy, plan, read, blocks = growth(name)
    stats = statistics(plan, blocks, read)
    old = {block: read(block, whole(block.shape(plan.source))) for block in stats.matched}
    assert {value.like for value in taken(plan, blocks) if isinstance(value, Draw)} <= old.keys()
    for block, x in old.items():
        assert stats.matched[block] == pytest.approx((float(x.mean()), float(x.std(correction=0))), rel=1e-9)
    first = [average for average in stats.means if average.steps == 0 and not average.weights]
    assert bool(first) == (name != "t5")
    for average in first:
        exact = read(average.block, average.box).mean(average.dim, keepdim=True)
        assert torch.allclose(stats.means[average], exact, rtol=1e-12, atol=1e-14)


def test_nothing_is_read_for_a_std_that_is_given() -> None:
    _, plan, _, blocks = growth("llama", Init(std=0.3))
    gains = [block for block in blocks if "norm" in block.slot]

    def refuse(block: Block, box: Box) -> Tensor:
        raise AssertionError(f"{block} is read")

    rest = [block for block in blocks if block not in gains]
    assert statistics(plan, rest, refuse) == Stats()
    with pytest.raises(AssertionError, match="is read"):
        statistics(growth("llama")[1], rest, refuse)


@pytest.mark.slow
@pytest.mark.parametrize("name", (*WITH_MEANS, "t5"))
def test_what_is_given_is_not_made_anew(name: str) -> None:
    _, plan, read, blocks = growth(name)
    stats, again = statistics(plan, blocks, read), list[Block]()

    def counted(block: Block, box: Box) -> Tensor:
        again.append(block)
        return read(block, box)

    found = statistics(plan, blocks, counted, stats)
    assert not again and found.matched == stats.matched
    assert all(found.means[average] is x for average, x in stats.means.items())
    some = statistics(plan, blocks, counted, Stats(stats.matched))
    assert bool(again) == bool(stats.means) and some.means.keys() == stats.means.keys()


@pytest.mark.parametrize("name", ["gpt2", "bloom"])
def test_block_by_block_is_all_at_once(name: str) -> None:
    """So each rank, or each tensor of a file, may ask for what its own blocks take."""
    _, plan, read, blocks = growth(name)
    stats = statistics(plan, blocks, read)
    for block in blocks:
        own = statistics(plan, [block], read)
        assert own.matched.items() <= stats.matched.items()
        assert all(torch.equal(x, stats.means[average]) for average, x in own.means.items())


@pytest.mark.parametrize("name", ["gpt2", "bloom"])
def test_statistics_can_be_sent_away(name: str) -> None:
    _, plan, read, blocks = growth(name)
    stats = statistics(plan, blocks, read)
    sent: Stats = pickle.loads(pickle.dumps(stats))
    for block in blocks:
        one, two = (filled(block, plan, read, each) for each in (stats, sent))
        assert torch.equal(one, two)


def test_other_statistics_give_other_numbers() -> None:
    """The tests above can fail."""
    _, plan, read, blocks = growth("gpt2")
    stats = statistics(plan, blocks, read)
    wrong = Stats({block: (m, 2 * s) for block, (m, s) in stats.matched.items()}, stats.means)
    shifted = Stats(stats.matched, {average: x + 1 for average, x in stats.means.items()})
    for other in (wrong, shifted):
        assert not all(
            torch.equal(filled(b, plan, read, stats), filled(b, plan, read, other)) for b in blocks
        )
    with pytest.raises(KeyError):
        [filled(block, plan, read, Stats()) for block in blocks]


def filled(block: Block, plan: Plan, read: Read, stats: Stats) -> Tensor:
    out = torch.empty(block.shape(plan.target), dtype=torch.float64)
    fill_(out, block, whole(tuple(out.shape)), plan, read, stats)
    return out
