"""A model and its optimizer grow where they stand: loops, schedulers and accelerate go on with them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import tiny
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

import isogrow
from isogrow.moments import Policy

IDS = torch.arange(24).reshape(2, 12) * 7 % tiny.VOCAB
SIZES: dict[str, Any] = dict(hidden=32, ffn="x2", layers="+1")


def step(model: nn.Module, optimizer: Any, backward: Any = None) -> float:
    loss: torch.Tensor = model(input_ids=IDS, labels=IDS).loss
    (backward or torch.autograd.backward)(loss)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def trained() -> tuple[Any, AdamW]:
    model = tiny.model("LlamaForCausalLM").train()
    decaying = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    optimizer = AdamW([{"params": decaying, "weight_decay": 0.1}, {"params": rest}], lr=1e-2)
    for _ in range(3):
        step(model, optimizer)
    return model, optimizer


def test_it_is_what_grow_makes() -> None:
    model, optimizer = trained()
    small, before = copy.deepcopy((model, optimizer))
    large, made = isogrow.grow(small, optimizer=before, **SIZES)
    isogrow.grow_(model, optimizer=optimizer, **SIZES)
    assert [step(model, optimizer) for _ in range(3)] == [step(large, made) for _ in range(3)]
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.01]
    assert set(optimizer.state) == set(held)


def test_without_its_state_it_is_another_run() -> None:
    """So the test above says something."""
    model, optimizer = trained()
    other = copy.deepcopy(model)
    isogrow.grow_(model, optimizer=optimizer, **SIZES)
    isogrow.grow_(other, **SIZES)
    fresh = AdamW(other.parameters(), lr=1e-2)
    first, second = ([step(m, o) for _ in range(3)] for m, o in ((model, optimizer), (other, fresh)))
    assert first[0] == pytest.approx(second[0], rel=1e-6)
    assert first[2] != pytest.approx(second[2], rel=1e-6)


def test_schedulers_go_on() -> None:
    model, optimizer = trained()
    scheduler = LambdaLR(optimizer, lambda count: 0.5**count)
    step(model, optimizer)
    scheduler.step()
    isogrow.grow_(model, optimizer=optimizer, **SIZES)
    step(model, optimizer)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.25e-2] * 2


def test_accelerate_goes_on() -> None:
    model, optimizer = trained()
    plain, alike = copy.deepcopy((model, optimizer))
    accelerator = Accelerator(cpu=True)
    prepared: Any = accelerator.prepare(model, optimizer)
    for _ in range(2):
        step(prepared[0], prepared[1], accelerator.backward)
        step(plain, alike)
    isogrow.grow_(accelerator.unwrap_model(prepared[0]), optimizer=prepared[1].optimizer, **SIZES)
    isogrow.grow_(plain, optimizer=alike, **SIZES)
    for _ in range(3):
        assert step(prepared[0], prepared[1], accelerator.backward) == step(plain, alike)
    assert prepared[0].config.hidden_size == 32


def test_a_second_growth_ends_the_pace_of_the_first() -> None:
    model, optimizer = trained()
    isogrow.grow_(model, optimizer=optimizer, policy=Policy(ramp=10), ffn="x2")
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    step(model, optimizer)
    isogrow.grow_(model, optimizer=optimizer, policy=Policy(ramp=10), layers="+1")
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    step(model, optimizer)
    isogrow.grow_(model, optimizer=optimizer, hidden=32)
    assert not optimizer._optimizer_step_pre_hooks
    step(model, optimizer)
