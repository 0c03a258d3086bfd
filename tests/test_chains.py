"""Chains of growths: exact in any order, the same however they are cut, chunked, threaded or ordered.

plan(a, then b) = plan(a) then plan(b)      restrict(grow(x)) = x      all interpreters agree
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from living import agree, observed, predicted
from subjects import EXACT, anatomy, blocks, change, rng, tokens, trained, weights
from torch import Tensor

import isogrow
from isogrow.growth.models import anatomy_of
from isogrow.interpreters import oracle as reference
from isogrow.interpreters.module import grow_module
from isogrow.laws import horizon
from isogrow.layouts.config import edited
from isogrow.numbers.statistics import statistics
from isogrow.paper import Config, HeadConfig, LayerConfig, Transformer, build
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.boxes import chunks, slices
from isogrow.plans.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    LayerAddition,
    MlpExpansion,
)
from isogrow.plans.matching import match
from isogrow.plans.pieces import Block, Draw, moved, pieces, whole
from isogrow.plans.plan import OLD, Init, Old, Plan
from isogrow.stores.binding import fill_region_, outputs, reader
from isogrow.stores.store import StateDict

SMALL = Config(
    vocab=13,
    positions=6,
    hidden=5,
    out=7,
    layers=(LayerConfig(8, (HeadConfig(2, 3),)), LayerConfig(9, (HeadConfig(4, 11),))),
    eps=0.01,
    causal=True,
)


@dataclass(frozen=True)
class Link:
    """One growth of a chain; `pick` chooses where, `more` how much; `steps` of training come before."""

    kind: Any
    pick: int
    more: int
    everywhere: bool
    steps: int
    optimizer: Any

    def expansion(self, config: Config) -> Expansion:
        """The growth that is meant in a model of these sizes."""
        heads = [(n, e) for n, layer in enumerate(config.layers) for e in range(len(layer.heads))]
        layer, head = heads[self.pick % len(heads)]
        site = (None, None) if self.everywhere else (layer, head)
        size = f"+{self.more}"
        if self.kind is HiddenExpansion:
            return HiddenExpansion(size)
        if self.kind is LayerAddition:
            return LayerAddition("+1", (self.pick % (len(config.layers) + 1),))
        if self.kind is MlpExpansion:
            return MlpExpansion(size, site[0])
        if self.kind is HeadAddition:
            return HeadAddition("+1", layer=site[0])
        return self.kind(size, *site)


KINDS = (MlpExpansion, HeadAddition, HeadsExpansion, AttentionExpansion, HiddenExpansion, LayerAddition)
links = st.builds(
    Link,
    kind=st.sampled_from(KINDS),
    pick=st.integers(0, 99),
    more=st.integers(1, 5),
    everywhere=st.booleans(),
    steps=st.integers(0, 3),
    optimizer=st.sampled_from([torch.optim.SGD, torch.optim.Adam]),
)
chains = st.lists(links, min_size=1, max_size=8)


def resolved(chain: list[Link]) -> list[Expansion]:
    """The chain's expansions, each at a site that is there by then."""
    config, found = SMALL, list[Expansion]()
    for link in chain:
        found.append(link.expansion(config))
        if isinstance(found[-1], LayerAddition):
            config = replace(config, layers=(*config.layers, config.layers[0]))
    return found


def train_(model: Transformer, link: Link) -> None:
    """A few real steps, so that every entry moves."""
    ids = tokens(model.config)
    wanted = torch.randn((*ids.shape, model.config.out), generator=rng(link.pick)).double()
    optimizer = link.optimizer(model.parameters(), lr=1e-2)
    for _ in range(link.steps):
        optimizer.zero_grad()
        (model(ids) - wanted).square().mean().backward()
        optimizer.step()


# Exact, and alive


@pytest.mark.slow
@settings(max_examples=10)
@given(chains)
def test_chains_interleaved_with_training_are_exact(chain: list[Link]) -> None:
    model = trained(SMALL)
    for seed, link in enumerate(chain):
        train_(model, link)
        large = isogrow.grow(model, link.expansion(model.config), seed=seed)
        assert change(model, large) < EXACT
        model = large


@settings(max_examples=10)
@given(chains, st.integers(0, 99))
def test_chains_in_one_plan_are_exact(chain: list[Link], seed: int) -> None:
    small = trained(SMALL, seed)
    assert change(small, isogrow.grow(small, *resolved(chain), seed=seed)) < EXACT


@settings(max_examples=8)
@given(st.lists(links, min_size=1, max_size=4))
def test_chains_wake_when_the_plan_says(chain: list[Link]) -> None:
    small = trained(SMALL)
    found = anatomy_of(small)
    made = plan(found, resolved(chain), Init(std=0.5))
    large = grow_module(small, found, made, build)
    assert isinstance(large, Transformer)
    assert agree(predicted(found, made), *observed(large, passes=horizon(found, made)))


# No two blocks draw the same numbers


def keys(made: Plan, found: Anatomy) -> list[str]:
    """The key of every free region of a grown model, once for each block that draws it."""
    drawn: set[tuple[str, Block]] = set()
    for stored in outputs(found, made):
        for _, block in stored.blocks(made.target):
            values = [piece.value for piece in pieces(made, block, whole(block.shape(made.target)))]
            drawn |= {(value.key, block) for value in values if isinstance(value, Draw)}
    return [key for key, _ in drawn]


@settings(max_examples=10)
@given(chains)
def test_no_two_blocks_share_random_numbers(chain: list[Link]) -> None:
    found = anatomy_of(trained(SMALL))
    drawn = keys(plan(found, resolved(chain)), found)
    assert len(set(drawn)) == len(drawn)


def test_a_layer_that_takes_the_place_of_another_has_its_own_numbers() -> None:
    found = anatomy_of(trained(SMALL))
    first = MlpExpansion(12, 1)
    drawn = keys(plan(found, [MlpExpansion(9), first, LayerAddition("+1", (1,)), first]), found)
    assert len(set(drawn)) == len(drawn)


# However it is cut

SPREAD = Init(std=0.5)  # "match" would see the tensors between two plans


@pytest.mark.slow
@settings(max_examples=10)
@given(chains, st.integers(0, 8))
def test_a_plan_and_then_another_are_one_plan(chain: list[Link], cut: int) -> None:
    small, wanted = trained(SMALL), resolved(chain)
    found = anatomy_of(small)
    whole_plan = plan(found, wanted, SPREAD)
    first = plan(found, wanted[:cut], SPREAD)
    middle = grow_module(small, found, first, build)
    second = plan(anatomy_of(middle), wanted[cut:], SPREAD)
    assert first.then(second) == whole_plan
    twice = grow_module(middle, anatomy_of(middle), second, build).state_dict()
    once = grow_module(small, found, whole_plan, build).state_dict()
    for stored in outputs(found, whole_plan):
        fixed = ~centered(whole_plan, next(stored.blocks(whole_plan.target))[1])
        a, b = once[stored.name].squeeze(), twice[stored.name].squeeze()
        a, b = (a[fixed], b[fixed]) if fixed.dim() == 1 else (a, b)
        assert torch.allclose(a, b, rtol=4e-15, atol=0.0), stored.name


def centered(made: Plan, block: Block) -> Tensor:
    """The entries drawn around the mean of the tensor that they extend: two plans see two tensors."""
    shape = block.shape(made.target)
    mask = torch.zeros(shape, dtype=torch.bool)
    for piece in pieces(made, block, whole(shape)):
        if isinstance(piece.value, Draw) and piece.value.center:
            mask[tuple(slice(r.start, r.stop, r.step) for r in piece.out)] = True
    return mask


def test_plans_that_do_not_meet_are_refused() -> None:
    found = anatomy_of(trained(SMALL))
    made = plan(found, [MlpExpansion("+1")])
    with pytest.raises(isogrow.IsogrowError, match="does not start at the sizes where the first"):
        made.then(made)


@pytest.mark.slow
@settings(max_examples=10)
@given(chains)
def test_what_is_old_comes_back(chain: list[Link]) -> None:
    small = trained(SMALL)
    found = anatomy_of(small)
    made = plan(found, resolved(chain))
    large = grow_module(small, found, made, build)
    old = blocks(found, small.state_dict())
    back = restricted(made, blocks(anatomy_of(large), large.state_dict()))
    assert back.keys() == old.keys()
    for block, x in old.items():
        scale = factor(made, block)
        if scale == 1.0:
            assert torch.equal(bits(back[block]), bits(x)), block
        else:
            assert torch.allclose(back[block] / scale, x, rtol=4e-15, atol=0.0), block


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int64)


def restricted(made: Plan, grown: dict[Block, Tensor]) -> dict[Block, Tensor]:
    """The old entries of a grown model, where they were: every step undone, the last one first."""
    now = grown
    for step in reversed(made.steps):
        before: dict[Block, Tensor] = {}
        for block, x in now.items():
            at = dict(block.index).get(step.axis)
            if not step.at(block.index) or (at is None and step.axis not in block.axes):
                before[block] = x
            elif at is not None:
                source, label = step.source(at)
                if label.startswith(OLD):
                    before[moved(block, step.axis, source)] = x
            else:
                kept = [(p.source + i, at) for p in step.places if p.old for i, at in enumerate(p.positions)]
                order = torch.tensor([at for _, at in sorted(kept)])
                before[block] = x.index_select(block.axes.index(step.axis), order)
        now = before
    return now


def factor(made: Plan, block: Block) -> float:
    """What a plan scales the old entries of a block of the paper's model by."""
    scale = 1.0
    index = dict(block.index)
    for step in made.steps:
        if not step.at(tuple(index.items())):
            continue
        entry = step.entry(block.slot, OLD)
        assert isinstance(entry, Old) and entry.b == 0.0
        scale *= entry.a
        if step.axis in index:
            sources = {step.source(p)[0]: p for p in range(step.new) if step.source(p)[1] == OLD}
            index[step.axis] = sources[index[step.axis]]
    return scale


# However it is interpreted

GATED = dict(
    vocab_size=11, hidden_size=7, intermediate_size=5, num_hidden_layers=1, num_attention_heads=6,
    num_key_value_heads=3, head_dim=4,
)  # fmt: skip
GPT2 = dict(
    vocab_size=11, n_embd=6, n_inner=5, n_layer=2, n_head=3, n_positions=7,
    scale_attn_by_inverse_layer_idx=True,
)  # fmt: skip
BERT = dict(
    vocab_size=11, hidden_size=6, intermediate_size=5, num_hidden_layers=1, num_attention_heads=3,
    max_position_embeddings=7,
)  # fmt: skip
WIDE = [HiddenExpansion(9), HeadAddition(12, 4), MlpExpansion(11), LayerAddition("+1", (0,))]
ALL = [
    ("qwen2", GATED, [*WIDE, AttentionExpansion(6), HeadsExpansion(6), HiddenExpansion(10)]),
    ("qwen3", GATED, [*WIDE, AttentionExpansion(8), HeadsExpansion(8), HiddenExpansion(10)]),
    ("gpt2", GPT2, [HeadAddition(5), HiddenExpansion(10), LayerAddition("+2", "even"), MlpExpansion(8)]),
    ("bert", BERT, [HiddenExpansion(24), HeadAddition(12), MlpExpansion(8)]),
]
every_family = pytest.mark.parametrize(("family", "config", "wanted"), ALL, ids=[a[0] for a in ALL])
State = dict[str, Tensor]


def filled(found: Anatomy, made: Plan, state: State, limit: int = 1 << 21, order: int | None = None) -> State:
    """Every grown tensor, filled in regions of at most `limit` entries, in one of many orders."""
    read, stored = reader(found, StateDict(state)), list(outputs(found, made))
    stats = statistics(made, (block for one in stored for _, block in one.blocks(made.target)), read)
    regions = [
        (one, part)
        for one in stored
        for part in chunks(whole(one.header.shape), tuple(range(len(one.header.shape))), limit)
    ]
    if order is not None:
        random.Random(order).shuffle(regions)
    made_now = {one.name: torch.empty(one.header.shape, dtype=torch.float64) for one in stored}
    for one, part in regions:
        fill_region_(made_now[one.name][slices(part)], one, part, made, read, stats)
    return made_now


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(x, other[name]) for name, x in one.items())


def agrees_with_the_oracle(found: Anatomy, made: Plan, state: State, grown: State) -> Iterator[Block]:
    """Blocks that are not what the slow interpreter makes of them."""
    oracle = reference.grow(made, {b: x.numpy() for b, x in blocks(found, state).items()})
    config = edited(found.config, made.config)
    headers = {one.name: one.header for one in outputs(found, made)}
    now = blocks(match(found.layout, config, headers), grown)
    assert now.keys() == oracle.keys()
    for block, x in now.items():
        if not np.allclose(x.numpy(), oracle[block], rtol=1e-12, atol=1e-14):
            yield block


@pytest.mark.slow
@every_family
@pytest.mark.parametrize("kind", ["normal", "uniform", "copy", "orthogonal"])
def test_interpreters_agree(family: str, config: dict[str, Any], wanted: list[Expansion], kind: Any) -> None:
    found = anatomy(family, **config)
    made = plan(found, wanted, Init(kind))
    state = weights(found)
    grown = filled(found, made, state)
    assert list(agrees_with_the_oracle(found, made, state, grown)) == []
    grown[next(reversed(grown))].view(-1)[-1] += 1e-9
    assert len(list(agrees_with_the_oracle(found, made, state, grown))) == 1


@pytest.mark.slow
@settings(max_examples=10)
@given(chains, st.integers(0, 99))
def test_interpreters_agree_on_chains(chain: list[Link], seed: int) -> None:
    small = trained(SMALL)
    found = anatomy_of(small)
    made = plan(found, resolved(chain), seed=seed)
    state = small.state_dict()
    grown = filled(found, made, state)
    assert list(agrees_with_the_oracle(found, made, state, grown)) == []
    assert same(grown, grow_module(small, found, made, build).state_dict())
    assert same(grown, filled(found, made, state, limit=17, order=seed))


@pytest.mark.slow
@every_family
def test_no_bit_depends_on_chunks_threads_or_order(
    family: str, config: dict[str, Any], wanted: list[Expansion]
) -> None:
    found = anatomy(family, **config)
    made = plan(found, wanted)
    state = weights(found)
    grown = filled(found, made, state)
    for limit in (3, 17, 1000):
        assert same(grown, filled(found, made, state, limit)), limit
    assert same(grown, filled(found, made, state, order=1))
    torch.set_num_threads(2)
    try:
        assert same(grown, filled(found, made, state, limit=1000))
    finally:
        torch.set_num_threads(1)
    assert not same(grown, filled(found, plan(found, wanted, seed=1), state))
