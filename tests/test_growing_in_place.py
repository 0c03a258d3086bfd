"""A model and its optimizer grow where they stand: loops, schedulers and accelerate go on with them."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import tiny
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

import isogrow
from isogrow.errors import FamilyError, StateError
from isogrow.optim.moments import Policy
from isogrow.optim.pacing import COUNT

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
    large, made, *_ = isogrow.grow_training(small, optimizer=before, **SIZES)
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


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True])
def test_accelerate_goes_on(wrapped: bool) -> None:
    model, optimizer = trained()
    plain, alike = copy.deepcopy((model, optimizer))
    accelerator = Accelerator(cpu=True)
    prepared: Any = accelerator.prepare(model, optimizer)
    for _ in range(2):
        step(prepared[0], prepared[1], accelerator.backward)
        step(plain, alike)
    given = prepared[1] if wrapped else prepared[1].optimizer
    isogrow.grow_(accelerator.unwrap_model(prepared[0]), optimizer=given, **SIZES)
    assert prepared[1].state and prepared[1].state is prepared[1].optimizer.state
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


# Several optimizers


def two() -> tuple[Any, tuple[torch.optim.Muon, AdamW]]:
    """As Muon is used: it has the layers' matrices, and AdamW the rest."""
    model = tiny.model("LlamaForCausalLM").train()
    of_layers = {p: p.ndim == 2 and "layers" in name for name, p in model.named_parameters()}
    matrices, rest = ([p for p, own in of_layers.items() if own is wanted] for wanted in (True, False))
    optimizers = torch.optim.Muon(matrices, lr=1e-2), AdamW(rest, lr=1e-2)
    for _ in range(2):
        step_all(model, optimizers)
    return model, optimizers


def step_all(model: Any, optimizers: Any) -> float:
    loss: torch.Tensor = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    for each in optimizers:
        each.step()
        each.zero_grad()
    return loss.item()


def held(optimizer: Any) -> set[torch.Tensor]:
    return {p for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.slow
@pytest.mark.parametrize("policy", [None, Policy(ramp=3)])
def test_several_optimizers_grow_together(policy: Policy | None) -> None:
    model, optimizers = two()
    small, before = copy.deepcopy((model, optimizers))
    rates = [LambdaLR(each, lambda count: 0.5**count) for each in reversed(before)]
    large, made, moved, _ = isogrow.grow_training(
        small, optimizer=before, scheduler=rates, policy=policy, **SIZES
    )
    isogrow.grow_(model, optimizer=list(optimizers), policy=policy, **SIZES)
    assert [step_all(model, optimizers) for _ in range(3)] == [step_all(large, made) for _ in range(3)]
    assert [type(each) for each in made] == [torch.optim.Muon, AdamW] and isinstance(made, tuple)
    assert isinstance(moved, list) and [each.optimizer for each in moved] == [made[1], made[0]]
    of_layers = {p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name}
    assert held(optimizers[0]) == of_layers == set(optimizers[0].state)
    assert held(optimizers[1]) == set(model.parameters()) - of_layers == set(optimizers[1].state)


def test_what_no_optimizer_holds_is_refused_unless_it_is_frozen() -> None:
    """It would be replaced, and the optimizer that holds it would go on with the old one."""
    model, (muon, adam) = two()
    before = copy.deepcopy((muon.state_dict(), adam.state_dict()))
    said = (
        r"holds model.embed_tokens.weight and 8 more, and .* give all optimizers in a list .* requires_grad"
    )
    for grow in (isogrow.grow_, isogrow.grow_training):
        with pytest.raises(StateError, match=said):
            grow(model, optimizer=muon, **SIZES)
    assert str((muon.state_dict(), adam.state_dict())) == str(before)
    for p in held(adam):
        p.requires_grad_(False)
    isogrow.grow_(model, optimizer=muon, **SIZES)
    assert held(muon) == {p for p in model.parameters() if p.requires_grad}


# Refusals leave everything as it was


class Around(AdamW):
    """An optimizer with state of its own around another, as SAM and Lookahead are."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.base = torch.optim.SGD(self.param_groups)


def other_scheduler(model: nn.Module) -> Any:
    return LambdaLR(torch.optim.SGD(model.parameters()), lambda count: 1.0)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "follows": (torch.optim.Adafactor, dict(policy=Policy(follow=True)), "can't follow the small run"),
    "around another": (Around, {}, "Around is made around another optimizer.* make a new Around"),
    "parameters beside groups": (torch.optim.LBFGS, {}, "LBFGS keeps .* in '_params' beside its groups"),
    "twice": (AdamW, dict(optimizer=lambda o: [o, o]), "given twice"),
    "none": (AdamW, dict(optimizer=lambda o: []), "an empty list"),
    "no optimizer": (
        AdamW,
        dict(optimizer=lambda o: {"own": o}),
        "optimizer= was given dict: give an optimizer",
    ),
    "sizes": (AdamW, dict(hidden=7), "hidden"),
    "state": (AdamW, dict(state={"curvature": 0.5}), "keeps 'curvature'"),
}
REFUSED_ANEW: dict[str, tuple[Any, Any, str]] = {
    "scheduler": (AdamW, dict(scheduler=other_scheduler), "LambdaLR does not schedule the optimizer"),
    "average": (AdamW, dict(ema=lambda model: {}), "the average lacks"),
}


@pytest.mark.slow
@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("case", [*REFUSED, *REFUSED_ANEW])
def test_a_refusal_leaves_the_optimizer_its_state(case: str, anew: bool) -> None:
    if case in REFUSED_ANEW and not anew:
        pytest.skip("grow_ takes no such thing")
    kind, given, said = (REFUSED | REFUSED_ANEW)[case]
    model = tiny.model("LlamaForCausalLM").train()
    optimizer = kind(model.parameters())
    if kind is not torch.optim.LBFGS:
        step(model, optimizer)
    for state in optimizer.state.values():
        state.update(given.get("state", {}))
    options = {**SIZES, **{name: x for name, x in given.items() if name != "state"}, "optimizer": optimizer}
    if "optimizer" in given:
        options["optimizer"] = given["optimizer"](optimizer)
    options |= {name: options[name](model) for name in ("scheduler", "ema") if name in given}
    groups, before = optimizer.param_groups, {p: dict(state) for p, state in optimizer.state.items()}
    parameters = list(model.parameters())
    with pytest.raises(isogrow.IsogrowError, match=said):
        grow = isogrow.grow_training if anew else isogrow.grow_
        grow(model, **options, **(dict(release=True) if anew else {}))
    assert optimizer.param_groups is groups
    assert {p: dict(state) for p, state in optimizer.state.items()} == before
    assert all(p is q for p, q in zip(parameters, model.parameters(), strict=True))


# What is asked of it and it does not do


@pytest.mark.parametrize("name", ["ema", "scheduler", "release"])
def test_what_it_does_not_take(name: str) -> None:
    model, optimizer = trained()
    with pytest.raises(StateError, match=f"grow_ takes no {name}: "):
        isogrow.grow_(model, optimizer=optimizer, **SIZES, **{name: model})


def test_an_average_grows_beside_it_as_its_refusal_says() -> None:
    model, optimizer = trained()
    _, *_, average = isogrow.grow_training(model, ema=copy.deepcopy(model), **SIZES)
    isogrow.grow_(model, optimizer=optimizer, **SIZES)
    assert all(torch.equal(x, average.state_dict()[name]) for name, x in model.state_dict().items())


@pytest.mark.slow
def test_a_compiled_model_is_told_what_to_give() -> None:
    model, optimizer = trained()
    compiled: Any = torch.compile(model, backend="eager")
    for wrapper, inner in ((compiled, "_orig_mod"), (nn.DataParallel(model), "module")):
        with pytest.raises(
            FamilyError, match=rf"is a wrapper around a model: give the model itself, its \.{inner}"
        ):
            isogrow.grow_(wrapper, optimizer=optimizer, **SIZES)
    isogrow.grow_(compiled._orig_mod, optimizer=optimizer, **SIZES)
    assert torch.equal(compiled(input_ids=IDS).logits, model(input_ids=IDS).logits)


@pytest.mark.slow
@pytest.mark.parametrize("policy", [None, Policy(ramp=2)])
def test_a_growth_by_nothing_leaves_all_as_it_is(policy: Policy | None) -> None:
    """The pace of the growth before it goes on, and gradients stay."""
    model, optimizer = trained()
    isogrow.grow_(model, optimizer=optimizer, policy=Policy(ramp=math.inf), ffn="x2")
    model(input_ids=IDS, labels=IDS).loss.backward()
    parameters, known = list(model.parameters()), isogrow.plan_of(model)
    assert not isogrow.grow_(model, optimizer=optimizer, policy=policy, ffn="+0").steps
    assert all(p is q and p.grad is not None for p, q in zip(parameters, model.parameters(), strict=True))
    assert isogrow.plan_of(model) is known
    large, made, *_ = isogrow.grow_training(model, optimizer=optimizer, policy=policy, ffn="+0")
    for run, own in ((model, optimizer), (large, made)):
        weights = [layer.mlp.down_proj.weight for layer in run.model.layers]
        before = [weight.detach().clone() for weight in weights]
        for _ in range(2):
            step(run, own)
        for weight, was in zip(weights, before, strict=True):
            half = weight.shape[1] // 2
            assert torch.equal(weight[:, half:], was[:, half:])
            assert not torch.equal(weight[:, :half], was[:, :half])
    assert made.param_groups[0][COUNT] == optimizer.param_groups[0][COUNT] == 2
