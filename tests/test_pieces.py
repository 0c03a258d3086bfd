"""Pieces tile any box of any grown block exactly once, and say what the oracle computes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subjects import anatomy

from isogrow.interpreters import oracle as reference
from isogrow.numbers.initializers import sample
from isogrow.planning.planner import plan
from isogrow.plans.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    LayerAddition,
    MlpExpansion,
)
from isogrow.plans.pieces import Average, Block, Box, Draw, Fill, OldBox, Piece, moved, origin, pieces, whole
from isogrow.plans.plan import Constant, Free, Init, Mean, Old, Place, Plan, Step
from isogrow.plans.sizes import Sizes

GATED = dict(
    hidden_size=8, intermediate_size=7, vocab_size=11, num_attention_heads=6, num_key_value_heads=3,
    head_dim=4, num_hidden_layers=2,
)  # fmt: skip
BERT = dict(hidden_size=6, intermediate_size=7, vocab_size=11, num_attention_heads=3, num_hidden_layers=2)
GPT2 = dict(n_embd=6, n_inner=7, vocab_size=11, n_head=3, n_layer=2)
GROWN: dict[str, tuple[dict[str, Any], list[Expansion]]] = {
    "qwen2": (
        GATED,
        [
            LayerAddition("+2", (0, 1)),
            HeadAddition(12, 4),
            AttentionExpansion(12),
            HeadsExpansion(12),
            AttentionExpansion(14),
            HeadsExpansion(14),
            HiddenExpansion(19),
            MlpExpansion(23),
        ],
    ),
    "qwen3": (GATED, [AttentionExpansion(8), HeadsExpansion(8), HiddenExpansion(9), HiddenExpansion(13)]),
    "gpt2": (GPT2, [HiddenExpansion(8), HeadAddition(4), LayerAddition("+1", "start"), MlpExpansion(17)]),
    "bert": (BERT, [HiddenExpansion(24), HeadAddition(12), MlpExpansion(17)]),
}


def plans() -> dict[str, Plan]:
    return {
        family: plan(anatomy(family, **config), wanted, Init(std=0.5), seed=3)
        for family, (config, wanted) in GROWN.items()
    }


PLANS = plans()
OLD = {
    family: {
        block: np.random.default_rng(len(block.slot)).normal(size=block.shape(found.sizes))
        for stored in found.stored
        for _, block in stored.blocks(found.sizes)
        if block.slot in found.slots
    }
    for family, found in ((family, anatomy(family, **config)) for family, (config, _) in GROWN.items())
}
ORACLE = {family: reference.grow(PLANS[family], OLD[family]) for family in GROWN}


@st.composite
def boxes(draw: st.DrawFn, family: str) -> tuple[Block, Box]:
    """Any contiguous box of any grown block."""
    block = draw(st.sampled_from(sorted(ORACLE[family], key=str)))
    return block, tuple(draw(part(n)) for n in ORACLE[family][block].shape)


def part(count: int) -> st.SearchStrategy[range]:
    bounds = st.tuples(st.integers(0, count), st.integers(0, count))
    return bounds.map(lambda pair: range(min(pair), max(pair)))


def evaluated(family: str, piece: Piece) -> np.ndarray:
    value = piece.value
    if isinstance(value, Fill):
        found = np.full([1] * len(piece.out), value.value)
    elif isinstance(value, OldBox):
        found = OLD[family][value.block][slices(value.box)]
    elif isinstance(value, Draw):
        like = OLD[family][value.like] * value.like_a + value.like_b
        x = sample(value.init.kind, value.key, value.shape, value.box)
        found = float(value.init.std) * x + (like.mean() if value.center else 0.0)
    else:
        full = tile(family, value.block, value.box, value.steps)
        found = full.mean(axis=value.dim, keepdims=True)
    return np.broadcast_to(piece.a * found + piece.b, [len(r) for r in piece.out])


def tile(family: str, block: Block, box: Box, steps: int | None = None) -> np.ndarray:
    """The box put together from its pieces, each entry exactly once."""
    result, count = np.zeros([len(r) for r in box]), np.zeros([len(r) for r in box], dtype=int)
    for piece in pieces(PLANS[family], block, box, steps):
        assert all(len(r) for r in piece.out) or not result.size
        result[slices(piece.out)] = evaluated(family, piece)
        count[slices(piece.out)] += 1
    assert (count == 1).all()
    return result


def slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(r.start, r.stop, r.step) for r in box)


@pytest.mark.parametrize("family", GROWN)
@settings(max_examples=40)
@given(data=st.data())
def test_any_box_is_tiled_once_and_is_the_oracle_s(family: str, data: st.DataObject) -> None:
    block, box = data.draw(boxes(family))
    expected = ORACLE[family][block][slices(box)]
    assert np.allclose(tile(family, block, box), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("family", GROWN)
def test_whole_blocks_are_tiled_once(family: str) -> None:
    for block, expected in ORACLE[family].items():
        assert np.allclose(tile(family, block, whole(expected.shape)), expected, rtol=1e-12, atol=1e-14)


# One step by hand

SIZES = Sizes({"a": 2, "b": 3, "n": 2})
BLOCK = Block("w", (("n", 1),), ("a", "b"))


def grown(*steps: Step) -> Plan:
    return Plan("f", SIZES, steps, seed=5)


def step(entry: object, axis: str = "a", places: tuple[Place, ...] = (), old: Old | None = None) -> Step:
    before = SIZES.of(axis)
    tiled = places or (Place(0, before, 0), Place(before, 2, 0, "new"))
    rewrites = {"w": {"new": entry, "old": old or Old()}}
    return Step("Growth", axis, before, before + 2, tiled, rewrites)  # type: ignore[arg-type]


def cut(plan: Plan, block: Block = BLOCK) -> list[Piece]:
    return list(pieces(plan, block, whole(block.shape(plan.target))))


OLD_BOX = (range(2), range(3))
NEW_BOX = (range(2, 4), range(3))


def test_no_step_gives_the_old_block() -> None:
    assert cut(grown()) == [Piece(OLD_BOX, OldBox(BLOCK, OLD_BOX))]
    other = Block("v", (), ("c",))
    box = (range(1, 4),)
    assert list(pieces(grown(step(Free())), other, box)) == [Piece((range(3),), OldBox(other, box))]


def test_each_kind_of_entry() -> None:
    old = Piece(OLD_BOX, OldBox(BLOCK, OLD_BOX))
    assert cut(grown(step(Constant(3.0)))) == [old, Piece(NEW_BOX, Fill(3.0))]
    assert cut(grown(step(Old(2.0, 1.0)))) == [old, Piece(NEW_BOX, OldBox(BLOCK, OLD_BOX), 2.0, 1.0)]
    mean = Average(BLOCK, 0, OLD_BOX, 0, "l")
    assert cut(grown(step(Mean("l", 4.0)))) == [old, Piece(NEW_BOX, mean, 4.0)]
    key = "5/a:2>4/w/n=1/new@2"
    drawn = Draw(Init(), False, key, (2, 3), (range(2), range(3)), BLOCK, 1.0, 0.0, BLOCK.index, "a")
    assert cut(grown(step(Free()))) == [old, Piece(NEW_BOX, drawn)]
    paired = replace(drawn, key="5/a:2>4/w/n=1/pair0", box=OLD_BOX)
    assert cut(grown(step(Free(sign=-1.0, stream="pair0")))) == [old, Piece(NEW_BOX, paired, -1.0)]


def test_affines_compose() -> None:
    first = step(Constant(3.0), old=Old(2.0, 1.0))
    second = step(Free(center=True), axis="b", old=Old(10.0, 5.0))
    old, constant, drawn = cut(grown(first, second))
    assert (old.a, old.b) == (20.0, 15.0)
    assert constant.value == Fill(35.0)
    assert isinstance(drawn.value, Draw)
    assert (drawn.value.like_a, drawn.value.like_b) == (20.0, 15.0)
    assert drawn.value.shape == (4, 2)


def test_strides() -> None:
    places = (Place(0, 2, 0, stride=2), Place(1, 2, 0, "new", stride=2))
    old, new = cut(grown(step(Constant(0.0), places=places)))
    assert (old.out[0], new.out[0]) == (range(0, 3, 2), range(1, 4, 2))
    inside = list(pieces(grown(step(Constant(0.0), places=places)), BLOCK, (range(1, 3), range(1))))
    assert [piece.out[0] for piece in inside] == [range(1, 2, 2), range(0, 1, 2)]


def test_an_index_axis_moves_whole_blocks() -> None:
    places = (Place(0, 1, 0), Place(1, 2, 0, "new"), Place(3, 1, 1))
    made = grown(step(Constant(0.0), axis="n", places=places))
    at = [moved(BLOCK, "n", i) for i in range(4)]
    assert [cut(made, block)[0].value for block in at] == [
        OldBox(at[0], OLD_BOX),
        Fill(0.0),
        Fill(0.0),
        OldBox(at[1], OLD_BOX),
    ]
    assert [origin(made, block) for block in at] == [at[0], at[0], at[1], at[1]]
