"""Theorems 3.1-3.6 of arXiv 2308.06103, grown by the planner and held against the literal oracle.

For each: exact at every site, equal to the oracle wherever the theorem leaves nothing free, refused and
really broken without its switch or its scale, and alive in the very steps that Law 2 computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import paper
import pytest
import torch
from living import NEVER, agree, observed, predicted
from subjects import BROKEN, EXACT, LAYERS, OPTIONS, PAPER, change, rng, trained
from torch import Tensor

import isogrow
from isogrow import laws
from isogrow.errors import LawError, SizeError
from isogrow.growth.models import anatomy_of
from isogrow.interpreters.module import grow_module
from isogrow.laws.building import network
from isogrow.paper import Config, Transformer, build
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    LayerAddition,
    MlpExpansion,
)
from isogrow.plans.plan import OLD, Constant, Entry, Free, Init, Old, Plan, Step

FFN, VALUE_DIM, KEY_DIM, HIDDEN = 27, 16, 18, 25
FREE = Free(Init(std=1.0))  # the oracle's free blocks are N(0, 1), gains too
EVERY_LAYER = range(len(LAYERS))
EVERY_HEAD = [(n, e) for n, layer in enumerate(LAYERS) for e in range(len(layer.heads))]

both = pytest.mark.parametrize("config", [PAPER, OPTIONS], ids=["paper", "eps-causal"])
every_layer = pytest.mark.parametrize("layer", EVERY_LAYER)
every_head = pytest.mark.parametrize("where", EVERY_HEAD)


@dataclass(frozen=True)
class Theorem:
    """One transformation at one site: in our words, and in the oracle's."""

    expansion: Expansion
    oracle: str
    where: Any
    size: Any
    switches: tuple[str, ...]
    scaled: tuple[str, ...] = ()


def mlp(layer: int) -> Theorem:
    return Theorem(MlpExpansion(FFN, layer), "mlp_expansion", layer, FFN, ("mlp.down",))


def head(layer: int) -> Theorem:
    size = LAYERS[layer].heads[0]  # the new head has the sizes of the one it extends
    return Theorem(HeadAddition("+1", layer=layer), "head_addition", layer, size, ("attn.o",))


def heads(where: tuple[int, int]) -> Theorem:
    made = HeadsExpansion(VALUE_DIM, *where)
    return Theorem(made, "heads_expansion", where, VALUE_DIM, ("attn.o",))


def attention(where: tuple[int, int]) -> Theorem:
    made = AttentionExpansion(KEY_DIM, *where)
    return Theorem(made, "attention_expansion", where, KEY_DIM, ("attn.k",), ("attn.k",))


def hidden() -> Theorem:
    writers = ("embed", "positions", "attn.o", "mlp.down", "mlp.down.bias")
    gains = ("attn_norm", "mlp_norm")
    return Theorem(HiddenExpansion(HIDDEN), "hidden_expansion", None, HIDDEN, writers, gains)


def layer(position: int) -> Theorem:
    size = LAYERS[max(position - 1, 0)]  # the new layer has the sizes of the one it extends
    writers = ("attn.o", "mlp.down", "mlp.down.bias")
    return Theorem(LayerAddition("+1", (position,)), "layer_addition", position, size, writers)


EVERY = [mlp(1), head(0), heads((1, 2)), attention((0, 1)), hidden(), layer(1)]
every_theorem = pytest.mark.parametrize("theorem", EVERY, ids=lambda t: t.oracle)


# Exact, and what the paper writes


@both
@every_layer
def test_theorem_3_1_mlp_expansion(config: Config, layer: int) -> None:
    holds(config, mlp(layer))


@both
@every_layer
def test_theorem_3_2_head_addition(config: Config, layer: int) -> None:
    holds(config, head(layer))


@both
@every_head
def test_theorem_3_3_heads_expansion(config: Config, where: tuple[int, int]) -> None:
    holds(config, heads(where))


@both
@every_head
def test_theorem_3_4_attention_expansion(config: Config, where: tuple[int, int]) -> None:
    holds(config, attention(where))


@both
def test_theorem_3_5_hidden_expansion(config: Config) -> None:
    holds(config, hidden())


@both
@pytest.mark.parametrize("position", range(len(LAYERS) + 1))
def test_theorem_3_6_layer_addition(config: Config, position: int) -> None:
    holds(config, layer(position))


def holds(config: Config, theorem: Theorem) -> None:
    small = trained(config)
    ours = [isogrow.grow(small, theorem.expansion, init_std=1.0, seed=seed) for seed in (1, 2)]
    assert all(change(small, large) < EXACT for large in ours)
    oracle = getattr(paper, theorem.oracle)
    state, grown = oracle(small.state_dict(), config, theorem.where, theorem.size, rng(1))
    again, _ = oracle(small.state_dict(), config, theorem.where, theorem.size, rng(2))
    assert ours[0].config.eps == pytest.approx(grown.eps, rel=1e-15)
    assert replace(ours[0].config, eps=grown.eps) == grown
    first, second = (large.state_dict() for large in ours)
    assert differing((first, second), (state, again)) == []


Pair = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


def differing(ours: Pair, theirs: Pair) -> list[str]:
    """Tensors that are not alike: free are the entries that two seeds make differ, and must be free in
    both; all others must be equal, and zero where the other is."""
    assert ours[0].keys() == theirs[0].keys()
    return [
        name for name in ours[0] if not alike(*(pair[i][name] for pair in (ours, theirs) for i in (0, 1)))
    ]


def alike(found: Tensor, again: Tensor, expected: Tensor, redrawn: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    free = redrawn != expected
    same = torch.allclose(found[~free], expected[~free], rtol=1e-15, atol=0.0)
    return same and torch.equal(again != found, free)


def test_sizes_are_pairwise_distinct() -> None:
    sizes = [PAPER.vocab, PAPER.positions, PAPER.hidden, PAPER.out, FFN, VALUE_DIM, KEY_DIM, HIDDEN]
    sizes += [size for n in LAYERS for size in (n.ffn, *(s for h in n.heads for s in dims(h)))]
    assert len(set(sizes)) == len(sizes)


def dims(head: Any) -> tuple[int, int]:
    return head.key_dim, head.value_dim


@pytest.mark.slow
@every_theorem
def test_the_comparison_can_fail(theorem: Theorem) -> None:
    small = trained(PAPER)
    large = isogrow.grow(small, theorem.expansion, init_std=1.0).state_dict()
    other = isogrow.grow(small, theorem.expansion, init_std=1.0, seed=1).state_dict()
    assert differing((large, other), (large, other)) == []
    drawn = [name for name, value in large.items() if not torch.equal(value, other[name])]
    assert drawn and differing((large, large), (large, other)) == drawn
    for name, value in large.items():
        nudged = {**large, name: value * (1 + 4e-15)}
        fixed = (value[other[name] == value] != 0).any()
        assert differing((nudged, other), (large, other)) == [name] * bool(fixed), name


# Without a switch, or without a scale


@pytest.mark.slow
@every_theorem
def test_a_switch_that_is_not_zero_is_refused_and_breaks(theorem: Theorem) -> None:
    small = trained(OPTIONS)
    for slot in theorem.switches:
        broken(small, theorem.expansion, rewritten(theorem, slot, lambda _: FREE, old=False))


@every_theorem
def test_a_scale_that_is_left_out_is_refused_and_breaks(theorem: Theorem) -> None:
    small = trained(OPTIONS)
    for slot in theorem.scaled:
        broken(small, theorem.expansion, rewritten(theorem, slot, lambda _: Old(), old=True))


def test_an_epsilon_that_is_left_alone_is_refused_and_breaks() -> None:
    def left_alone(made: Plan) -> Plan:
        return replace(made, steps=(replace(made.steps[0], config={}),), config={})

    broken(trained(OPTIONS), HiddenExpansion(HIDDEN), left_alone)


Edit = Callable[[Plan], Plan]


def rewritten(theorem: Theorem, slot: str, entry: Callable[[Entry], Entry], old: bool) -> Edit:
    """The plan with other entries in one slot: its old ones, or its new ones."""

    def edit(made: Plan) -> Plan:
        return replace(made, steps=tuple(edited(step) for step in made.steps))

    def edited(step: Step) -> Step:
        before = step.rewrites[slot]
        after = {k: entry(e) if (k == OLD) == old else e for k, e in before.items()}
        assert after != before, slot
        return replace(step, rewrites={**step.rewrites, slot: after})

    return edit


def broken(small: Transformer, expansion: Expansion, edit: Edit) -> None:
    anatomy = anatomy_of(small)
    made = plan(anatomy, [expansion])
    assert change(small, executed(small, anatomy, made)) < EXACT
    wrong = edit(made)
    with pytest.raises(LawError):
        laws.check(anatomy, wrong, allow_dead=True)
    with pytest.raises((LawError, SizeError)):
        isogrow.grow(small, plan=wrong, allow_dead=True)
    assert change(small, executed(small, anatomy, wrong)) > BROKEN


def executed(small: Transformer, anatomy: Anatomy, made: Plan) -> Transformer:
    """Grown without asking the laws."""
    large = grow_module(small, anatomy, made, build)
    assert isinstance(large, Transformer)
    return large


# Liveness

NORMS = ("attn_norm", "mlp_norm")
INSIDE = ("attn.q", "attn.k", "attn.v", "mlp.up")
FIRST_AND_SECOND = {
    "mlp_expansion": (("mlp.down",), ("mlp.up", "mlp.up.bias")),
    "head_addition": (("attn.o",), ("attn.q", "attn.k", "attn.v")),
    "heads_expansion": (("attn.o",), ("attn.v",)),
    "attention_expansion": (("attn.k",), ("attn.q",)),
    "hidden_expansion": (hidden().switches, (*NORMS, *INSIDE, "head")),
    "layer_addition": (layer(0).switches, (*NORMS, *INSIDE, "mlp.up.bias")),
}


@both
@every_theorem
def test_the_switch_gets_gradient_first_and_the_rest_second(config: Config, theorem: Theorem) -> None:
    small = trained(config)
    anatomy, made = anatomy_of(small), plan(anatomy_of(small), [theorem.expansion])
    steps = {(life.slot, life.step) for life in laws.lives(anatomy, network(anatomy, made))}
    first, second = FIRST_AND_SECOND[theorem.oracle]
    assert steps == {(slot, 1) for slot in first} | {(slot, 2) for slot in second}
    assert laws.horizon(anatomy, made) == 2
    grown = executed(small, anatomy, made)
    count = agree(predicted(anatomy, made), *observed(grown, passes=2))
    assert count > 0.9 * (parameters(grown) - parameters(small))


def parameters(model: Transformer) -> int:
    return sum(p.numel() for p in model.parameters())


def test_a_chain_may_wake_later() -> None:
    small = trained(OPTIONS)
    anatomy = anatomy_of(small)
    made = plan(anatomy, [LayerAddition("+1"), AttentionExpansion("+3", layer=2)])
    late = {life.slot for life in laws.lives(anatomy, network(anatomy, made)) if life.step == 3}
    assert late == {"attn.q"}
    assert laws.horizon(anatomy, made) == 3
    assert agree(predicted(anatomy, made), *observed(executed(small, anatomy, made), passes=3))
    other = plan(anatomy, [AttentionExpansion("+3"), LayerAddition("+1")])
    assert laws.horizon(anatomy, other) == 2


@every_theorem
def test_the_steps_can_disagree(theorem: Theorem) -> None:
    small = trained(PAPER)
    anatomy = anatomy_of(small)
    made = plan(anatomy, [theorem.expansion])
    opened = rewritten(theorem, theorem.switches[0], lambda _: FREE, old=False)(made)
    with pytest.raises(AssertionError):
        agree(predicted(anatomy, made), *observed(executed(small, anatomy, opened), passes=2))


# Two zeros in series: what is zeroed beside the switch, and what is dead for it.
DEAD = [
    (mlp(0), ("mlp.up", "mlp.up.bias"), ("mlp.up", "mlp.up.bias", "mlp.down")),
    (head(1), ("attn.v",), ("attn.q", "attn.k", "attn.v", "attn.o")),
    (heads((0, 1)), ("attn.v",), ("attn.v", "attn.o")),
    (attention((1, 0)), ("attn.q",), ("attn.q", "attn.k")),
    (hidden(), (*NORMS, "head"), (*hidden().switches, *NORMS, *INSIDE, "head")),
    (layer(2), ("mlp.up", "mlp.up.bias"), ("mlp_norm", "mlp.up", "mlp.up.bias", "mlp.down")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("theorem", "zeroed", "dead"), DEAD, ids=lambda x: getattr(x, "oracle", ""))
def test_a_dead_construction_is_refused_and_stays_dead(
    theorem: Theorem, zeroed: tuple[str, ...], dead: tuple[str, ...]
) -> None:
    small = trained(OPTIONS)
    anatomy = anatomy_of(small)
    made = plan(anatomy, [theorem.expansion])
    for slot in zeroed:
        made = rewritten(theorem, slot, lambda _: Constant(0.0), old=False)(made)
    with pytest.raises(LawError, match="would never get gradient") as refused:
        laws.check(anatomy, made)
    named = str(refused.value).removeprefix("new entries of ").partition(" would")[0]
    assert sorted(named.split(", ")) == sorted(dead)
    large = isogrow.grow(small, plan=made, allow_dead=True)
    assert change(small, large) < EXACT
    expected = predicted(anatomy, made)
    first, idle = observed(large, passes=20)
    never = {name: steps == NEVER for name, steps in expected.items()}
    assert sum(int(mask.sum()) for mask in never.values())
    assert all(not first[name][mask].any() for name, mask in never.items())
    agree(expected, first, idle)
