"""An optimizer's state grows with its model: the law entry by entry, every optimizer, groups, disk."""

from __future__ import annotations

import copy
import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache
from typing import Any

import families as F
import numpy as np
import pytest
import torch
from sweeping import swept
from test_module import live
from torch import Tensor, nn
from transformers import optimization

import isogrow
from isogrow import Policy
from isogrow.errors import StateError
from isogrow.growth.models import lineage_of
from isogrow.interpreters import oracle as reference
from isogrow.interpreters.module import headers
from isogrow.layouts.config import edited
from isogrow.optim.state import grow_optimizer
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.matching import match
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import Block
from isogrow.plans.plan import OLD, Constant, Entry, Mean, Old, Plan
from isogrow.stores.binding import viewer

# The zero of the switch alone: no mean, no copies, so old entries' gradients obey the law.
LAWFUL: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("llama", F.FAMILIES["llama"].together),
    "1 + g": ("gemma", {"hidden": 42, "ffn": 51}),
    "fused qkv": ("gpt2", {"ffn": 51, "layers": 5}),
    "no attention scale": ("gpt_neo", {"ffn": 51, "layers": 5}),
    "head_dim": ("phi3", {"head_dim": 30}),
}
every_lawful = pytest.mark.parametrize("case", LAWFUL)


class Lion(torch.optim.Optimizer):
    """Any optimizer with one first moment."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 1e-2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
            p.sub_(torch.lerp(m, p.grad, 0.1).sign_(), alpha=self.param_groups[0]["lr"])
            m.lerp_(p.grad, 0.01)


class Adam32bit(torch.optim.Optimizer):
    """Adam with its moments under the names that bitsandbytes has."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 1e-2, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            state = self.state[p]
            state["step"] = state.get("step", 0) + 1
            m = state.setdefault("state1", torch.zeros_like(p)).lerp_(p.grad, 0.1)
            v = state.setdefault("state2", torch.zeros_like(p)).lerp_(p.grad**2, 0.01)
            p.sub_(m / (v.sqrt() + self.param_groups[0]["eps"]), alpha=self.param_groups[0]["lr"])


Make = Callable[[Any], torch.optim.Optimizer]
ADAM: Mapping[str, Any] = dict(lr=1e-2, eps=1e-3, weight_decay=0.1)
OPTIMIZERS: Mapping[str, Make] = {
    "AdamW": lambda p: torch.optim.AdamW(p, **ADAM),
    "AdamW amsgrad foreach": lambda p: torch.optim.AdamW(p, **ADAM, amsgrad=True, foreach=True),
    "AdamW fused": lambda p: torch.optim.AdamW(p, **ADAM, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, **ADAM),
    "NAdam": lambda p: torch.optim.NAdam(p, **ADAM),
    "RAdam": lambda p: torch.optim.RAdam(p, **ADAM),
    "Adamax": lambda p: torch.optim.Adamax(p, **ADAM),
    "Adadelta": lambda p: torch.optim.Adadelta(p, weight_decay=0.1),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9, centered=True),
    "SGD": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, weight_decay=0.1, nesterov=True),
    "SGD without momentum": lambda p: torch.optim.SGD(p, 1e-2),
    "Lion": Lion,
    "bitsandbytes' Adam": Adam32bit,
    "Muon": lambda p: torch.optim.Muon([x for x in p if x.dim() == 2]),
    "Adafactor": lambda p: torch.optim.Adafactor(p, 1e-2),
    "transformers' Adafactor": lambda p: optimization.Adafactor(
        p, lr=1e-2, relative_step=False, scale_parameter=False, beta1=0.9
    ),
}
OWN = ("Lion", "bitsandbytes' Adam")  # which a policy can't follow, as little as Muon and Adafactor
FOLLOWING = [name for name in OPTIMIZERS if name not in (*OWN, "Muon") and "factor" not in name]


@dataclasses.dataclass(frozen=True)
class Pair:
    small: Any
    large: Any
    anatomy: Anatomy
    plan: Plan

    def grown(self, optimizer: Any, policy: Policy | None = None, **options: Any) -> Any:
        policy = policy or Policy()
        return grow_optimizer(optimizer, self.small, self.large, self.anatomy, self.plan, policy, **options)


@cache
def pair(name: str, wanted: str = "", dtype: torch.dtype = torch.float32) -> Pair:
    """A model and what it grows to: everything at once, or one axis."""
    small = live(name, dtype=dtype)
    family = F.FAMILIES[name]
    large = isogrow.grow(small, **(family.growths[wanted] if wanted else family.together))
    found = lineage_of(large)
    assert found is not None
    return Pair(small, large, *found)


def gradients_(model: nn.Module, seed: int = 0) -> None:
    """Random gradients."""
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


def stepped(make: Make, model: nn.Module, steps: int = 2) -> Any:
    """An optimizer of a copy's state: the model's weights are left as they are."""
    optimizer = make(model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    for step in range(steps):
        gradients_(model, step)
        optimizer.step()
    with torch.no_grad():
        for p, x in zip(model.parameters(), before, strict=True):
            p.copy_(x)
    return optimizer


def shapes(optimizer: Any) -> list[Any]:
    return [
        {
            key: (tuple(x.shape), x.dtype) if isinstance(x, Tensor) else type(x)
            for key, x in sorted(found.items())
        }
        for group in optimizer.param_groups
        for found in (optimizer.state.get(p, {}) for p in group["params"])
    ]


def same(one: Any, two: Any) -> bool:
    """Whether two states hold the same, bit by bit, in whatever order."""
    if isinstance(one, Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(value, two[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


# Every optimizer on every layout


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_every_optimizer_on_every_layout(name: str, kind: str) -> None:
    """The grown state is shaped as one that was never grown, and trains on."""
    found = pair(name)
    optimizer = stepped(OPTIMIZERS[kind], found.small)
    kept = copy.deepcopy(optimizer.state_dict())
    for policy in (Policy("zero"), Policy("seeded"), Policy("fresh")):
        grown = found.grown(optimizer, policy)
        assert type(grown) is type(optimizer)
        assert shapes(grown) == shapes(stepped(OPTIMIZERS[kind], found.large)), policy
        large = copy.deepcopy(found.large)
        moved = dict(zip(found.large.parameters(), large.parameters(), strict=True))
        gradients_(large)
        grown.state = type(grown.state)(dict, {moved[p]: x for p, x in grown.state.items()})
        for group in grown.param_groups:
            group["params"] = [moved[p] for p in group["params"]]
        grown.step()
        assert all(p.isfinite().all() for p in large.parameters())
    assert same(kept, optimizer.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", swept(name for name in F.FAMILIES if name not in ("llama", "gpt2", "bert")))
def test_adamw_on_every_family(name: str) -> None:
    """Its state is shaped as one that was never grown, and stands in the order of the model's parameters."""
    found = pair(name)
    grown = found.grown(stepped(OPTIMIZERS["AdamW"], found.small))
    assert shapes(grown) == shapes(stepped(OPTIMIZERS["AdamW"], found.large))
    assert [id(p) for p in grown.param_groups[0]["params"]] == [id(p) for p in found.large.parameters()]


# The law


def in_float64(name: str, wanted: Mapping[str, Any]) -> Pair:
    with F.float64():
        small = F.rebuilt(live(name, dtype=torch.float64))
        large = isogrow.grow(small, **wanted)
    found = lineage_of(large)
    assert found is not None
    return Pair(small, large, *found)


def loss_of(model: Any, seed: int = 0) -> Tensor:
    with F.float64() if model.dtype == torch.float64 else nullcontext():
        logits = model(**F.batch("", seed)).logits
    return logits.square().mean() + logits.sin().mean()


def backward_(model: Any, seed: int = 0) -> float:
    model.zero_grad()
    loss = loss_of(model, seed)
    loss.backward()
    return loss.item()


@pytest.mark.slow
@every_lawful
def test_moments_are_those_of_the_grown_models_gradients(case: str) -> None:
    """What grows from the old gradient is the grown model's own gradient, by autograd, on old entries."""
    found = in_float64(*LAWFUL[case])
    for model in (found.small, found.large):
        backward_(model)
    optimizer = Lion(found.small.parameters())
    for p in found.small.parameters():
        g = p.grad
        optimizer.state[p] = {"exp_avg": g, "exp_avg_sq": g * g, "mask": torch.ones_like(p)}
    grown = found.grown(optimizer, Policy("zero", powers={"mask": 0}))
    scaled = 0
    for p in found.large.parameters():
        state = grown.state[p]
        old = state["mask"] == 1.0
        for power, key in enumerate(("exp_avg", "exp_avg_sq"), start=1):
            wanted = torch.where(old, p.grad**power, 0.0)
            assert (state[key] - wanted).abs().max() <= F.EXACT * wanted.abs().max()
        scaled += int(old.sum())
    assert scaled == sum(p.numel() for p in found.small.parameters())


def test_a_law_that_is_left_out_shows() -> None:
    found = in_float64(*LAWFUL["llama"])
    for model in (found.small, found.large):
        backward_(model)
    optimizer = Lion(found.small.parameters())
    for p in found.small.parameters():
        optimizer.state[p] = {"exp_avg": p.grad}
    grown = found.grown(optimizer, Policy(powers={"exp_avg": 0}))
    norm = found.large.model.norm.weight
    gap = (grown.state[norm]["exp_avg"] - norm.grad)[:30].abs().max()
    assert gap > 0.1 * norm.grad.abs().max()


def by_hand(plan: Plan, power: int, seeded: bool) -> Plan:
    """The plan of a moment, label by label."""
    steps = []
    for step in plan.steps:
        numbers = step.expansion == "LayerAddition"
        rewrites: dict[str, dict[str, Entry]] = {}
        for slot, rewrite in step.rewrites.items():
            made: dict[str, Entry] = {}
            for label, entry in rewrite.items():
                kept = isinstance(entry, Old) and (label.startswith(OLD) or seeded)
                if kept:
                    made[label] = Old(1.0 / entry.a**power, 0.0)  # type: ignore[union-attr]
                elif seeded and not numbers:
                    own = rewrite.get(OLD, Old())
                    assert isinstance(own, Old)
                    made[label] = Mean(a=1.0 / own.a**power)
                else:
                    made[label] = Constant(0.0)
            rewrites[slot] = made
        steps.append(dataclasses.replace(step, rewrites=rewrites))
    return dataclasses.replace(plan, steps=tuple(steps))


def blocks(anatomy: Anatomy, get: Callable[[str], Tensor]) -> dict[Block, Any]:
    read = viewer(anatomy, get)
    own = [stored for stored in anatomy.stored if not is_tied(anatomy, stored)]
    all_blocks = (block for stored in own for _, block in stored.blocks(anatomy.sizes))
    return {block: read(block).numpy() for block in all_blocks}


@pytest.mark.slow
@pytest.mark.parametrize("moments", ["zero", "seeded"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "bert", "olmo2", "mixtral", "bloom"])
def test_moments_against_the_slow_interpreter(name: str, moments: Any) -> None:
    """Every family's moments are what the reference makes of them, step by step, entry by entry."""
    found = pair(name, dtype=torch.float64)
    optimizer = stepped(OPTIMIZERS["AdamW"], found.small)
    grown = found.grown(optimizer, Policy(moments))
    large = match(found.anatomy.layout, edited(found.anatomy.config, found.plan.config), headers(found.large))
    for key, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
        seeded = moments == "seeded" and power == 2
        old, new = (
            {name: opt.state[p][key] for name, p in model.named_parameters(remove_duplicate=False)}
            for model, opt in ((found.small, optimizer), (found.large, grown))
        )
        wanted = reference.grow(by_hand(found.plan, power, seeded), blocks(found.anatomy, old.__getitem__))
        made = blocks(large, new.__getitem__)
        assert made.keys() == wanted.keys()
        for block, x in made.items():
            assert np.allclose(x, added_are_zero(found.plan, block, wanted[block]), rtol=1e-12, atol=0), block


def added_are_zero(plan: Plan, block: Block, x: Any) -> Any:
    """A new layer starts as in a new run."""
    layers = [step for step in plan.steps if step.expansion == "LayerAddition"]
    at = dict(block.index).get("layers")
    new = at is not None and any(not step.source(at)[1].startswith(OLD) for step in layers)
    return np.zeros_like(x) if new else x


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Adafactor", "transformers' Adafactor"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_factored_moments(name: str, kind: str) -> None:
    """Rows and columns stand for the same second moment of old entries, times 1/c²."""
    found = pair(name)
    optimizer = stepped(OPTIMIZERS[kind], found.small)
    grown = found.grown(optimizer, Policy("zero"))
    full = torch.optim.Adam(found.small.parameters())
    row, column = next((a, b) for a, b in FACTORS if any(a in state for state in optimizer.state.values()))
    for p, state in optimizer.state.items():
        if row in state:
            full.state[p] = {"exp_avg_sq": product(state[row], state[column], p)}
    wanted = found.grown(full, Policy("zero"))
    for p, state in wanted.state.items():
        v = product(grown.state[p][row], grown.state[p][column], p)
        assert torch.allclose(v, state["exp_avg_sq"], rtol=1e-4, atol=1e-9)


FACTORS = (("row_var", "col_var"), ("exp_avg_sq_row", "exp_avg_sq_col"))


def product(row: Tensor, column: Tensor, p: Tensor) -> Tensor:
    row, column = row.reshape(-1, 1), column.reshape(1, -1)
    return row @ column / row.mean().clamp_min(1e-30)


# Numbers, new tensors, untouched tensors


def test_steps_are_kept_and_new_tensors_start_anew() -> None:
    found = pair("llama")
    optimizer = stepped(OPTIMIZERS["AdamW amsgrad foreach"], found.small, steps=3)
    grown = found.grown(optimizer, Policy("seeded"))
    for name, p in found.large.named_parameters():
        new = any(f"layers.{n}." in name for n in (3, 4))
        state = grown.state[p]
        assert state["step"].item() == (0 if new else 3), name
        assert (state["exp_avg"].abs().sum() == 0) == new
        assert (state["max_exp_avg_sq"].abs().sum() == 0) == new


def test_a_sum_starts_where_a_new_one_would() -> None:
    """Adagrad's sums start at a number of the group's, in a new layer and wherever all starts afresh."""
    found = pair("llama")

    def make(parameters: Any) -> Any:
        first, *rest = parameters
        groups = [dict(params=[first]), dict(params=rest)]
        return torch.optim.Adagrad(groups, 1e-2, initial_accumulator_value=0.25)

    optimizer = stepped(make, found.small)
    new = make(found.large.parameters()).state
    for policy in (Policy(), Policy("fresh")):
        state = found.grown(optimizer, policy).state
        for name, p in found.large.named_parameters():
            if policy.moments == "fresh" or any(f"layers.{n}." in name for n in (3, 4)):
                assert torch.equal(state[p]["sum"], new[p]["sum"]), name
            else:
                assert not torch.equal(state[p]["sum"], new[p]["sum"]), name


def test_what_no_step_touches_keeps_its_bits() -> None:
    found = pair("llama", "ffn")
    optimizer = stepped(OPTIMIZERS["Adafactor"], found.small)
    grown = found.grown(optimizer)
    old, new = found.small.model.layers[1], found.large.model.layers[1]
    for key in ("row_var", "col_var"):
        a, b = (
            optimizer.state[old.self_attn.q_proj.weight][key],
            grown.state[new.self_attn.q_proj.weight][key],
        )
        assert torch.equal(a, b) and a.data_ptr() != b.data_ptr()


def test_release_empties_the_old_optimizer() -> None:
    found = pair("llama")
    optimizer = stepped(OPTIMIZERS["AdamW"], found.small)
    wanted = found.grown(optimizer)
    grown = found.grown(optimizer, release=True)
    assert not optimizer.state
    assert same(grown.state_dict(), wanted.state_dict())


# Groups


def test_groups_and_their_parameters_order() -> None:
    """Groups keep what they hold; parameters stand as a new optimizer of the grown model would have them."""
    small = live("llama")
    small.model.embed_tokens.requires_grad_(False)
    extra = nn.Parameter(torch.ones(3))

    def grouped(model: Any) -> list[dict[str, Any]]:
        trained = [p for p in model.parameters() if p.requires_grad]
        matrices, vectors = ([p for p in trained if (p.dim() > 1) is two] for two in (True, False))
        return [dict(params=matrices, weight_decay=0.3), dict(params=[*vectors, extra], lr=0.5, note="own")]

    optimizer = torch.optim.AdamW(grouped(small), lr=1e-3, betas=(0.8, 0.9))
    gradients_(small)
    extra.grad = torch.ones(3)
    optimizer.step()
    large, grown, *_ = isogrow.grow_training(
        small, optimizer=optimizer, hidden=42, layers=5, layers_at=(0, 2)
    )
    made = torch.optim.AdamW(grouped(large), lr=1e-3, betas=(0.8, 0.9))
    assert [[id(p) for p in group["params"]] for group in grown.param_groups] == [
        [id(p) for p in group["params"]] for group in made.param_groups
    ]
    without = [{k: v for k, v in g.items() if k != "params"} for g in grown.param_groups]
    assert without == [{k: v for k, v in g.items() if k != "params"} for g in made.param_groups]
    assert grown.state[extra] is optimizer.state[extra]
    made.load_state_dict(grown.state_dict())
    assert same(made.state_dict(), grown.state_dict())


def test_in_an_order_of_ones_own_new_parameters_stand_behind_their_origin() -> None:
    small = live("llama")
    named = list(reversed(list(small.named_parameters())))
    optimizer = torch.optim.SGD(named, momentum=0.9)
    large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, layers=4)
    names = {p: name for name, p in large.named_parameters()}
    found = [names[p] for p in grown.param_groups[0]["params"]]
    assert grown.param_groups[0]["param_names"] == found
    at = found.index("model.layers.2.mlp.up_proj.weight")
    assert found[at + 1] == "model.layers.3.mlp.up_proj.weight"
    assert len(found) == len(set(found)) == len(names)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_tied_parameters_stand_once(name: str) -> None:
    small = live(name, tie_word_embeddings=True)
    optimizer = torch.optim.AdamW(small.parameters())
    large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, **F.FAMILIES[name].together)
    assert [id(p) for p in grown.param_groups[0]["params"]] == [id(p) for p in large.parameters()]


def test_a_learning_rate_that_is_a_tensor_is_its_own() -> None:
    small = live("llama")
    optimizer = torch.optim.AdamW(small.parameters(), lr=torch.tensor(0.1), foreach=False)
    _, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, ffn=51)
    grown.param_groups[0]["lr"].fill_(0.2)
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(0.1)


# Refusals


def kept(optimizer: Any, key: str, value: Any) -> Any:
    for state in optimizer.state.values():
        state[key] = value
    return optimizer


def test_an_unknown_tensor_is_refused_by_name_or_dropped() -> None:
    found = pair("llama", "ffn")
    optimizer = stepped(Lion, found.small)
    for p, state in optimizer.state.items():
        state["curvature"] = torch.ones_like(p)
    with pytest.raises(StateError, match=r"keeps 'curvature' for model\..*powers=\{'curvature': 1\}"):
        found.grown(optimizer, release=True)
    assert len(optimizer.state) == len(list(found.small.parameters()))
    for grown, keys in (
        (found.grown(optimizer, Policy(unknown="drop")), {"exp_avg"}),
        (found.grown(optimizer, Policy(powers={"curvature": 2})), {"exp_avg", "curvature"}),
    ):
        assert {key for state in grown.state.values() for key in state} == keys


@pytest.mark.parametrize("value", [0.5, torch.tensor(0.5), torch.ones(3)], ids=str)
def test_what_holds_no_power_is_offered_none(value: Any) -> None:
    found = pair("llama", "ffn")
    optimizer = kept(stepped(Lion, found.small), "momentum_decay", value)
    with pytest.raises(
        StateError, match=r"keeps 'momentum_decay' for .* if the optimizer does without"
    ) as said:
        found.grown(optimizer)
    assert "powers" not in str(said.value)
    found.grown(optimizer, Policy(unknown="drop"))


def test_a_power_of_one_number_is_refused() -> None:
    found = pair("llama", "ffn")
    with pytest.raises(StateError, match="powers names 'decay', and the optimizer keeps one number under it"):
        found.grown(kept(stepped(Lion, found.small), "decay", 0.5), Policy(powers={"decay": 1}))


@pytest.mark.parametrize("policy", [Policy(), Policy(unknown="drop"), Policy(powers={"ax": 0, "prev": 1})])
@pytest.mark.parametrize("kind", ["ASGD", "Rprop"])
def test_what_an_optimizer_cant_do_without_is_not_offered_to_drop(kind: str, policy: Policy) -> None:
    """Without it the next step would fail; the mend is one that leads on."""
    found = pair("llama", "ffn")
    optimizer = stepped(getattr(torch.optim, kind), found.small)
    with pytest.raises(
        StateError, match=rf"{kind} keeps .* can't do without.* make a new {kind} for it"
    ) as said:
        found.grown(optimizer, policy, release=True)
    assert "drop" not in str(said.value) and len(optimizer.state) == len(list(found.small.parameters()))


def test_a_file_of_such_a_state_is_refused_alike() -> None:
    found = pair("llama", "ffn")
    state = stepped(torch.optim.ASGD, found.small).state_dict()

    def all_names(model: Any) -> Any:
        return [[name for name, _ in model.named_parameters()]]

    with pytest.raises(StateError, match="ASGD keeps ax, eta, mu"):
        isogrow.grow_optimizer_state(state, found.small, found.large, found.plan, groups=all_names)


def test_a_state_of_another_shape_is_refused() -> None:
    found = pair("llama", "ffn")
    with pytest.raises(StateError, match=r"exp_avg of .* is \[3, 5\], and the parameter's shape is"):
        found.grown(kept(stepped(Lion, found.small), "exp_avg", torch.ones(3, 5)))


def test_factors_of_another_shape_are_refused() -> None:
    found = pair("llama", "ffn")
    optimizer = stepped(OPTIMIZERS["Adafactor"], found.small)
    optimizer.state[found.small.lm_head.weight]["col_var"] = torch.ones(1, 7)
    with pytest.raises(StateError, match=r"col_var of lm_head.weight is \[1, 7\], and the parameter's shape"):
        found.grown(optimizer)


def test_one_factor_alone_is_refused() -> None:
    found = pair("llama", "ffn")
    optimizer = stepped(OPTIMIZERS["Adafactor"], found.small)
    del optimizer.state[found.small.lm_head.weight]["col_var"]
    before = len(optimizer.state)
    with pytest.raises(StateError, match="lm_head.weight has row_var without col_var"):
        found.grown(optimizer, release=True)
    assert len(optimizer.state) == before


def test_another_models_optimizer_is_refused() -> None:
    optimizer = torch.optim.AdamW(live("llama").parameters())
    with pytest.raises(StateError, match="holds no parameter of this model"):
        isogrow.grow_training(live("llama"), optimizer=optimizer, ffn=51)


class Wrapped(torch.optim.Optimizer):
    """An optimizer around another, as accelerate has them."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.inner.param_groups

    @param_groups.setter
    def param_groups(self, groups: Any) -> None:
        self.inner.param_groups = groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.inner.state


def test_a_wrapped_optimizer_is_refused() -> None:
    small = live("llama")
    inner = torch.optim.AdamW(small.parameters())
    groups = inner.param_groups
    with pytest.raises(StateError, match="Wrapped wraps another optimizer: grow the one inside"):
        isogrow.grow_training(small, optimizer=Wrapped(inner), ffn=51)
    assert inner.param_groups is groups


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(moments="none"), "moments='none' is not known: give zero or seeded or fresh"),
        (dict(unknown="keep"), "unknown='keep' is not known"),
        (dict(ramp=-1), "ramp=-1 is no number of steps"),
        (dict(ramp=math.nan), "ramp=nan is no number of steps"),
        (dict(ramp=5, ramp_from=-1), "ramp_from=-1 is no factor"),
        (dict(ramp_from=1.3), "ramp_from=1.3 needs a ramp: give the steps"),
        (dict(ramp=math.inf, ramp_from=1.3), "ramp_from=1.3 needs a ramp"),
        (dict(ramp="fast"), "ramp='fast' is no number of steps: give 0 or more"),
        (dict(ramp=True), "ramp=True is no number of steps"),
        (dict(ramp=5, ramp_from="x"), "ramp_from='x' is no factor"),
        (dict(old_rate=-1), "old_rate=-1 is no factor: give 0 or more"),
        (dict(new_rate=math.inf), "new_rate=inf is no factor"),
        (dict(old_rate=0, rates_for=0), "rates_for=0 is no number of steps: give more than 0"),
        (dict(rates_for=9), "rates_for=9 has no rates: give old_rate or new_rate"),
        (dict(follow="no"), "follow='no' is neither yes nor no: give True or False"),
        (dict(powers=["a"]), r"powers=\['a'\] names no powers: give a dict, {name: power of the gradient}"),
        (dict(powers={"exp_avg": "x"}), "powers says 'x' of 'exp_avg', which is no power of the gradient"),
        (dict(powers={"exp_avg": math.nan}), "powers says nan of 'exp_avg'"),
    ],
)
def test_a_policy_says_what_it_knows(options: dict[str, Any], said: str) -> None:
    with pytest.raises(StateError, match=said):
        Policy(**options)


@pytest.mark.parametrize("options", [dict(scheduler=1), dict(policy=Policy()), dict(release=True)])
def test_what_needs_an_optimizer_says_so(options: dict[str, Any]) -> None:
    with pytest.raises(StateError, match="without an optimizer"):
        isogrow.grow_training(live("llama"), ffn=51, **options)
    with pytest.raises(
        StateError, match=r"grow takes no .*; isogrow.grow_training\(model, optimizer=…\) grows"
    ):
        isogrow.grow(live("llama"), ffn=51, **options)


# ── beside groups and state ──


class Blocked(torch.optim.SGD):
    """Steps over lists of its own."""

    def __init__(self, params: Any, keep: Callable[[list[Any]], Any]) -> None:
        super().__init__(params, lr=0.1)
        self.own = keep([p for group in self.param_groups for p in group["params"]])


@pytest.mark.parametrize(
    "keep", [lambda found: {"blocks": [found]}, lambda found: [[found[:2]], (found[2:],)], nn.ParameterList]
)
def test_parameters_beside_the_groups_are_seen_at_any_depth(keep: Callable[[list[Any]], Any]) -> None:
    small = live("llama")
    optimizer = Blocked(list(small.parameters()), keep)
    with pytest.raises(StateError, match="Blocked keeps .* in 'own' beside its groups, where it would stay"):
        isogrow.grow_training(small, optimizer=optimizer, ffn=51)


def test_what_is_kept_for_all_parameters_goes_along() -> None:
    small = live("llama")
    optimizer = torch.optim.AdamW(small.parameters())
    backward_(small, 0)
    optimizer.step()
    state: Any = optimizer.state
    state["all"] = {"count": 3, "rate": torch.tensor(0.5)}
    _, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, ffn=51)
    assert grown.state["all"] == {"count": 3, "rate": torch.tensor(0.5)}
    state["all"]["sums"] = torch.ones(28)
    with pytest.raises(StateError, match="keeps a tensor under 'all', which is no parameter, so no law says"):
        isogrow.grow_training(small, optimizer=optimizer, ffn=51)


def test_nothing_is_taken_from_the_first_where_the_second_can_not_be_copied() -> None:
    small = live("llama")
    first, *rest = small.parameters()
    one, two = torch.optim.AdamW([first]), torch.optim.AdamW(rest)
    backward_(small, 0)
    one.step()
    two.param_groups[0]["lock"] = threading.Lock()
    with pytest.raises(
        StateError, match="group 0 of AdamW holds lock=.*, which can't be copied .*: take it out"
    ):
        isogrow.grow_(small, optimizer=[one, two], ffn=51)
    assert len(one.state) == 1


def test_in_place_groups_stay_the_objects_that_they_are() -> None:
    """Who holds a group, or a rate in a tensor, goes on with it."""
    small = live("llama")
    rate = torch.tensor(0.1)
    optimizer = torch.optim.AdamW(small.parameters(), lr=rate)
    groups, first = optimizer.param_groups, optimizer.param_groups[0]
    isogrow.grow_(small, optimizer=optimizer, policy=Policy(ramp=3), ffn=51)
    isogrow.grow_(small, optimizer=optimizer, layers="+1")
    assert optimizer.param_groups is groups and groups[0] is first and first["lr"] is rate
    assert first["params"] == list(small.parameters()) and "steps_since_growth" not in first


def test_names_are_those_that_the_optimizer_was_given() -> None:
    """Of a model within another, and of what stands beside it."""
    inner = live("llama")
    outer = nn.ModuleDict({"lm": inner, "head": nn.Linear(28, 2)})
    optimizer = torch.optim.AdamW(outer.named_parameters())
    isogrow.grow_(inner, optimizer=optimizer, layers="+1")
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in outer.named_parameters()]
