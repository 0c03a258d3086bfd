"""Moments that are kept in 8 bits or fewer: the law reads the numbers that codes stand for, and what it gives
is written in codes again, so rounded once more.

bitsandbytes keeps codes, a table of what each stands for, and the largest of every 256 numbers, by which the
table is multiplied. torchao keeps tensors of classes of its own, which are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# Codes, by name, and the names of their table and of the largest numbers (bitsandbytes 0.50).
TABLES: Mapping[str, tuple[str, str]] = {f"state{i}": (f"qmap{i}", f"absmax{i}") for i in (1, 2)}
BLOCK = 256
WRAPPED = "__bnb_optimizer_quant_state__"  # where its state dicts hold all of these


def is_coded(state: Mapping[str, Any]) -> bool:
    """Whether anything in a parameter's state is kept in codes, or as what is kept in codes elsewhere."""
    return WRAPPED in state or any(_in_codes(name, state) for name in state)


def decoded(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A parameter's state with numbers in the place of codes, and without what only codes need."""
    if not is_coded(state):
        return state
    state = _opened(state)
    coded = [name for name in TABLES if name in state and _in_codes(name, state)]
    beside = {each for name in coded for each in TABLES[name]}
    return {name: _numbers(name, state) for name in state if name not in beside}


def encoded(made: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """A grown state, in codes where `like` is: the state that it grew from."""
    found: dict[str, Any] = {}
    own = _opened(like)
    for name, value in made.items():
        if not _in_codes(name, own):
            found[name] = value
        elif name in TABLES:
            table, largest = TABLES[name]
            found[table] = own[table]
            found[name], found[largest] = _codes(value, own[table])
        else:
            found[name] = _anew(value, own[name])
    if WRAPPED in like:
        inside = {name: found.pop(name) for name in like[WRAPPED] if name in found}
        found[WRAPPED] = inside
    return found


def _opened(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """All of a state side by side."""
    return {**{name: value for name, value in state.items() if name != WRAPPED}, **state.get(WRAPPED, {})}


def _in_codes(name: str, state: Mapping[str, Any]) -> bool:
    return hasattr(state[name], "codes") or (name in TABLES and TABLES[name][0] in state)


def _numbers(name: str, state: Mapping[str, Any]) -> Any:
    value = state[name]
    if not _in_codes(name, state):
        return value
    if name not in TABLES:
        return value.dequantize()
    table, largest = (state[each] for each in TABLES[name])
    return (table[value.flatten().int()] * largest.repeat_interleave(BLOCK)[: value.numel()]).view(
        value.shape
    )


def _codes(numbers: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """The code of what is nearest to each number in a table that rises, and the largest of every block."""
    flat = numbers.flatten().to(table.dtype)
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    largest = blocks.abs().amax(1)
    shares = blocks / torch.where(largest == 0, torch.ones_like(largest), largest)[:, None]
    codes = torch.bucketize(shares, (table[1:] + table[:-1]) / 2, out_int32=True).to(torch.uint8)
    return codes.flatten()[: flat.numel()].view(numbers.shape), largest


def _anew(numbers: Tensor, like: Any) -> Tensor:
    """A tensor of the class of `like`; numbers alone where its blocks do not fit, as torchao has them."""
    if numbers.numel() % like.block_size:
        return numbers
    signed = (like.signed,) if hasattr(like, "signed") else ()
    made = type(like).zeros(numbers.shape, *signed, like.block_size, numbers.device)
    return made.copy_(numbers)
