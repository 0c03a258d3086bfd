"""When each entry of a grown model first gets gradient: as Law 2 computes it, and as autograd has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from subjects import rng, tokens
from torch import Tensor

from isogrow.laws import lives
from isogrow.laws.building import network
from isogrow.laws.history import Classes
from isogrow.layouts.layout import Index
from isogrow.numbers.arithmetic import blocked
from isogrow.paper import Transformer
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import Plan
from isogrow.stores.binding import outputs

OLD = -1
NEVER = 0
Steps = Mapping[str, Tensor]


def predicted(anatomy: Anatomy, plan: Plan) -> Steps:
    """For every entry of a grown paper model its first step with gradient; old ones are OLD."""
    classes, sizes = Classes(plan), plan.target
    found: dict[tuple[str, Index], list[tuple[dict[str, int], int]]] = defaultdict(list)
    for life in lives(anatomy, network(anatomy, plan)):
        found[life.slot, life.index].append((dict(life.combo), life.step))
    steps: dict[str, Tensor] = {}
    for stored in outputs(anatomy, plan):
        steps[stored.name] = torch.full(stored.header.shape, OLD)
        ((part, block),) = stored.blocks(sizes)
        view = stored.line.parsed.view(part, {}, lambda axis, b=block: sizes.of(axis, b.index))
        result = blocked(steps[stored.name], view)
        for combo, step in found[block.slot, block.index]:
            rows = [
                members(classes, axis, block.index, combo[axis], n)
                for axis, n in zip(block.axes, result.shape, strict=True)
            ]
            result[torch.meshgrid(*rows, indexing="ij")] = step
    return steps


def members(classes: Classes, axis: str, index: Index, position: int, count: int) -> Tensor:
    """All positions of an axis with the history of this one."""
    if not any(step.axis == axis for step in classes.plan.steps):
        return torch.arange(count)
    past = [classes.history(axis, index, p) for p in range(count)]
    return torch.tensor([p for p in range(count) if past[p] == past[position]])


def observed(model: Transformer, passes: int, rate: float = 1e-2) -> tuple[Steps, set[str]]:
    """First pass with a gradient that is not exactly 0, under plain gradient descent; the names and
    units ("layers.0.mlp.3") of ReLUs that some pass found inactive at every token."""
    model = copied(model)
    ids = tokens(model.config)
    wanted = torch.randn((*ids.shape, model.config.out), generator=rng(9), dtype=torch.float64)
    first = {name: torch.zeros_like(p, dtype=torch.long) for name, p in model.named_parameters()}
    idle: set[str] = set()
    for step in range(1, passes + 1):
        watched = [watch(model, n, idle) for n in range(len(model.layers))]
        model.zero_grad()
        (model(ids) - wanted).square().sum().backward()
        [handle.remove() for handle in watched]
        for name, p in model.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all()
            first[name][(p.grad != 0) & (first[name] == NEVER)] = step
        descend_(model, rate)
    return first, idle


def watch(model: Transformer, n: int, idle: set[str]) -> torch.utils.hooks.RemovableHandle:
    def hook(mlp: Any, given: tuple[Tensor, ...]) -> None:
        active = ((given[0] @ mlp.w1 + mlp.b1) > 0).flatten(0, -2).any(0)
        idle.update(f"layers.{n}.mlp.{unit}" for unit in (~active).nonzero().flatten().tolist())

    layer: Any = model.layers[n]
    return layer.mlp.register_forward_pre_hook(hook)


def descend_(model: Transformer, rate: float) -> None:
    """No entry moves by more than `rate`."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    largest = torch.stack([g.abs().max() for g in gradients]).max()
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradients, strict=True):
            p -= rate / largest * g


def copied(model: Transformer) -> Transformer:
    made = Transformer(model.config).double()
    made.load_state_dict(model.state_dict())
    return made


def active(name: str, shape: torch.Size, idle: set[str]) -> Tensor:
    """The entries that no inactive ReLU shuts off."""
    mask = torch.ones(shape, dtype=torch.bool)
    mlp, _, kind = name.rpartition(".")
    units = [int(unit.rpartition(".")[2]) for unit in idle if unit.startswith(mlp + ".")]
    if kind in ("w1", "b1"):
        mask[..., units] = False
    elif kind == "w2":
        mask[units] = False
    return mask


def agree(expected: Steps, first: Steps, idle: set[str]) -> int:
    """Hold every new entry's first gradient against the prediction; the number of entries compared."""
    count = 0
    for name, steps in expected.items():
        new = (steps != OLD) & active(name, steps.shape, idle)
        assert torch.equal(first[name][new], steps[new]), name
        count += int(new.sum())
    return count
