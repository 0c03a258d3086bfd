"""Optimizers that no table knows: what they keep is measured, and grows by the law that was found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import families as F
import pytest
import schedulefree
import torch
from test_module import live
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import isogrow
from isogrow import Policy
from isogrow.errors import StateError
from isogrow.growth.models import lineage_of
from isogrow.optim.measured import Measured, measured
from isogrow.optim.state import grow_optimizer, grow_optimizer_state

State = dict[str, Any]


class Stranger(torch.optim.Optimizer):
    """An optimizer whose step is `rule`, of a parameter, its gradient and its state."""

    def __init__(
        self, params: Any, rule: Callable[[Tensor, Tensor, State, float], None], **group: Any
    ) -> None:
        super().__init__(params, {"lr": 1e-2, **group})
        self.rule = rule

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                self.rule(p, p.grad, self.state[p], group["lr"])


def normalized(p: Tensor, g: Tensor, state: State, rate: float) -> None:
    """A mean of gradients over the root of their squares', under Adam's names (ADOPT, arXiv 2411.02853)."""
    square = state.setdefault("exp_avg_sq", g * g)
    mean = state.setdefault("exp_avg", torch.zeros_like(p))
    mean.lerp_(g / square.sqrt(), 0.1)
    square.lerp_(g * g, 0.01)
    p.sub_(mean, alpha=rate)


def looks_ahead(p: Tensor, g: Tensor, state: State, rate: float) -> None:
    slow = state.setdefault("slow", p.clone())
    p.sub_(g, alpha=rate)
    slow.lerp_(p, 0.5)


def of_many(p: Tensor, g: Tensor, state: State, rate: float) -> None:
    """States of every kind under names that say nothing."""
    state["count"] = state.get("count", 0) + 1
    state["of its own setting"] = None
    state["largest"] = max(state.get("largest", 0.0), float(g.abs().max()))
    state["u"] = state.get("u", 0) + g
    state["v"] = state.get("v", 0) + g.abs() ** 3
    state["w"] = -rate * g.sign()
    state["mixed"] = g + g * g
    state["rows"] = (g * g).mean(-1) if g.dim() > 1 else g.new_zeros(3)
    state["nothing"] = torch.zeros_like(p)
    state["moved"] = p - rate * g


def model(name: str) -> Any:
    return live(name, dtype=torch.float64)


def gradients(found: nn.Module, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in found.parameters()]


def stepped(optimizer: torch.optim.Optimizer, steps: list[list[Tensor]]) -> torch.optim.Optimizer:
    """After steps with these gradients."""
    for each in steps:
        for p, g in zip(optimizer.param_groups[0]["params"], each, strict=True):
            p.grad = g
        optimizer.step()
    return optimizer


# ── what is found ──


def test_what_is_found_of_every_kind_of_state() -> None:
    both = [nn.Parameter(torch.randn(7, 9)), nn.Parameter(torch.randn(9))]
    found = measured(Stranger(both, of_many))
    assert found.powers == {"u": 1, "v": 3, "w": 0}
    assert found.points == {"moved"} and found.numbers == {"count", "of its own setting"}
    assert found.others == {"largest", "mixed", "rows"}  # and of what stays 0 nothing is told
    assert measured(Stranger(both, normalized)).powers == {"exp_avg": 0, "exp_avg_sq": 2}
    assert measured(Stranger(both, looks_ahead)) == Measured(points=frozenset({"slow"}))


def test_groups_that_keep_other_things_under_one_name() -> None:
    class Two(Stranger):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p] |= {"m": p.grad if group["plain"] else p.grad**2, "step": 1}

    first, second = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
    one = Two([{"params": [first], "plain": True}, {"params": [second], "plain": True}], looks_ahead)
    assert measured(one) == Measured({"m": 1}, numbers=frozenset({"step"}))
    one.param_groups[1]["plain"] = False
    assert measured(one) == Measured(numbers=frozenset({"step"}), others=frozenset({"m"}))


def test_measuring_leaves_no_trace() -> None:
    p = nn.Parameter(torch.randn(7, 9))
    optimizer = stepped(Stranger([p], of_many), [[torch.randn(7, 9)]])
    calls: list[int] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    before, state, random = p.detach().clone(), copy.deepcopy(optimizer.state[p]), torch.get_rng_state()
    group = copy.deepcopy({k: v for k, v in optimizer.param_groups[0].items() if k != "params"})
    measured(optimizer)
    assert torch.equal(p, before) and torch.equal(torch.get_rng_state(), random) and not calls
    assert optimizer.state[p].keys() == state.keys() and torch.equal(optimizer.state[p]["u"], state["u"])
    assert {k: v for k, v in optimizer.param_groups[0].items() if k != "params"} == group


def test_nothing_is_told_of_whom_the_tables_know_or_who_can_not_step_alone() -> None:
    p = nn.Parameter(torch.randn(3, 4))
    assert measured(torch.optim.AdamW([p])) == measured(torch.optim.Muon([p])) == Measured()

    def fails(p: Tensor, g: Tensor, state: State, rate: float) -> None:
        raise RuntimeError("a device that is not there")

    assert measured(Stranger([p], fails)) == Measured(fault="RuntimeError: a device that is not there")


def test_a_group_that_counts_its_steps_is_measured_as_a_new_one() -> None:
    """Some begin a parameter's state in their group's first step alone."""

    class Counts(Stranger):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for p in group["params"]:
                    if "k" not in group:
                        self.state[p]["m"] = torch.zeros_like(p)
                    self.state[p]["m"] += p.grad
                group["k"] = group.get("k", 0) + 1

    optimizer = Counts([nn.Parameter(torch.randn(3))], looks_ahead)
    assert measured(optimizer).powers == {"m": 1}
    stepped(optimizer, [[torch.randn(3)]])
    assert optimizer.param_groups[0]["k"] == 1 and measured(optimizer).powers == {"m": 1}


class Own(Stranger):
    """One whose step is `own`, of itself, a parameter and its group."""

    own: Callable[[Any, Tensor, Mapping[str, Any]], None]
    steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        type(self).steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                type(self).own(self, p, group)


def test_a_decay_and_a_start_are_no_part_of_a_law() -> None:
    class Decays(Own):
        def own(self, p: Tensor, group: Mapping[str, Any]) -> None:
            g = p.grad + group["weight_decay"] * p
            first = torch.full_like(p, group["initial_accumulator_value"])
            self.state[p]["sum"] = self.state[p].get("sum", first) + g * g
            self.state[p]["m"] = g

    optimizer = Decays(
        [nn.Parameter(torch.randn(5))], looks_ahead, weight_decay=0.1, initial_accumulator_value=0.1
    )
    assert measured(optimizer).powers == {"sum": 2, "m": 1}
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_a_class_that_steps_as_a_known_one_is_known() -> None:
    class Named(torch.optim.Adam):
        """With nothing of its own."""

    class Keeps(torch.optim.Adam):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step()
            for p in (p for group in self.param_groups for p in group["params"]):
                self.state[p]["exp_avg"] += self.state[p]["exp_avg"] ** 2  # which is no power of the gradient
                self.state[p]["last"] = p.grad * 2

    p = nn.Parameter(torch.randn(3, 4))
    assert measured(Named([p], weight_decay=0.1)) == Measured()
    found = measured(Keeps([p]))
    assert found.powers == {"exp_avg_sq": 2, "last": 1} and not found.others  # the table's name for the rest


def test_an_empty_group_changes_nothing() -> None:
    p = nn.Parameter(torch.randn(3, 4))
    alone, beside = (
        Stranger(groups, normalized) for groups in ([{"params": [p]}], [{"params": []}, {"params": [p]}])
    )
    assert measured(alone) == measured(beside) != Measured()


def strange(p: Tensor, g: Tensor, state: State, rate: float) -> None:
    """What can't be compared as numbers."""
    state |= {
        "agree": g > 0,
        "bits": (g > 0).to(torch.uint8),
        "none": g / 0.0,
        "few": g.to_sparse(),
        "u": 2 * g,
    }


def test_what_can_not_be_compared_has_no_law() -> None:
    small = model("gpt2")
    optimizer = Stranger(list(small.parameters()), strange)
    assert measured(optimizer) == Measured({"u": 1}, others=frozenset({"agree", "bits", "none", "few"}))
    stepped(optimizer, [gradients(small, 0)])
    with pytest.raises(StateError, match="keeps 'agree' for"):
        isogrow.grow_training(small, optimizer=optimizer, ffn=51)
    drop = Policy(unknown="drop")
    grown = isogrow.grow_training(small, optimizer=optimizer, ffn=51, policy=drop).optimizer
    assert all(state.keys() == {"u"} for state in grown.state.values())


def test_a_growth_measures_once_and_calls_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Holds(Own):
        def own(self, p: Tensor, group: Mapping[str, Any]) -> None:
            self.state[p]["m"] = p.grad

    small = model("gpt2")
    optimizer = stepped(Holds(list(small.parameters()), looks_ahead), [gradients(small, 0)])
    large = isogrow.grow(small, ffn=51)
    found = lineage_of(large)
    assert found is not None
    optimizer.net = [small]  # type: ignore[attr-defined]
    called: list[str] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: called.append("seeded"))
    monkeypatch.setattr(nn.Module, "__deepcopy__", lambda self, memo: called.append("copied"), raising=False)
    hook = register_optimizer_step_post_hook(lambda *_: called.append("stepped"))
    try:
        before = Holds.steps
        measured(optimizer)
        once = Holds.steps - before
        grow_optimizer(optimizer, small, large, *found, Policy())
        assert Holds.steps == before + once and once == 3 * 4 * 2  # twins, steps, numbers of dims
    finally:
        hook.remove()
    assert not called
    optimizer.param_groups[0]["lr"] = 0.5  # another setting
    measured(optimizer)
    assert Holds.steps == before + 2 * once


# ── how it grows ──


@pytest.mark.parametrize("name", ["gpt_neo", "phi3"])
@pytest.mark.parametrize("rule", [normalized, looks_ahead], ids=["powers", "points"])
def test_a_state_grows_to_what_the_grown_model_would_have(name: str, rule: Any) -> None:
    """Against an optimizer that made the same steps on the grown model, with the gradients of the law."""
    growth: Mapping[str, Any] = {"phi3": {"head_dim": 30}, "gpt_neo": {"ffn": 51, "layers": 5}}[name]
    small = model(name)
    steps = [gradients(small, seed) for seed in range(3)]
    start = copy.deepcopy(small)
    optimizer = Stranger(list(small.parameters()), rule, lr=1e-300)  # which moves nothing
    stepped(optimizer, steps)
    large = isogrow.grow(start, **growth)
    found = lineage_of(large)
    assert found is not None
    names = [name for name, _ in small.named_parameters()]
    zero = Policy(moments="zero")

    def law(gradient: list[Tensor]) -> list[Tensor]:
        held = {i: {"momentum_buffer": g} for i, g in enumerate(gradient)}
        state = {"state": held, "param_groups": [{"params": [*held]}]}
        made = grow_optimizer_state(
            state, [names], *found, zero, (names, [n for n, _ in large.named_parameters()])
        )
        return [made["state"][i]["momentum_buffer"] for i in made["param_groups"][0]["params"]]

    other = stepped(Stranger(list(large.parameters()), rule, lr=1e-300), [law(each) for each in steps])
    grown = grow_optimizer(optimizer, small, large, *found, zero)
    for p in large.parameters():
        mine, theirs = grown.state[p], other.state[p]
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            told = torch.where(value.isnan(), torch.zeros_like(value), value)  # 0 / 0 where all is new
            assert float((mine[key] - told).abs().max()) <= 1e-12 * max(1.0, float(told.abs().max())), key


def some(found: Any) -> Tensor:
    return torch.randint(found.config.vocab_size, (3, 12), generator=torch.Generator().manual_seed(1))


def apart(one: Any, other: Any, ids: Tensor) -> float:
    with torch.no_grad():
        mine, theirs = one(input_ids=ids).logits, other(input_ids=ids).logits
    return float((mine - theirs).abs().max() / mine.abs().max())


def switched(optimizer: Any, other: Any, how: str) -> None:
    getattr(optimizer, how)()
    getattr(other, how)()


@pytest.mark.parametrize("kind", [schedulefree.AdamWScheduleFree, schedulefree.SGDScheduleFree])
def test_both_functions_of_a_schedule_free_run_are_kept(kind: Any) -> None:
    """What it trains and what it is evaluated at (arXiv 2405.15682), through means, copies and new layers."""
    small = model("gpt2")
    ids = some(small)
    optimizer = kind(small.parameters(), lr=0.05)
    optimizer.train()

    def learn(found: Any, by: Any) -> float:
        loss = found(input_ids=ids, labels=ids).loss
        loss.backward()
        by.step()
        by.zero_grad()
        return float(loss.detach())

    for _ in range(5):
        learn(small, optimizer)
    growth = F.FAMILIES["gpt2"].together
    large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, **growth)
    assert apart(small, large, ids) < 1e-12
    trained = copy.deepcopy(small)
    switched(optimizer, grown, "eval")
    assert apart(small, trained, ids) > 1e-3  # it is another function
    assert apart(small, large, ids) < 1e-12
    switched(optimizer, grown, "train")
    assert apart(small, large, ids) < 1e-12
    fresh, by, *_ = isogrow.grow_training(
        small, optimizer=optimizer, policy=Policy(moments="fresh"), **growth
    )
    switched(optimizer, by, "eval")
    assert apart(small, fresh, ids) < 1e-12  # a point is no moment
    switched(optimizer, by, "train")
    losses = [learn(large, grown) for _ in range(5)]
    assert losses[-1] < losses[0]
    # Grown as a gradient's power, the point would be another one.
    wrong, by, *_ = isogrow.grow_training(
        small, optimizer=optimizer, policy=Policy(powers={"z": -1}), **growth
    )
    switched(optimizer, by, "eval")
    assert apart(small, wrong, ids) > 1e-6


def test_a_run_that_is_evaluated_grows_in_place() -> None:
    small = model("gpt2")
    ids = some(small)
    optimizer = schedulefree.AdamWScheduleFree(small.parameters(), lr=0.05)
    optimizer.train()
    for seed in range(3):
        for p, g in zip(small.parameters(), gradients(small, seed), strict=True):
            p.grad = g
        optimizer.step()
    optimizer.eval()
    before = copy.deepcopy(small)
    isogrow.grow_(small, optimizer=optimizer, ffn="x2", layers="+1")
    assert apart(before, small, ids) < 1e-12
    optimizer.train()
    assert apart(before, small, ids) > 1e-3


# ── what is refused ──


def test_what_was_measured_to_be_no_power_is_refused_whatever_its_name() -> None:
    small = model("gpt2")

    def mixed(p: Tensor, g: Tensor, state: State, rate: float) -> None:
        state["exp_avg"] = g + g * g

    optimizer = stepped(Stranger(list(small.parameters()), mixed), [gradients(small, 0)])
    with pytest.raises(StateError, match="keeps 'exp_avg' for .*, and no law says how that grows"):
        isogrow.grow_training(small, optimizer=optimizer, ffn=51)
    grown = isogrow.grow_training(small, optimizer=optimizer, ffn=51, policy=Policy(powers={"exp_avg": 1}))
    assert all("exp_avg" in state for state in grown.optimizer.state.values())


def test_a_step_that_can_not_be_measured_is_told_with_the_refusal() -> None:
    """Here the rule knows the parameters that it was made for, and no others."""
    small = model("gpt2")
    known = {id(p) for p in small.parameters()}

    def chosen(p: Tensor, g: Tensor, state: State, rate: float) -> None:
        if id(p) not in known:
            raise KeyError("a parameter of another model")
        state["seen"] = g * g

    optimizer = stepped(Stranger(list(small.parameters()), chosen), [gradients(small, 0)])
    said = "no law says how that grows .*to measure it, raised KeyError: 'a parameter of another model'"
    with pytest.raises(StateError, match=said):
        isogrow.grow_training(small, optimizer=optimizer, ffn=51)


def test_a_number_that_became_a_tensor_is_refused() -> None:
    small = model("gpt2")
    optimizer = stepped(Stranger(list(small.parameters()), of_many), [gradients(small, 0)])
    drop = Policy(unknown="drop")
    grown = isogrow.grow_training(small, optimizer=optimizer, ffn=51, policy=drop).optimizer
    assert isinstance(grown, Stranger)
    for state in grown.state.values():
        assert state.keys() == {"count", "of its own setting", "u", "v", "w", "moved"}
    for state in optimizer.state.values():
        state["of its own setting"] = torch.ones(5)
    with pytest.raises(StateError, match="keeps 'of its own setting' for"):
        isogrow.grow_training(
            small, optimizer=optimizer, ffn=51, policy=Policy(powers={"rows": 2, "mixed": 1})
        )


def test_a_point_in_a_file_is_told_of() -> None:
    """Where its optimizer is not at hand: its name is no power's."""
    small = model("gpt2")
    found = lineage_of(isogrow.grow(small, ffn=51))
    assert found is not None
    (name, p), *_ = small.named_parameters()
    state = {"state": {0: {"z": p.detach()}}, "param_groups": [{"params": [0]}]}
    with pytest.raises(
        StateError, match="keeps 'z' for .*, a point beside the parameter, whose law is found"
    ):
        grow_optimizer_state(state, [[name]], *found)


def test_points_are_not_paced() -> None:
    small = model("gpt2")
    optimizer = stepped(Stranger(list(small.parameters()), looks_ahead), [gradients(small, 0)])
    with pytest.raises(StateError, match="Stranger keeps slow, which moves with the parameters, and ramp,"):
        isogrow.grow_training(small, optimizer=optimizer, ffn=51, policy=Policy(ramp=5))
