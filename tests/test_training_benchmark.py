"""The benchmark of what growing saves: its rivals do what they are said to do, its runs are the same runs,
and its figures follow from its rows."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forking import PROCESSES
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

import isogrow
from benchmarks.training import __main__ as command
from benchmarks.training import ceiling, making, runs, stages
from benchmarks.training.contestants import (
    ALONE,
    BASE,
    GROWN,
    RIVALS,
    SCRATCH,
    STACKED,
    Contestant,
    Growth,
    Tuned,
    once,
    plain,
)
from benchmarks.training.headroom import section
from benchmarks.training.methods import METHODS
from benchmarks.training.models import (
    config,
    held_loss,
    loss_of,
    new_model,
    step_flops,
)
from benchmarks.training.optimizing import DECAY, MUON, Together, optimizer_of, parts_of
from benchmarks.training.page import (
    finals,
    growths,
    law_of,
    screened,
    single,
    table,
    tuned,
    where,
    write_page,
)
from benchmarks.training.pruning import distilled, importance, pruned
from benchmarks.training.rivals import doubled
from benchmarks.training.rows import Rows
from benchmarks.training.saved import Reached, interval, reached
from benchmarks.training.scale import CORE, SCALES, choose, chosen, halved, scale
from benchmarks.training.stages import Course, Job, pending, settled
from benchmarks.training.text import batch, held_out, permissive, text
from benchmarks.training.working import settle
from isogrow.verification.float64 import float64, rebuilt

TUNED = Tuned(0.003, 0.1)


FEW = dataclasses.replace(SCALES["core"], held_rows=8, final_rows=8)


@pytest.fixture(autouse=True)
def few_rows() -> Iterator[None]:
    """Losses of few rows: what they are is not asked here."""
    with chosen(FEW):
        yield


@pytest.fixture
def half_as_wide() -> Iterator[None]:
    """Models of half of every width: what a budget buys is asked, and not of which size."""
    with chosen(halved(FEW)):
        yield


def trained(size: str, steps: int = 12, matrices: str | None = None) -> tuple[Any, Any]:
    model = new_model(size, TUNED.std, 0)
    optimizer = optimizer_of(model, matrices)
    for group in optimizer.param_groups:
        group["lr"] = TUNED.rate
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, batch(0, step)).backward()
        optimizer.step()
    return model, optimizer


def wide_logits(model: Any) -> torch.Tensor:
    """Logits with nothing narrower than float64."""
    with float64(), torch.no_grad():
        return rebuilt(model)(input_ids=batch(7, 0)).logits


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


# ── the ways to grow ──

EXACT: list[tuple[str, str, Mapping[str, Any]]] = [
    ("narrow", "double", {}),
    ("narrow", "double", {"noise": True}),
    ("narrow", "double", {"split": True}),
    ("small", "pad", {}),
]
for each in GROWN:
    made = (each.start, each.growths[0].method, each.growths[0].options)
    if len(each.growths) == 1 and made not in EXACT:  # many differ in when they grow, and in rates
        EXACT.append(made)


@pytest.mark.slow
@pytest.mark.parametrize(("start", "method", "options"), EXACT)
def test_exact_methods_keep_the_function(
    half_as_wide: None, start: str, method: str, options: Mapping[str, Any]
) -> None:
    model, optimizer = trained(start, 3)
    large, *_ = METHODS[method](model, optimizer, "large", 3, 3, options)
    # Weights are float32: halves and copies are exact there, shares of a weight round once (2^-24), as
    # scaled gains do.
    assert error(wide_logits(large), wide_logits(model)) < 1e-6
    assert held_loss(large, 8) == pytest.approx(held_loss(model, 8), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"noise": True}, {"split": True}])
def test_doubling_is_exact_in_float64(options: Mapping[str, Any]) -> None:
    model = new_model("narrow", TUNED.std, 0)
    shapes = {name: p.shape for name, p in new_model("large", TUNED.std, 0).named_parameters()}
    with float64(), torch.no_grad():
        wide = rebuilt(model)
        state = doubled(dict(wide.named_parameters()), shapes, 0, torch.Generator().manual_seed(0), options)
        large = rebuilt(new_model("large", TUNED.std, 0))
        large.load_state_dict(state)
        assert error(large(input_ids=batch(7, 0)).logits, wide(input_ids=batch(7, 0)).logits) < 1e-12
        state["model.layers.1.mlp.down_proj.weight"] *= 2
        large.load_state_dict(state)
        assert error(large(input_ids=batch(7, 0)).logits, wide(input_ids=batch(7, 0)).logits) > 1e-3


@pytest.mark.parametrize("start", ["flat", "shallow"])
def test_stacking_does_not_keep_it(start: str) -> None:
    model, optimizer = trained(start)
    large, *_ = METHODS["stack"](model, optimizer, "large", 3, 12, {})
    assert error(wide_logits(large), wide_logits(model)) > 1e-3
    layers = model.config.num_hidden_layers
    for i in range(4):
        mine, theirs = large.model.layers[i].state_dict(), model.model.layers[i % layers].state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_tiled_moments_are_those_of_the_gradients() -> None:
    model, optimizer = trained("narrow")
    large, made = METHODS["double"](model, optimizer, "large", 3, 12, {"carry": True})
    for each in (model, large):
        each.zero_grad()
        loss_of(each, batch(0, 12)).backward()
    shapes = {name: p.shape for name, p in large.named_parameters()}
    gradients = {name: p.grad for name, p in model.named_parameters()}
    wanted = doubled(gradients, shapes, 1, torch.Generator(), {})
    for name, p in large.named_parameters():
        assert error(p.grad, wanted[name]) < 1e-5  # float32 backward passes
        assert made.state[p]["step"].item() == 12
    squares = {name: p.grad**2 for name, p in model.named_parameters()}
    twice = doubled(squares, shapes, 2, torch.Generator(), {})
    assert all(torch.allclose(twice[name], wanted[name] ** 2) for name in shapes)


def test_moments_of_copies_may_be_new() -> None:
    model, optimizer = trained("narrow")
    whole, fresh = (
        METHODS["double"](model, optimizer, "large", 3, 12, {"carry": True, "fresh": new})
        for new in (False, True)
    )
    wanted = {name: whole[1].state[p] for name, p in whole[0].named_parameters()}
    for name, p in fresh[0].named_parameters():
        box = tuple(slice(n) for n in model.get_parameter(name).shape)
        for key in ("exp_avg", "exp_avg_sq"):
            found = fresh[1].state[p][key].clone()
            assert torch.equal(found[box], wanted[name][key][box]) and found[box].any()
            found[box] = 0
            assert not found.any() and wanted[name][key].numel() == found.numel()


@pytest.mark.parametrize(
    ("start", "method", "options"),
    [("small", "grow", {}), ("shallow", "stack", {"carry": True}), ("flat", "stack", {})],
)
def test_muon_goes_on_in_what_is_made(start: str, method: str, options: Mapping[str, Any]) -> None:
    model, optimizer = trained(start, 3, MUON)
    large, made, *_ = METHODS[method](model, optimizer, "large", 3, 3, options)
    assert isinstance(made, Together) and [type(part) for part in made.parts] == [
        torch.optim.Muon,
        torch.optim.AdamW,
    ]
    names = {p: name for name, p in large.named_parameters()}
    muon, adam = ({names[p] for group in part.param_groups for p in group["params"]} for part in made.parts)
    assert muon | adam == set(names.values()) and not muon & adam
    assert muon == {n for n in names.values() if ".layers." in n and not n.endswith("norm.weight")}
    if method == "stack" and options:
        old = {name: optimizer.state[p] for name, p in model.named_parameters()}
        name = "model.layers.{}.mlp.up_proj.weight"
        new = {names[p]: own for p, own in made.state.items()}
        for layer in (1, 3):
            assert torch.equal(
                new[name.format(layer)]["momentum_buffer"], old[name.format(1)]["momentum_buffer"]
            )
        assert new["lm_head.weight"]["step"].item() == 3
    before = {name: p.detach().clone() for name, p in large.named_parameters()}
    for group in made.param_groups:
        group["lr"] = TUNED.rate
    made.zero_grad()
    loss_of(large, batch(0, 3)).backward()
    made.step()
    assert all(not torch.equal(before[name], p) for name, p in large.named_parameters())


@pytest.mark.parametrize("matrices", [None, MUON])
def test_new_entries_are_decayed_apart(matrices: str | None) -> None:
    model, optimizer = trained("small", 1, matrices)
    rate, ends = 0.3, dict[float | None, Any]()
    for factor in (None, 0.0, 4.0):
        options = {} if factor is None else {"new_decay": factor}
        large, made, *_ = METHODS["grow"](model, optimizer, "large", 3, 12, options)
        start = {name: p.detach().clone() for name, p in large.named_parameters()}
        new = isogrow.new_entries(large)
        for group in made.param_groups:
            group["lr"] = rate
        loss_of(large, batch(0, 12)).backward()
        made.step()
        ends[factor] = {name: p.detach() for name, p in large.named_parameters()}
    assert new.added and any(start[name][box].any() for name, own in new.grown.items() for box in own.slices)
    for factor in (0.0, 4.0):
        for name, before in start.items():
            off = torch.zeros_like(before)
            for box in new.grown[name].slices if name in new.grown else [...] if name in new.added else ():
                off[box] = (1 - factor) * rate * DECAY * before[box]
            assert name in new.parameters or not off.any()
            torch.testing.assert_close(ends[factor][name] - ends[None][name], off, atol=2e-6, rtol=1e-5)


def test_by_width_matrices_start_smaller_and_learn_at_a_lower_rate() -> None:
    """In µP by the root of the width and by the width itself; the function stays, and so does all else."""
    model, optimizer = trained("small", 1, None)
    made = [METHODS["grow"](model, optimizer, "large", 3, 12, {"by_width": each}) for each in (False, True)]
    (plain, _, *_), (large, optimizer, *_) = made
    ratio = model.config.hidden_size / large.config.hidden_size
    new, changed = isogrow.new_entries(large).parameters, 0
    for name, parameter in large.named_parameters():
        factor = torch.ones_like(parameter)
        for box in new[name].slices if name in new and parameter.dim() > 1 and "embed" not in name else ():
            factor[box] = ratio**0.5
        torch.testing.assert_close(parameter, factor * plain.get_parameter(name))
        changed += int((parameter != plain.get_parameter(name)).sum())
    assert ratio < 1 and changed > 1000
    ids = batch(0, 12)
    assert loss_of(large, ids).item() == pytest.approx(loss_of(model, ids).item(), abs=1e-6)
    run = runs.begun(Contestant("one", "grown", "large"), TUNED, 3, 0)
    run.model, run.optimizer = large, optimizer
    runs.advance_(run, runs.cost_of(run), lambda run: 0.25)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in large.named_parameters():
        matrix = parameter.dim() > 1 and "embed" not in name
        assert rates[parameter] == (0.25 * ratio if matrix else 0.25)
        assert (optimizer.state[parameter]["step"] > 1) != (name in isogrow.new_entries(large).added)


@pytest.mark.parametrize("method", ["grow", "stack"])
def test_weight_decay_is_what_a_run_is_told_after_a_growth_too(method: str) -> None:
    ends = dict[float | None, Any]()
    for decay in (None, 0.0, 0.5):
        growth = Growth(0.0, method=method)
        given = Contestant("one", "grown", "shallow", (growth,))
        run = runs.begun(given, dataclasses.replace(TUNED, weight_decay=decay), 3, 0)
        runs.grow_run_(run, growth)
        start = {name: p.detach().clone() for name, p in run.model.named_parameters()}
        runs.advance_(run, run.spent + runs.cost_of(run), lambda _: 0.3)
        ends[decay] = {name: p.detach() for name, p in run.model.named_parameters()}
    for name, before in start.items():
        for decay in (0.0, 0.5):
            off = (DECAY - decay) * 0.3 * before
            torch.testing.assert_close(ends[decay][name] - ends[None][name], off, atol=2e-6, rtol=1e-5)


def test_muons_products_are_torchs_own_count() -> None:
    model, optimizer = trained("small", 1, MUON)
    loss_of(model, batch(0, 1)).backward()
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    assert counter.get_total_flops() == step_flops("small", MUON) - step_flops("small")


def test_optimizers_together_are_kept_and_restored() -> None:
    run = runs.begun(BASE, dataclasses.replace(TUNED, matrices=MUON), 1, 0)
    cost = runs.cost_of(run)
    assert cost == step_flops("small", MUON) and len(parts_of(run.optimizer)) == 2
    runs.advance_(run, 3 * cost)
    kept = (runs.state_of(run), dataclasses.replace(run))
    ends = list[dict[str, torch.Tensor]]()
    for _ in range(2):
        runs.advance_(run, 5 * cost)
        ends.append({name: p.detach().clone() for name, p in run.model.named_parameters()})
        assert run.step == 5
        runs.restore_(run, kept)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_zero_padding_is_dead_where_growing_is_alive() -> None:
    model, optimizer = trained("small")
    alive = dict[str, int]()
    for method in ("pad", "grow"):
        large, *_ = METHODS[method](model, optimizer, "large", 3, 12, {})
        loss_of(large, batch(0, 12)).backward()
        alive[method] = sum(int((p.grad != 0).sum()) for p in large.parameters())
    whole = sum(p.numel() for p in large.parameters())
    assert alive["pad"] < alive["grow"] < whole


def test_a_growth_that_does_not_tile_is_no_doubling() -> None:
    model, optimizer = trained("small", 1)
    with pytest.raises(AssertionError, match="does not tile"):
        METHODS["double"](model, optimizer, "large", 3, 1, {})


# ── the runs ──


@pytest.mark.parametrize("size", CORE)
def test_operations_are_torchs_own_count(size: str) -> None:
    given = config(size, 0.1)
    given._attn_implementation = "eager"  # torch does not count what its fused attention computes on a CPU
    model = LlamaForCausalLM(given)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=batch(0, 0), use_cache=False).logits.sum().backward()
    assert counter.get_total_flops() == step_flops(size)


def test_text_is_held_out_and_batches_are_named_by_seed_and_step() -> None:
    learned, held = text(packages=False)
    assert len(learned) > 5 * len(held) > 0
    assert batch(1, 5).shape == (scale().rows, scale().length) and held_out(3).shape == (3, scale().length)
    assert torch.equal(batch(1, 5), batch(1, 5))
    assert not torch.equal(batch(1, 5), batch(1, 6))
    assert not torch.equal(batch(1, 5), batch(2, 5))


@pytest.mark.slow
def test_a_trunk_from_the_cache_is_the_same_run(half_as_wide: None, tmp_path: Path) -> None:
    first = runs.measure(BASE, TUNED, 1, 16, tmp_path / "one")
    runs.measure(ALONE[0], TUNED, 1, 3, tmp_path / "two")
    second = runs.measure(BASE, TUNED, 1, 16, tmp_path / "two")
    third = runs.measure(BASE, TUNED, 1, 16, tmp_path / "two")
    assert first["losses"] == second["losses"] == third["losses"]
    assert runs.measure(BASE, TUNED, 2, 16, tmp_path / "two")["losses"] != first["losses"]
    growth = first["growths"][0]
    assert growth["marks"]["0"] == pytest.approx(growth["before"], rel=1e-6)
    assert growth["step"] == int(0.125 * 16 * step_flops("large") / step_flops("small"))


@pytest.mark.slow
def test_a_budget_is_spent_and_not_exceeded(half_as_wide: None, tmp_path: Path) -> None:
    scratch = runs.measure(SCRATCH, TUNED, 1, 20, tmp_path)
    assert scratch["steps"] == 20
    alone = runs.measure(ALONE[0], TUNED, 1, 20, tmp_path)
    wanted = 20 * step_flops("large") / step_flops("small")
    assert wanted - 2 < alone["steps"] <= wanted


@pytest.mark.slow
def test_budgets_enclose_the_loss_that_is_to_be_reached(half_as_wide: None, tmp_path: Path) -> None:
    last = runs.measure(SCRATCH, TUNED, 1, 30, tmp_path)["losses"]["1.0"]
    easy = runs.measure(SCRATCH, TUNED, 1, 30, tmp_path, to_reach=last + 0.2)["losses"]
    hard = runs.measure(SCRATCH, TUNED, 1, 30, tmp_path, to_reach=last - 0.2)["losses"]
    assert easy["1.0"] == hard["1.0"] == last
    assert min(map(float, easy)) < 1 == max(map(float, easy))
    assert set(hard) == {"1.0"}  # out of reach
    near = runs.measure(SCRATCH, TUNED, 1, 30, tmp_path, to_reach=last - 0.02)["losses"]
    assert set(map(float, near)) == {1.0, *runs.BEYOND}
    with pytest.raises(AssertionError, match="grows in the decay"):
        runs.measure(once("later", at=0.9), TUNED, 1, 30, tmp_path)
    early = runs.measure(SCRATCH, TUNED, 1, 30, tmp_path, earlier=(0.2, 0.5))["losses"]
    assert set(early) == {"0.2", "0.5", "1.0"} and early["1.0"] == last
    for share in (0.5, 0.2):
        shorter = runs.measure(SCRATCH, TUNED, 1, round(share * 30), tmp_path)["losses"]
        assert early[str(share)] == shorter["1.0"]
    late = runs.measure(once("late", at=0.7), TUNED, 1, 30, tmp_path, to_reach=9.0)["losses"]
    assert set(late) == {"0.9", "1.0"}  # no decay begins before the growth


@pytest.mark.slow
def test_what_gradmax_looks_at_is_paid_for(half_as_wide: None, tmp_path: Path) -> None:
    budget = 100
    plain = runs.measure(once("plain", at=0.05), TUNED, 1, budget, tmp_path)
    looking = runs.measure(once("gradmax", at=0.05, options={"init": "gradmax"}), TUNED, 1, budget, tmp_path)
    assert looking["growths"][0]["marks"]["0"] == pytest.approx(plain["growths"][0]["before"], rel=1e-6)
    passes = plain["steps"] - looking["steps"]
    assert scale().sizes["small"]["hidden"] < passes < 3 * scale().sizes["large"]["hidden"]


def test_rates_warm_up_and_follow_growths() -> None:
    contestant = Contestant("c", "grown", "small", (Growth(0.1, rate=0.5, rewarm=10),), rate=2.0)
    run = runs.Run(contestant, TUNED, 1, 100, None, None, "small")
    assert runs.stable_rate(run) == pytest.approx(2 * TUNED.rate / runs.WARMUP)
    run.step = 3 * runs.WARMUP
    assert runs.stable_rate(run) == pytest.approx(2 * TUNED.rate)
    run.growths, run.grown_at = [{}], run.step
    assert runs.stable_rate(run) == pytest.approx(0.05 * TUNED.rate)
    run.step += 50
    assert runs.stable_rate(run) == pytest.approx(0.5 * TUNED.rate)


# ── the order of things ──


def row_of(job: Job, loss: float) -> dict[str, Any]:
    """A row as a run would make it, that reaches a lower loss at a larger budget."""
    shares = (0.8, 0.9, 1.0, 1.1, 1.2) if job.to_reach is not None else (1.0,)
    grown = bool(job.contestant.growths)
    marks = {"0": 2.0, "1": 2.02, "10": 2.01, "100": 1.9, "300": 1.8}
    return dict(
        key=job.key, stage=job.stage, name=job.contestant.name,
        contestant=dataclasses.asdict(job.contestant), tuned=plain(job.tuned),
        seed=job.seed, budget=job.steps, date="2026-11-24", versions={"torch": "2"},
        losses={str(s): loss - math.log(s * job.steps / 4000) / 10 for s in shares},
        seconds={str(s): 100 * s for s in shares}, growths=[dict(before=2.0, marks=marks)] if grown else [],
    )  # fmt: skip


def made_up(course: Course) -> tuple[Rows, list[list[Job]]]:
    """Rows for all of a course: 0.003, 0.1 and 0.4 are the best to tune, growing at 6 % is best of all."""
    names = [each.name for each in (*GROWN, *RIVALS)]
    rows: dict[str, Any] = {}
    rounds: list[list[Job]] = []
    while jobs := pending(course, rows):
        rounds.append(jobs)
        for job in jobs:
            off = abs(math.log(job.tuned.rate / 0.003)) + abs(math.log(job.tuned.std / 0.1))
            off += abs(job.tuned.decay - 0.4)
            name = job.contestant.name
            rank = -1 if name == "grown at 6 %" else names.index(name) if name in names else len(names)
            rows[job.key] = row_of(job, 1.4 + 0.01 * off + 0.001 * rank + 1e-4 * job.seed)
    return rows, rounds


def test_stages_follow_from_rows() -> None:
    course = stages.FULL
    rows, rounds = made_up(course)
    assert [(jobs[0].stage, len(jobs)) for jobs in rounds] == [
        ("tune", 20),
        ("tune", 4),
        ("tune", 8),
        ("tune", 8),
        ("screen", len(GROWN) + len(RIVALS) + len(course.seeds)),  # scratch on the seeds of the claim, too
        ("screen", course.rung_kept[0]),
        ("screen", 2 * (course.rung_kept[1] + len(course.also) - 1)),  # one is among the best; two seeds
        ("final", len(course.seeds) * (course.best + 5 + len(ALONE))),
    ]
    used = {job.seed for jobs in rounds for job in jobs if job.stage != "final"}
    assert not used & set(course.seeds)  # the claim's seeds chose nothing
    assert {job.tuned for jobs in rounds[-2:] for job in jobs} == {Tuned(0.003, 0.1, 0.4)}
    names = {job.contestant.name for job in rounds[-1]}
    assert {"grown at 6 %", "grown at 12.5 %", "small alone", STACKED.name} <= names
    assert all(job.to_reach is not None for job in rounds[-1])


def test_who_would_grow_in_the_decay_stays_behind() -> None:
    _, rounds = made_up(dataclasses.replace(stages.FULL, also=("from middle at 65 %", "from middle at 50 %")))
    last = {job.contestant.name for job in rounds[-2]}
    assert "from middle at 65 %" not in last and "from middle at 50 %" in last


def test_a_run_that_broke_is_the_worst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "held_loss", lambda *_: math.nan)
    assert runs.measure(SCRATCH, TUNED, 1, 5, tmp_path)["losses"] == {"1.0": math.inf}


def test_a_better_contestant_goes_on_and_a_worse_one_stays() -> None:
    rows, rounds = made_up(stages.FULL)
    kept = {job.contestant.name for job in rounds[6]}
    assert "grown at 6 %" in kept and "three growths, from tiny" not in kept
    changed = {
        key: {**row, "losses": {"1.0": 9.0}} if row["name"] == "grown at 6 %" else row
        for key, row in rows.items()
    }
    again = pending(stages.FULL, changed)
    assert again and "grown at 6 %" not in {job.contestant.name for job in again}


def test_the_last_rung_counts_the_mean_over_seeds() -> None:
    rows, rounds = made_up(stages.FULL)
    other = stages.FULL.screening_seeds[1]
    key = next(j.key for j in rounds[6] if j.seed == other and j.contestant.name == "grown at 6 %")
    again = pending(stages.FULL, {**rows, key: {**rows[key], "losses": {"1.0": 9.0}}})
    assert again and "grown at 6 %" not in {job.contestant.name for job in again}


def test_a_name_is_no_part_of_a_row() -> None:
    job = Job("final", BASE, TUNED, 1, 100)
    renamed = dataclasses.replace(job, contestant=dataclasses.replace(BASE, name="another"))
    assert renamed.key == job.key
    assert dataclasses.replace(job, contestant=ALONE[0]).key != job.key
    assert dataclasses.replace(job, seed=2).key != job.key


# ── what the rows say ──


def test_where_a_loss_is_reached() -> None:
    losses, seconds = {"0.5": 2.0, "1.0": 1.0, "1.2": 0.9}, {"0.5": 10.0, "1.0": 20.0, "1.2": 24.0}
    middle = reached(losses, seconds, 1.5)
    assert middle.share == pytest.approx(0.5**0.5) and middle.found
    assert middle.seconds == pytest.approx(20 * 0.5**0.5)
    assert reached(losses, seconds, 1.0).share == 1.0
    for loss, share in ((3.0, 0.5), (0.5, 1.2)):
        far = reached(losses, seconds, loss)
        assert (far.share, far.found) == (share, False)


def test_who_is_far_from_it_did_not_reach_it() -> None:
    rows, _ = made_up(stages.FULL)
    lost = {
        key: {**row, "losses": {"1.0": 9.0}} if row["name"] == "small alone" and row["seed"] == 1 else row
        for key, row in rows.items()
    }

    def line(given: Rows) -> str:
        return next(line for line in table(given).splitlines() if line.startswith("| small alone"))

    assert "|  | 4 of 5 |" in line(lost) and line(lost).count("±") == 1  # no interval but that of the loss
    early = {
        key: {**row, "losses": {"0.8": 0.2, "1.0": 0.1}, "seconds": {"0.8": 1.0, "1.0": 2.0}}
        if row["name"] == "small alone" and row["seed"] == 1
        else row
        for key, row in rows.items()
    }
    assert "| more than " in line(early) and "| 5 of 5 |" in line(early)
    assert " | 5 of 5 |" in line(rows) and line(rows).count("±") == 3


def test_an_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3.0
    assert found.half == pytest.approx(2.776 * 2.5**0.5 / 5**0.5)
    assert interval([1.0]).half == math.inf


@pytest.mark.slow
def test_the_page_says_what_the_rows_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    rows, _ = made_up(stages.FULL)
    other = next(row for row in rows.values() if row["stage"] == "final")
    older = {**other, "key": "older", "tuned": {**other["tuned"], "decay": 0.2}}
    assert settled(stages.FULL, {**rows, "older": older}) == rows  # what tuning left behind does not count
    longer, _ = made_up(stages.LONG)
    monkeypatch.setattr(ceiling, "DRAWS", 3)
    write_page(stages.FULL, rows, longer, tmp_path)
    said = (tmp_path / "results.md").read_text()
    law = law_of(rows, longer)
    assert law is not None
    steps = stages.FULL.steps
    for part in (tuned(rows), screened(rows, law), table(rows, law, steps), growths(rows), single(rows)):
        assert part in said
    assert single(longer) in said and section(law, steps, finals(rows)) in said
    assert said.count("| middle alone") == 5 + len(stages.FULL.seeds)  # in every table but that of tuning
    assert "scratch's rate 0.003, std 0.1, decay over 0.4 of a budget" in said
    picture = (tmp_path / "results.svg").read_text()
    assert picture.count("<svg") == 1
    write_page(stages.FULL, rows, {}, tmp_path)
    assert (tmp_path / "results.svg").read_text() == picture
    assert "Three times the budget" in said
    assert "Three times the budget" not in (tmp_path / "results.md").read_text()
    places = where(rows)
    assert places["scratch"][1] == Reached(1.0, 100.0)
    # Losses fall by 0.1 for each e-fold: 0.051 lower is reached at e^-0.51, below the last budget tried.
    assert places["grown at 6 %"][1] == Reached(0.8, 80.0, found=False)
    names = [each.name for each in (*GROWN, *RIVALS)]
    rank = names.index("tiled")
    tiled = places["tiled"][1]
    assert tiled.share == pytest.approx(math.exp((rank - len(names)) / 100)) and tiled.found
    assert "| grown at 6 % | 5 |" in said


def settled_for_few_rows(name: str) -> None:
    """How a process of the command begins here; what is patched in this one is not patched there."""
    settle(name)
    choose(FEW)


@pytest.mark.slow
def test_the_command_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    course = Course(steps=12, seeds=(1, 2), tuned=TUNED, chosen=(BASE,))
    monkeypatch.setattr(command, "COURSES", {"small": course})
    monkeypatch.setattr(making, "settle", settled_for_few_rows)
    monkeypatch.setattr(making, "get_context", lambda _: PROCESSES)
    rows = tmp_path / "rows.jsonl"
    command.run("small", rows, tmp_path / "cache")
    whole = [json.loads(line) for line in rows.read_text().splitlines()]
    assert sorted((row["name"], row["seed"]) for row in whole) == sorted(
        (each.name, seed) for each in (SCRATCH, *ALONE, BASE) for seed in (1, 2)
    )
    kept, lost = whole[:5], whole[5:]
    rows.write_text("".join(json.dumps(row) + "\n" for row in kept) + '{"key": "cut o')
    command.run("small", rows, tmp_path / "cache")
    again = [json.loads(line) for line in rows.read_text().splitlines()]
    assert again[:5] == kept
    assert {row["key"]: row["losses"] for row in again[5:]} == {row["key"]: row["losses"] for row in lost}
    assert capsys.readouterr().out.count("final:") == 11
    assert "grown at 12.5 %" in table(command.read(rows))


def test_what_is_lacking_is_asked_whenever_a_process_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "get_context", lambda name: PROCESSES)  # pyright: ignore
    asked: list[list[str]] = []

    def lacking(rows: Rows) -> list[Named]:
        asked.append(list(rows))
        return [Named(key) for key in "abcde" if key not in rows and (rows or key < "c")]

    command.run_all(tmp_path / "rows.jsonl", lacking, of_its_key)
    found = command.read(tmp_path / "rows.jsonl")
    assert sorted(found) == [*"abcde"] and len(found) == len(
        (tmp_path / "rows.jsonl").read_text().splitlines()
    )
    assert asked[0] == [] and len(asked[1]) in (1, 2) and sorted(asked[-1]) == [*"abcde"]
    with pytest.raises(ValueError, match="no row for [ab]"):
        command.run_all(tmp_path / "none.jsonl", lacking, broken)
    assert command.read(tmp_path / "none.jsonl") == {}
    with (tmp_path / "rows.jsonl").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="another process makes rows in .*rows.jsonl: wait"):
            command.run_all(tmp_path / "rows.jsonl", lacking, of_its_key)
    row = found["a"]
    assert row["date"] and row["versions"]["torch"] == torch.__version__


@dataclasses.dataclass(frozen=True)
class Named:
    key: str


def of_its_key(job: Named) -> dict[str, Any]:
    return dict(key=job.key, stage="", name=job.key, seed=1, losses=[1.0])


def broken(job: Named) -> dict[str, Any]:
    raise ValueError(f"no row for {job.key}")


def test_nothing_is_begun_when_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "get_context", lambda name: PROCESSES)  # pyright: ignore
    rows = tmp_path / "rows.jsonl"
    command.run("small", rows, tmp_path / "cache", until=0.0)
    assert command.read(rows) == {}


# ── at other scales ──


@pytest.mark.parametrize("name", ["device", "larger"])
def test_a_device_has_the_same_contestants_at_other_sizes(name: str) -> None:
    course, at = stages.COURSES[name], SCALES[stages.COURSES[name].scale]
    taking_part = (*course.chosen, *course.alone)
    assert len(course.chosen) == len(stages.ON_DEVICE)
    used = {each.start for each in taking_part} | {g.size for each in taking_part for g in each.growths}
    assert used <= set(at.sizes)
    with chosen(at):
        large, middle = (ceiling.seen(size).parameters for size in ("large", "middle"))
        assert 1.9 < large / middle < 2.1
        tiled = at.sizes["narrow"]
        assert all(at.sizes["large"][axis] == 2 * tiled[axis] for axis in ("hidden", "ffn", "heads"))


def test_a_course_for_a_device_needs_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["training", "device", "--rows", str(tmp_path / "rows.jsonl")])
    with pytest.raises(SystemExit):
        command.main()
    assert "device is for a cuda device, and there is none" in capsys.readouterr().err


def test_matrices_in_bfloat16_and_losses_in_float32(tmp_path: Path) -> None:
    """At the scale of a device but for the device: a growth keeps what is looked at, whatever computes."""
    with chosen(dataclasses.replace(halved(FEW), rows=3, length=24, bf16=True)):
        found = runs.measure(once("grown", at=0.5), TUNED, 1, 12, tmp_path)
        (growth,) = found["growths"]
        assert growth["marks"]["0"] == pytest.approx(growth["before"], rel=1e-6)
        seen: set[torch.dtype] = set()
        model = new_model("small", 0.1, 0)
        model.model.layers[0].mlp.up_proj.register_forward_hook(lambda *given: seen.add(given[2].dtype))
        loss_of(model, batch(1, 0))
        assert seen == {torch.bfloat16}
        held_loss(model, 3)
        assert seen == {torch.bfloat16, torch.float32}


def test_a_share_of_the_small_one_is_in_the_larger() -> None:
    model, optimizer = trained("small")
    large, made = METHODS["shrink"](model, optimizer, "large", 5, 0, {"std": 0.05, "share": 0.4})
    fresh, _ = METHODS["shrink"](model, optimizer, "large", 5, 0, {"std": 0.05, "share": 0.0})
    old, new, bare = (dict(each.named_parameters()) for each in (model, large, fresh))
    name = "model.layers.1.mlp.up_proj.weight"
    rows, columns = old[name].shape
    added = (new[name] - bare[name])[:rows, :columns]
    assert torch.allclose(added, 0.4 * old[name], atol=1e-6)
    assert torch.equal(new[name][rows:], bare[name][rows:]) and not made.state
    assert torch.equal(new["model.norm.weight"][: len(old["model.norm.weight"])], old["model.norm.weight"])
    assert torch.equal(new["model.layers.3.mlp.up_proj.weight"], bare["model.layers.3.mlp.up_proj.weight"])


# ── cutting a larger one ──


def nothing(region: isogrow.Region) -> Any:
    return np.zeros(region.shape)


def test_what_says_nothing_is_cut() -> None:
    """A model that was made larger by units that are dead is itself again: they are the least important."""
    small = dict(hidden=24, ffn=28, heads=3, kv_heads=3, layers=2)
    at = dataclasses.replace(FEW, sizes={"small": small}, head_dim=8)
    with chosen(at):
        model = new_model("small", 0.2, 0)
        large = isogrow.grow(model, ffn=31, heads=4, kv_heads=4, layers=3, layers_at="even", init=nothing)
        batches = [batch(3, 0)]
        cut = pruned(large, "small", batches)
        assert error(wide_logits(cut), wide_logits(model)) < 1e-12
        own = importance(large, batches)
        assert len(own["neurons 0"]) == 31 and len(own["heads 2"]) == 4 and len(own["channels"]) == 24
        assert sorted(own["layers"].tolist())[0] == 0.0 < sorted(own["layers"].tolist())[1]
        worst = {name: -value for name, value in own.items()}
        assert not torch.equal(worst["neurons 0"].topk(28).indices.sort().values, torch.arange(28))


def test_a_student_learns_what_its_teacher_gives() -> None:
    teacher, student = new_model("middle", 0.2, 0), new_model("small", 0.2, 1)
    assert distilled(teacher, teacher, batch(1, 0)).item() == pytest.approx(0.0, abs=1e-6)
    loss = distilled(student, teacher, batch(1, 0))
    assert loss.item() > 0.01
    loss.backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize(
    ("said", "allowed"),
    [
        ("License-Expression: Apache-2.0 AND MIT", True),
        ("License: BSD", True),
        ("Classifier: License :: OSI Approved :: MIT License", True),
        ("License-Expression: MPL-2.0", False),
        ("License-Expression: MIT AND GPL-3.0-only", False),
        ("Summary: says nothing of it", False),
    ],
)
def test_sources_of_packages_are_those_that_all_may_use(tmp_path: Path, said: str, allowed: bool) -> None:
    (tmp_path / "METADATA").write_text(f"Metadata-Version: 2.4\nName: some\nVersion: 1\n{said}\n")
    assert permissive(PathDistribution(tmp_path)) is allowed
