"""Moments in codes of 8 bits: read, grown by their law, and written again."""

from __future__ import annotations

from typing import Any

import families as F
import pytest
import torch
from test_module import live
from torch import Tensor, nn

import isogrow
from isogrow import Policy
from isogrow.errors import StateError
from isogrow.growth.models import lineage_of
from isogrow.growth.shardable import check_states
from isogrow.optim.coded import BLOCK, WRAPPED, decoded, encoded, is_coded
from isogrow.optim.state import grow_optimizer_state

# Two tables as bitsandbytes has them: both rise, one from -0.99 to 1, one from 0, with finer steps near 0.
SIGNED = torch.cat([-(torch.linspace(0.01, 0.995, 127) ** 2).flip(0), torch.linspace(0, 1, 129) ** 2])
UNSIGNED = torch.linspace(0, 1, 256) ** 2
# How far a number may be from its code's, as a share of its block's largest: half of the widest step, or what
# lies below the table.
APART = 1e-6 + max(0.5 * float(torch.cat([SIGNED.diff(), UNSIGNED.diff()]).max()), 1 + float(SIGNED[0]))


class Packed(Tensor):
    """As torchao has them: a tensor of a class of its own that knows what its codes stand for."""

    codes: Tensor
    signed = True
    block_size = 4

    @staticmethod
    def of(x: Tensor) -> Packed:
        made = Packed.zeros(x.shape, True, 4)
        return made.copy_(x)

    @classmethod
    def zeros(cls, shape: Any, signed: bool, block_size: int, device: Any = None) -> Any:
        assert signed and block_size == 4
        made = torch.zeros(shape, device=device).as_subclass(cls)
        made.codes = torch.zeros(shape)
        return made

    def copy_(self, x: Any) -> Any:  # type: ignore[override]
        self.codes = x.as_subclass(Tensor).half()
        return self

    def dequantize(self) -> Tensor:  # type: ignore[override]
        return self.codes.float()


def packed(x: Tensor, i: int) -> dict[str, Tensor]:
    """Numbers in codes, made one block at a time by looking at every code."""
    table = {1: SIGNED, 2: UNSIGNED}[i]
    codes, largest = [], []
    for block in x.flatten().split(BLOCK):
        top = block.abs().max()
        codes.append(
            (block[:, None] - top * table).abs().argmin(1)
            if top
            else torch.full(block.shape, int(table.abs().argmin()))
        )
        largest.append(top)
    return {
        f"state{i}": torch.cat(codes).to(torch.uint8).view(x.shape),
        f"qmap{i}": table,
        f"absmax{i}": torch.stack(largest),
    }


def moments(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(shape, generator=generator)
    return first * torch.rand(shape, generator=generator) ** 4, torch.randn(shape, generator=generator) ** 2


def blocks_of(x: Tensor) -> Tensor:
    """Of each entry the largest of its block."""
    return torch.cat([block.abs().max().expand(len(block)) for block in x.flatten().split(BLOCK)]).view(
        x.shape
    )


@pytest.mark.parametrize("shape", [(17, 31), (256,), (3, 5), (2, 3, 43)])
def test_codes_are_those_of_the_nearest_numbers(shape: tuple[int, ...]) -> None:
    first, second = moments(shape)
    state = {"step": 3, **packed(first, 1), **packed(second, 2)}
    told = decoded(state)
    assert list(told) == ["step", "state1", "state2"] and is_coded(state) and not is_coded(told)
    for name, x in (("state1", first), ("state2", second)):
        gap = (told[name] - x).abs() / blocks_of(x)
        assert 0 < float(gap.max()) <= APART
    again = encoded({**told, "state1": first, "state2": second}, state)
    assert again.keys() == state.keys()
    for name in again.keys() - {"step"}:
        assert again[name].dtype == state[name].dtype and torch.equal(again[name], state[name]), name


def test_zeros_stay_zeros() -> None:
    state = packed(torch.randn(7, 50), 1)
    zeros = encoded({"state1": torch.zeros(7, 50)}, state)
    assert not decoded(zeros)["state1"].any() and not zeros["absmax1"].any()


def wrapped(state: dict[str, Any]) -> dict[str, Any]:
    """As a state dict of bitsandbytes has it."""
    return {"step": state["step"], WRAPPED: {name: x for name, x in state.items() if name != "step"}}


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_state_in_codes_grows_as_its_numbers_do(name: str) -> None:
    """To what one more rounding of each block is; new layers' tensors are zero."""
    small = live(name)
    large = isogrow.grow(small, **F.FAMILIES[name].together)
    found = lineage_of(large)
    assert found is not None
    names = [n for n, _ in small.named_parameters()]
    pairs = [moments(tuple(p.shape), i) for i, p in enumerate(small.parameters())]
    codes = [{"step": 5, **packed(m, 1), **packed(v, 2)} for m, v in pairs]

    def grown(states: Any) -> Any:
        given = {"state": dict(enumerate(states)), "param_groups": [{"params": [*range(len(names))]}]}
        return grow_optimizer_state(given, [names], *found, Policy())["state"]

    mine, told = grown(codes), grown([dict(decoded(state)) for state in codes])
    inside = grown(map(wrapped, codes))
    assert all(
        torch.equal(inside[i][WRAPPED][key], mine[i][key]) for i in mine for key in codes[0] if key != "step"
    )
    assert all(state.keys() == {"step", WRAPPED} for state in inside.values())
    assert mine.keys() == told.keys()
    for i, state in mine.items():
        assert state.keys() == codes[0].keys() and state["state1"].dtype == torch.uint8
        read = decoded(state)
        assert read["step"] == told[i]["step"]
        for key in ("state1", "state2"):
            gap = (read[key] - told[i][key]).abs()
            assert bool((gap <= APART * blocks_of(told[i][key])).all()), key


def test_a_class_of_its_own_is_asked() -> None:
    x = torch.randn(6, 4)
    state = {"exp_avg": Packed.of(x), "step": 1}
    assert is_coded(state) and torch.equal(decoded(state)["exp_avg"], x.half().float())
    again = encoded({"exp_avg": 2 * x, "step": 1}, state)
    assert type(again["exp_avg"]) is Packed and torch.equal(again["exp_avg"].codes, (2 * x).half())
    odd = encoded({"exp_avg": torch.ones(3), "step": 1}, state)  # no whole number of blocks
    assert type(odd["exp_avg"]) is Tensor


def test_codes_are_not_read_in_parts() -> None:
    found = nn.Linear(4, 5)
    optimizer = torch.optim.SGD(found.parameters())
    optimizer.state[found.weight] = packed(torch.randn(5, 4), 1)
    with pytest.raises(
        StateError, match="keeps the state of weight in codes of 8 bits or fewer, which can't"
    ):
        check_states([optimizer], found)


def test_codes_of_which_the_power_is_not_known_are_refused() -> None:
    small = live("gpt2")
    found = lineage_of(isogrow.grow(small, ffn=51))
    assert found is not None
    (name, p), *_ = small.named_parameters()
    state = {"state": {0: packed(torch.randn(p.shape), 1)}, "param_groups": [{"params": [0]}]}
    with pytest.raises(StateError, match="keeps 'state1' for .*name the power of the gradient that it holds"):
        grow_optimizer_state(state, [[name]], *found)
    made = grow_optimizer_state(state, [[name]], *found, Policy(powers={"state1": 1}))
    assert made["state"][0]["state1"].dtype == torch.uint8
