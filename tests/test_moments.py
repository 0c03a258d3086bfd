"""The table of powers against the optimizers themselves: what a scaled gradient makes of a state tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from test_optimizer import OPTIMIZERS, pair, same, stepped
from torch import Tensor, nn

from isogrow import Policy
from isogrow.optim.moments import BESIDE, FACTORED, NUMBERS, POWERS

SCALE = 4.0  # what an old weight takes; a power of two, so that nothing rounds
UPDATES = "acc_delta"  # Adadelta's squares of updates: no gradient alone says how they scale
SHAPES = ((6, 4), (5,))
COLUMNS = frozenset((*FACTORED, *FACTORED.values()))  # means of a second moment


def weights(scale: float = 1.0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(scale * torch.randn(s, generator=generator, dtype=torch.float64)) for s in SHAPES]


def made(kind: str, parameters: list[nn.Parameter], eps: float | None = 0.0) -> Any:
    """An optimizer whose state is made of gradients alone: no weight decay, and no ε but a tiny one."""
    optimizer = OPTIMIZERS[kind](parameters)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
        if eps is not None and isinstance(group.get("eps"), float):
            group["eps"] = eps
    return optimizer


def step_(optimizer: Any, parameters: list[nn.Parameter], steps: range, scale: float = 1.0) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for p in parameters:
            p.grad = scale * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: x for name, x in state.items() if isinstance(x, Tensor) and x.dim()}


def states(kind: str, scale: float) -> list[dict[str, Any]]:
    """An optimizer's state, parameter by parameter, after two steps with gradients times `scale`."""
    parameters = weights()
    optimizer = made(kind, parameters)
    step_(optimizer, parameters, range(2), scale)
    return [dict(optimizer.state[p]) for p in optimizer.state]


def power(name: str, state: Mapping[str, object]) -> int:
    found = 2 if name in COLUMNS else Policy().power(name, state)
    assert found is not None, f"no power of {name} is known"
    return found


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_scaled_gradient_scales_each_state_tensor_by_its_power(kind: str) -> None:
    """A weight times a has a gradient times 1/a, so a state of the k-th power is times 1/a^k: bit by bit."""
    for small, large in zip(states(kind, 1.0), states(kind, 1 / SCALE), strict=True):
        for name, x in tensors(small).items():
            if name != UPDATES:
                assert x.abs().sum() > 0
                assert torch.equal(large[name] * SCALE ** power(name, small), x), name


def test_adadeltas_updates_scale_as_weights_do() -> None:
    """With each state tensor times its 1/a^k the real optimizer's next updates are those of the old weights,
    times a."""
    small, large = weights(), weights(SCALE)
    old = made("Adadelta", small, eps=None)  # without an ε it would never start
    step_(old, small, range(2))
    grown = made("Adadelta", large)
    for p, q in zip(small, large, strict=True):
        own = {name: x / SCALE ** power(name, old.state[p]) for name, x in tensors(old.state[p]).items()}
        assert UPDATES in own and own[UPDATES].abs().sum() > 0
        grown.state[q] = {**old.state[p], **own}
    for group in old.param_groups:
        group["eps"] = 0.0
    before = [[p.detach().clone() for p in each] for each in (small, large)]
    step_(old, small, range(2, 4))
    step_(grown, large, range(2, 4), 1 / SCALE)
    for p, q, was, grew in zip(small, large, *before, strict=True):
        assert torch.allclose(q - grew, SCALE * (p - was), rtol=1e-12, atol=0)  # a difference of rounded sums


def test_every_row_of_the_table_is_of_an_optimizer_here() -> None:
    """So no power is unchecked."""
    found = [(name, state) for kind in OPTIMIZERS for state in states(kind, 1.0) for name in tensors(state)]
    beside = {(name, other) for name, state in found for other in state if (name, other) in BESIDE}
    plain = {name for name, state in found if not {(name, other) for other in state} & beside}
    assert beside == set(BESIDE)
    assert plain == POWERS.keys() | FACTORED.keys() | COLUMNS


@pytest.mark.parametrize("kind", ["NAdam", "RAdam", "Adagrad", "RMSprop", "transformers' Adafactor"])
def test_what_starts_afresh_starts_as_in_a_new_run(kind: str) -> None:
    """Numbers too: a state that is dropped steps on, bit by bit, as that of a new optimizer."""
    found = pair("llama", "ffn")
    parameters = list(found.large.parameters())
    fresh = found.grown(stepped(OPTIMIZERS[kind], found.small), Policy("fresh"))
    assert set(NUMBERS) & {name for state in fresh.state.values() for name in state}
    anew = OPTIMIZERS[kind](parameters)
    before = [p.detach().clone() for p in parameters]
    made: list[list[Tensor]] = []
    for optimizer in (fresh, anew):
        step_(optimizer, parameters, range(2))
        made.append([p.detach().clone() for p in parameters])
        with torch.no_grad():
            for p, x in zip(parameters, before, strict=True):
                p.copy_(x)
    assert all(map(torch.equal, *made))
    assert all(same(dict(fresh.state[p]), dict(anew.state[p])) for p in parameters)
