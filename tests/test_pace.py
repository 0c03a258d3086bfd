"""How entries move after a growth: the small run followed, new entries ramped, runs stopped and resumed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
from test_module import live
from test_optimizer import (
    ADAM,
    FOLLOWING,
    LAWFUL,
    OPTIMIZERS,
    Lion,
    Pair,
    backward_,
    every_lawful,
    gradients_,
    in_float64,
    loss_of,
    pair,
)
from torch import Tensor

import isogrow
from isogrow import Policy, plan_of
from isogrow.errors import SizeError, StateError
from isogrow.plans.serial import from_json, to_json

FOLLOW = Policy(ramp=math.inf, follow=True)
FROZEN = Policy(ramp=math.inf)


def losses(model: Any, optimizer: Any, steps: int, first: int = 0) -> list[float]:
    """Losses of a run on batches that are numbered from `first`."""
    found: list[float] = []
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss = loss_of(model, step)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def gap(case: str, kind: str, policy: Policy, steps: int = 5) -> float:
    """How far the grown run's losses are from the small run's, where nothing but the growth differs."""
    name, wanted = LAWFUL[case]
    with F.float64():
        small = F.rebuilt(live(name, dtype=torch.float64))
    optimizer = OPTIMIZERS[kind](small.parameters())
    losses(small, optimizer, 3)
    with F.float64():
        large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, policy=policy, **wanted)
    pairs = zip(losses(small, optimizer, steps, 3), losses(large, grown, steps, 3), strict=True)
    return max(abs(a - b) / abs(a) for a, b in pairs)


@pytest.mark.slow
@every_lawful
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_the_grown_run_is_the_small_run(case: str, kind: str) -> None:
    """With new entries frozen and old ones following, k steps of one are k steps of the other."""
    assert gap(case, kind, FOLLOW) < F.EXACT


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in FOLLOWING if kind not in ("SGD", "AdamW")])
def test_what_treats_entries_one_by_one_follows(kind: str) -> None:
    assert gap("llama", kind, FOLLOW, steps=3) < F.EXACT


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize(
    "policy", [FROZEN, Policy(follow=True), Policy()], ids=["frozen", "follow", "neither"]
)
def test_without_the_corrections_it_is_another_run(kind: str, policy: Policy) -> None:
    assert gap("llama", kind, policy) > F.BROKEN


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama", "1 + g"])
def test_following_is_the_rates_of_the_law(case: str) -> None:
    """SGD at rate a², Adam at rate a with ε/a, both with decay towards b: entry by entry, by hand."""
    for kind in ("SGD", "AdamW"):
        found = in_float64(*LAWFUL[case])
        a, b = affine(found)
        rate, decay = 1e-2, 0.1
        plain = torch.optim.SGD if kind == "SGD" else torch.optim.AdamW
        options: dict[str, Any] = dict(lr=rate, weight_decay=decay if kind == "AdamW" else 0.0)
        optimizer = plain(found.large.parameters(), **options)
        isogrow.pace(found.large, optimizer, found.plan, Policy(follow=True))
        before = {p: p.detach().clone() for p in found.large.parameters()}
        backward_(found.large)
        optimizer.step()
        for p, was in before.items():
            g = p.grad
            if kind == "SGD":
                wanted = was - rate * a[p] ** 2 * g
            else:
                wanted = was - rate * decay * (was - b[p]) - rate * a[p] * g / (g.abs() + 1e-8 / a[p])
            assert torch.allclose(p, wanted, rtol=1e-12, atol=1e-14)


def affine(found: Pair) -> tuple[dict[Tensor, Tensor], dict[Tensor, Tensor]]:
    """a and b of every entry (1 and 0 of new ones), from growing two other models by the same plan."""
    grown: list[Any] = []
    for value in (0.0, 1.0):
        small = copy.deepcopy(found.small)
        with torch.no_grad():
            for p in small.parameters():
                p.fill_(value)
        grown.append(isogrow.grow(small, plan=found.plan).state_dict())
    masks = found.grown(masked(found), Policy(powers={"mask": 0}))
    a: dict[Tensor, Tensor] = {}
    b: dict[Tensor, Tensor] = {}
    for name, p in found.large.named_parameters():
        old = masks.state[p]["mask"] == 1.0
        b[p] = torch.where(old, grown[0][name], 0.0)
        a[p] = torch.where(old, grown[1][name] - grown[0][name], 1.0)
    return a, b


def masked(found: Pair) -> Any:
    optimizer = Lion(found.small.parameters())
    for p in found.small.parameters():
        optimizer.state[p] = {"mask": torch.ones_like(p)}
    return optimizer


@pytest.mark.parametrize("kind", ["Lion", "Muon", "Adafactor"])
def test_what_does_not_is_refused(kind: str) -> None:
    small = live("llama")
    optimizer = OPTIMIZERS[kind](small.parameters())
    with pytest.raises(StateError, match=rf"{kind} can't follow the small run.*follow=False"):
        isogrow.grow_training(small, optimizer=optimizer, policy=FOLLOW, ffn=51)


def test_a_closure_is_refused() -> None:
    small = live("llama")
    optimizer = torch.optim.SGD(small.parameters())
    _, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, policy=FOLLOW, ffn=51)
    with pytest.raises(StateError, match="a step with a closure can't be paced"):
        grown.step(lambda: 1.0)
    grown.step(None)  # as wrappers of optimizers say that there is none


# New entries


@pytest.mark.parametrize("start", [0.0, 0.25, 1.5])
def test_a_ramp_paces_new_entries_alone(start: float) -> None:
    """In step t they move f + (1 - f) t / ramp times what they would, then as all others do."""
    found = pair("llama", dtype=torch.float64)
    masks = found.grown(masked(found), Policy(powers={"mask": 0})).state
    grown = found.grown(torch.optim.SGD(found.small.parameters(), lr=1.0))
    held = isogrow.pace(found.large, grown, found.plan, Policy(ramp=4, ramp_from=start))
    were = [p.detach().clone() for p in found.large.parameters()]
    for step in range(1, 7):
        gradients_(found.large, step)
        before = [p.detach().clone() for p in found.large.parameters()]
        grown.step()
        for p, was in zip(found.large.parameters(), before, strict=True):
            old = masks[p]["mask"] == 1.0
            wanted = was - torch.where(old, 1.0, start + (1 - start) * min(1.0, step / 4)) * p.grad
            assert torch.allclose(p, wanted, rtol=0, atol=1e-14)
            assert not old.all() or torch.equal(p, was - p.grad)
    held.remove()
    with torch.no_grad():
        for p, x in zip(found.large.parameters(), were, strict=True):
            p.copy_(x)


# New entries alone


def old_of(found: Pair) -> dict[Tensor, Tensor]:
    """Where each parameter is old."""
    grown = found.grown(masked(found), Policy(powers={"mask": 0}))
    return {p: state["mask"] == 1.0 for p, state in grown.state.items()}


def trained_alone(kind: str, policy: Policy, steps: int = 3) -> tuple[bool, bool]:
    """Whether old entries kept every bit, and whether new ones moved (some by less than float32 tells); with
    weight decay."""
    found = pair("llama")
    old = old_of(found)
    optimizer = OPTIMIZERS[kind](found.large.parameters())
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.1
    held = isogrow.pace(found.large, optimizer, found.plan, policy)
    with torch.no_grad():
        found.large.model.layers[0].mlp.up_proj.weight[0, 0] = -0.0  # its sign is a bit, too
    before = {p: p.detach().clone() for p in found.large.parameters()}
    for step in range(steps):
        gradients_(found.large, step)
        optimizer.step()
    held.remove()
    whole = zip(found.large.parameters(), before.values(), strict=True)
    kept = all(torch.equal(p[old[p]].view(torch.int32), was[old[p]].view(torch.int32)) for p, was in whole)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    apart = torch.cat([(p != before[p])[~old[p]] for p in trained])
    moved = apart.float().mean().item() > 0.9
    with torch.no_grad():
        for p, was in before.items():
            p.copy_(was)
    return kept, moved


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SGD", "AdamW", "Muon", "Adafactor"])
def test_old_entries_keep_their_bits_where_new_ones_are_trained_alone(kind: str) -> None:
    assert trained_alone(kind, Policy(old_rate=0)) == (True, True)
    assert trained_alone(kind, Policy(old_rate=0, rates_for=3)) == (True, True)


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_old_entries_that_follow_keep_their_bits(kind: str) -> None:
    """Although they go to the small model's coordinates and back."""
    assert trained_alone(kind, Policy(old_rate=0, follow=True)) == (True, True)


@pytest.mark.parametrize("policy", [Policy(old_rate=1e-3), Policy(old_rate=0, rates_for=2), Policy(ramp=9)])
def test_old_entries_that_are_trained_are_seen(policy: Policy) -> None:
    assert trained_alone("SGD", policy) == (False, True)


def test_moments_of_frozen_entries_go_on() -> None:
    found = pair("llama")
    old, optimizer = old_of(found), torch.optim.AdamW(found.large.parameters())
    held = isogrow.pace(found.large, optimizer, found.plan, Policy(old_rate=0))
    gradients_(found.large)
    before = {p: p.detach().clone() for p in found.large.parameters()}
    optimizer.step()
    held.remove()
    for p, was in before.items():
        assert torch.allclose(optimizer.state[p]["exp_avg"][old[p]], 0.1 * p.grad[old[p]], atol=1e-7)
        p.data.copy_(was)


def test_rates_of_their_own_for_so_many_steps() -> None:
    """SGD by hand: new entries at 3 times the rate, ramped, old ones at a quarter, for four steps."""
    found = pair("llama", dtype=torch.float64)
    old = old_of(found)
    optimizer = torch.optim.SGD(found.large.parameters(), lr=1.0)
    held = isogrow.pace(
        found.large, optimizer, found.plan, Policy(ramp=2, new_rate=3, old_rate=0.25, rates_for=4)
    )
    before = {p: p.detach().clone() for p in found.large.parameters()}
    for new, kept in ((1.5, 0.25), (3.0, 0.25), (3.0, 0.25), (3.0, 0.25), (1.0, 1.0), (1.0, 1.0)):
        gradients_(found.large, 5)
        was = {p: p.detach().clone() for p in found.large.parameters()}
        optimizer.step()
        for p, x in was.items():
            wanted = x - torch.where(old[p], kept, new) * p.grad
            assert torch.allclose(p, wanted, rtol=0, atol=1e-13)
    held.remove()
    with torch.no_grad():
        for p, x in before.items():
            p.copy_(x)


def test_a_second_growth_ends_the_pace_of_the_first() -> None:
    small = live("llama")
    optimizer = torch.optim.SGD(small.parameters(), lr=1.0)
    large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, policy=FROZEN, ffn=51)
    larger, again, *_ = isogrow.grow_training(large, optimizer=grown, ffn=60)
    assert len(grown._optimizer_step_pre_hooks) == len(grown._optimizer_step_post_hooks) == 1
    assert not again._optimizer_step_pre_hooks and not again._optimizer_step_post_hooks
    assert again.param_groups[0].keys() == optimizer.param_groups[0].keys()


def test_a_new_pace_takes_the_place_of_the_old() -> None:
    small = live("llama")
    optimizer = torch.optim.SGD(small.parameters())
    large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, policy=FROZEN, ffn=51)
    known = plan_of(large)
    assert known is not None
    isogrow.pace(large, grown, known, Policy(ramp=3))
    assert len(grown._optimizer_step_pre_hooks) == len(grown._optimizer_step_post_hooks) == 1


def test_hooks_of_ones_own_are_kept() -> None:
    small = live("llama")
    optimizer = torch.optim.SGD(small.parameters())
    seen: list[Any] = []
    optimizer.register_step_post_hook(lambda own, args, kwargs: seen.append(own))
    large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, policy=FROZEN, ffn=51)
    gradients_(large)
    grown.step()
    assert seen == [grown]
    assert len(optimizer._optimizer_step_post_hooks) == 1


# Stopped and resumed


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(ramp=5),
        Policy("zero", ramp=5, follow=True),
        Policy(old_rate=0, new_rate=2, rates_for=3),
    ],
    ids=["plain", "ramp", "follow", "rates"],
)
@pytest.mark.parametrize("at", [0, 2])
def test_a_run_that_is_stopped_goes_on_as_if_it_were_not(policy: Policy, at: int, tmp_path: Path) -> None:
    """float32, bit by bit: stopped right after the growth, or some steps later."""
    wanted = F.FAMILIES["llama"].together
    small = live("llama").train()
    optimizer = torch.optim.AdamW(small.parameters(), **ADAM)
    losses(small, optimizer, 2)
    large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, policy=policy, **wanted)
    never = losses(large, grown, 5, 2)

    large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, policy=policy, **wanted)
    found = losses(large, grown, at, 2)
    known = plan_of(large)
    assert known is not None
    large.save_pretrained(tmp_path / "model")
    torch.save(grown.state_dict(), tmp_path / "optimizer.pt")
    (tmp_path / "plan.json").write_text(json.dumps(to_json(known)))

    fresh = type(large).from_pretrained(tmp_path / "model").train()
    made = torch.optim.AdamW(fresh.parameters(), **ADAM)
    made.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    if policy.paced:
        isogrow.pace(fresh, made, from_json(json.loads((tmp_path / "plan.json").read_text())), policy)
    assert found + losses(fresh, made, 5 - at, 2 + at) == never


@pytest.mark.parametrize("policy", [Policy(old_rate=0.5, ramp=5), Policy(follow=True, ramp=5)])
def test_a_step_that_failed_is_made_again_as_if_it_had_not_been(policy: Policy) -> None:
    """An error in the step itself, caught: what the pace did before it is taken back."""
    found: list[Tensor] = []
    for fails in (False, True):
        small = live("llama").double()
        optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
        wanted: Any = dict(hidden=42, head_dim=12)
        large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, policy=policy, **wanted)
        gradients_(large)
        if fails:
            with pytest.raises(MemoryError), pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch.optim.SGD, "_init_group", failing)
                grown.step()
        grown.step()
        gradients_(large, 1)
        grown.step()
        assert grown.param_groups[0]["steps_since_growth"] == 2
        found.append(torch.cat([p.detach().flatten() for p in large.parameters()]))
    assert (found[0] - found[1]).norm() < 1e-14 * found[0].norm()


def failing(*_: Any, **__: Any) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optimizer": lambda old, own: old}, "the optimizer holds no parameter of this model: give the one"),
        ({"optimizer": lambda old, own: [own, own]}, "an optimizer is given twice"),
        ({"optimizer": lambda old, own: [own, old]}, "pace\\(\\) takes one optimizer: call it once for each"),
        ({"policy": {"old_rate": 0}}, "policy is {'old_rate': 0}: give an isogrow.Policy, like Policy"),
    ],
)
def test_what_can_not_be_paced_is_refused(given: dict[str, Any], said: str) -> None:
    small = live("llama")
    old = torch.optim.SGD(small.parameters())
    large, own, *_ = isogrow.grow_training(small, optimizer=old, ffn=51)
    known = plan_of(large)
    assert known is not None
    optimizer = given["optimizer"](old, own) if "optimizer" in given else own
    with pytest.raises(StateError, match=said):
        isogrow.pace(large, optimizer, known, given.get("policy", FROZEN))


@pytest.mark.parametrize("policy", [{"old_rate": 0}, "fresh"])
def test_a_policy_of_another_kind_is_refused(policy: Any) -> None:
    small = live("llama")
    optimizer = torch.optim.SGD(small.parameters())
    for grow in (isogrow.grow_training, isogrow.grow_):
        with pytest.raises(StateError, match="policy is .*: give an isogrow.Policy, like Policy"):
            grow(small, optimizer=optimizer, policy=policy, ffn=51)


def test_a_pace_by_another_models_plan_is_refused() -> None:
    found = pair("llama", "ffn")
    optimizer = torch.optim.SGD(found.small.parameters())
    with pytest.raises(SizeError, match="the plan does not end at this model's sizes"):
        isogrow.pace(found.small, optimizer, found.plan, FROZEN)


def test_the_loss_at_growth() -> None:
    """float32, the same batch, just before and just after."""
    for name in ("llama", "gpt2", "bert"):
        small = live(name)
        optimizer = torch.optim.AdamW(small.parameters())
        before = float_loss(small, name)
        large, *_ = isogrow.grow_training(small, optimizer=optimizer, **F.FAMILIES[name].together)
        assert abs(float_loss(large, name) - before) <= 1e-6 * abs(before)


def float_loss(model: Any, name: str) -> float:
    given: Mapping[str, Tensor] = F.batch(F.FAMILIES[name].classes[0])
    with torch.no_grad():
        logits = model(**given).logits.double()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), given["input_ids"].flatten()).item()
