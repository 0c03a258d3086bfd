"""The rest of a training state: schedulers, running averages, a Trainer's optimizer.pt."""

from __future__ import annotations

import copy
import importlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import documents
import families as F
import pytest
import torch
import transformers
from test_module import live
from test_optimizer import gradients_, same
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel

import isogrow
from isogrow import Policy, plan_of
from isogrow.errors import StateError

# The example


@pytest.mark.slow
def test_a_loop_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss on a step's batch is what the small model's would have been, and falls on."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")
    example = importlib.import_module("train_and_grow")
    growths = {20: example.GROWTHS[100], 30: example.GROWTHS[170]}
    grown, small = example.main(40, growths), example.main(21, {})
    assert grown[:20] == small[:20]
    assert grown[20] == pytest.approx(small[20], rel=1e-6)
    assert max(grown[30:]) < min(grown[:10])


@pytest.mark.slow
def test_the_code_about_training_runs() -> None:
    """docs/training.md, from above to below; its module for Lightning is run in tests/test_lightning.py."""
    names: dict[str, Any] = {"__name__": "training"}
    blocks = documents.code(documents.read(documents.ROOT / "docs" / "training.md"), "python")
    for block in (block for block in blocks if "lightning" not in block):
        exec(compile(block, "training.md", "exec"), names)


# Schedulers


def scheduled(kind: str, optimizer: Any) -> Any:
    match kind:
        case "lambda":
            return lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        case "cycle":
            return lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)
        case "sequence":
            parts = [lr_scheduler.LinearLR(optimizer), lr_scheduler.CosineAnnealingLR(optimizer, 6)]
            return lr_scheduler.SequentialLR(optimizer, parts, [4])
        case "chain in a tuple":
            return lr_scheduler.ChainedScheduler(tuple(scheduled("chain", optimizer)._schedulers))
        case "chain":
            parts = [lr_scheduler.LinearLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)]
            return lr_scheduler.ChainedScheduler(parts)
        case _:
            return lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)


def rates(model: Any, optimizer: Any, scheduler: Any, steps: int) -> list[float]:
    found: list[float] = []
    for step in range(steps):
        gradients_(model, step)
        optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))
        found += [group["lr"] for group in optimizer.param_groups]
    return found


def two_groups(model: Any) -> Any:
    first, *rest = model.parameters()
    return torch.optim.AdamW([dict(params=[first], lr=0.2), dict(params=rest)], lr=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lambda", "cycle", "sequence", "chain", "chain in a tuple", "plateau"])
@pytest.mark.filterwarnings("error")
def test_a_schedule_goes_on(kind: str) -> None:
    one, two = live("llama"), live("llama")
    optimizer = two_groups(one)
    never = rates(one, optimizer, scheduled(kind, optimizer), 9)
    optimizer = two_groups(two)
    scheduler = scheduled(kind, optimizer)
    found = rates(two, optimizer, scheduler, 3)
    large, grown, moved, _ = isogrow.grow_training(two, optimizer=optimizer, scheduler=scheduler, ffn=51)
    kept = [group["lr"] for group in optimizer.param_groups], scheduler.state_dict()["_last_lr"]
    assert type(moved) is type(scheduler)
    assert found + rates(large, grown, moved, 6) == never
    assert kept == ([group["lr"] for group in optimizer.param_groups], scheduler.state_dict()["_last_lr"])


class Warmed(lr_scheduler.LRScheduler):
    """A schedule of one's own, which holds the one that it hands on to."""

    def __init__(self, optimizer: Any, after: Any) -> None:
        self.after = after
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch > 0:
            self.after.step()
        self.last_epoch += 1


def test_a_schedule_that_another_holds_goes_on() -> None:
    one, two = live("llama"), live("llama")
    optimizer = two_groups(one)
    never = rates(one, optimizer, Warmed(optimizer, lr_scheduler.ExponentialLR(optimizer, 0.5)), 6)
    optimizer = two_groups(two)
    scheduler = Warmed(optimizer, lr_scheduler.ExponentialLR(optimizer, 0.5))
    found = rates(two, optimizer, scheduler, 3)
    large, grown, moved, _ = isogrow.grow_training(two, optimizer=optimizer, scheduler=scheduler, ffn=51)
    assert moved.after.optimizer is grown and scheduler.after.optimizer is optimizer
    assert found + rates(large, grown, moved, 3) == never


def test_a_group_that_was_added_later_is_in_no_ones_way() -> None:
    """What the schedule does not know it does not know afterwards either."""
    small = live("llama")
    first, *rest = small.parameters()
    optimizer = torch.optim.AdamW(rest, lr=0.1)
    scheduler = lr_scheduler.StepLR(optimizer, 2)
    optimizer.add_param_group(dict(params=[first], lr=0.2))
    _, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, scheduler=scheduler, ffn=51)
    assert ["initial_lr" in group for group in grown.param_groups] == [True, False]


def test_a_scheduler_in_a_wrapper() -> None:
    small = live("llama")
    optimizer = torch.optim.AdamW(small.parameters(), lr=0.1)
    wrapped = SimpleNamespace(scheduler=lr_scheduler.StepLR(optimizer, 2))
    said = r"SimpleNamespace wraps another scheduler: give the one inside \(.scheduler\), and wrap it again"
    with pytest.raises(StateError, match=said):
        isogrow.grow_training(small, optimizer=optimizer, scheduler=wrapped, ffn=51)


@pytest.mark.filterwarnings("error")
def test_a_schedule_that_has_not_stepped_yet_goes_on() -> None:
    """Torch warns of a schedule's first step where it watches no optimizer, so it watches the new one."""
    small = live("llama")
    optimizer = two_groups(small)
    scheduler = scheduled("lambda", optimizer)
    large, grown, moved, _ = isogrow.grow_training(small, optimizer=optimizer, scheduler=scheduler, ffn=51)
    assert rates(large, grown, moved, 2) == rates(small, optimizer, scheduler, 2)


def test_a_schedule_of_another_optimizer_is_refused() -> None:
    small = live("llama")
    scheduler = scheduled("lambda", torch.optim.SGD(small.parameters()))
    with pytest.raises(StateError, match="LambdaLR does not schedule the optimizer that was given"):
        isogrow.grow_training(small, optimizer=two_groups(small), scheduler=scheduler, ffn=51)


def test_a_gradient_scaler_needs_nothing() -> None:
    """Its state knows no sizes; a fused optimizer that unscales by itself goes on doing so."""
    small = live("llama")
    optimizer = torch.optim.AdamW(small.parameters(), lr=1e-2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    large, grown, *_ = isogrow.grow_training(small, optimizer=optimizer, ffn=51)
    for model, own in ((small, optimizer), (large, grown)):
        scaler.scale(model(**F.batch("")).logits.square().mean()).backward()
        scaler.step(own)
        scaler.update()
        assert {float(state["step"]) for state in own.state.values()} == {1.0}
    assert grown._step_supports_amp_scaling and scaler.get_scale() == 8.0


# Running averages


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["model", "state dict", "AveragedModel"])
def test_an_average_grows_with_its_model(kind: str) -> None:
    """Old entries are the average's own; new ones are the model's, bit by bit."""
    small = live("llama", tie_word_embeddings=True)
    average = copy.deepcopy(small)
    with torch.no_grad():
        for p in average.parameters():
            p.mul_(0.5)
    wanted: dict[str, Any] = dict(ffn=51, layers="+1", hidden=42)
    alone = isogrow.grow(average, **wanted).state_dict()
    given: Any = average
    if kind == "state dict":
        given = average.state_dict()
    elif kind == "AveragedModel":
        given = AveragedModel(average)
        given.n_averaged.fill_(7)
    large, *_, grown = isogrow.grow_training(small, ema=given, **wanted)
    state, model = grown if kind == "state dict" else grown.state_dict(), large.state_dict()
    if kind == "AveragedModel":
        assert isinstance(grown, AveragedModel) and grown.n_averaged == 7
        grown.update_parameters(large)
        assert grown.n_averaged == 8 and given.n_averaged == 7
        return
    assert state.keys() == model.keys()
    up = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(state[up][:37, :30], 0.5 * model[up][:37, :30])
    assert torch.equal(state[up][37:], model[up][37:])
    assert not torch.equal(alone[up][37:], model[up][37:])
    assert state["lm_head.weight"].data_ptr() == state["model.embed_tokens.weight"].data_ptr()


def test_all_of_it_at_once() -> None:
    small = live("llama")
    optimizer = two_groups(small)
    scheduler = scheduled("lambda", optimizer)
    found = isogrow.grow_training(
        small, optimizer=optimizer, scheduler=scheduler, ema=small.state_dict(), ffn=51
    )
    assert [type(x) for x in found] == [type(small), type(optimizer), type(scheduler), dict]
    random = torch.get_rng_state()
    model, *_, state = isogrow.grow_training(small, ema=small.state_dict(), ffn=51)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_average_may_hold_a_tied_tensor_once(name: str) -> None:
    """As parameters are named: the twin of a tied one has no name of its own among them."""
    small = live(name, tie_word_embeddings=True)
    once = {each: 0.5 * p.detach() for each, p in small.named_parameters()}
    twice = {each: 0.5 * x for each, x in small.state_dict().items()}
    assert "lm_head.weight" in twice.keys() - once.keys()
    growth: dict[str, Any] = dict(ffn="x2", layers="+1")
    found, full = (isogrow.grow_training(small, ema=ema, **growth).ema for ema in (once, twice))
    assert full.keys() - found.keys() == {"lm_head.weight"}
    assert all(torch.equal(x, full[each]) for each, x in found.items())


def test_where_a_model_comes_from_is_no_part_of_what_it_computes() -> None:
    small = live("llama")
    small.config._name_or_path = "somebody/llama"
    assert isogrow.grow(small, ffn="x2").config.intermediate_size == 2 * small.config.intermediate_size


def test_an_average_of_other_names_is_refused() -> None:
    small = live("llama")
    renamed = {f"module.{name}": x for name, x in small.state_dict().items()}
    with pytest.raises(
        StateError, match="the average lacks model.embed_tokens.weight: give one with the model's own"
    ):
        isogrow.grow_training(small, ema=renamed, ffn=51)


# On disk


def trainer(model: Any, folder: Path, steps: int) -> transformers.Trainer:
    ids = F.batch("")["input_ids"]
    rows = [{"input_ids": row, "labels": row} for row in ids.repeat(4, 1)]
    asked = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        save_steps=2,
        per_device_train_batch_size=3,
        learning_rate=1e-3,
        weight_decay=0.1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=1,
    )
    return transformers.Trainer(model, asked, train_dataset=rows)


@pytest.mark.slow
def test_a_trainers_optimizer_grows_on_disk(tmp_path: Path) -> None:
    """The Trainer itself resumes from what was grown, at the same step and rate."""
    small = live("llama", tie_word_embeddings=True).train()
    trainer(small, tmp_path / "run", 4).train()
    old = tmp_path / "run" / "checkpoint-2"
    before = type(small).from_pretrained(old)
    wanted = F.FAMILIES["llama"].together
    large = isogrow.grow(before, **wanted)
    known = plan_of(large)
    assert known is not None
    state = torch.load(old / "optimizer.pt", weights_only=True)
    grown = isogrow.grow_optimizer_state(state, before, large, known)

    new = tmp_path / "grown" / "checkpoint-2"
    large.save_pretrained(new)
    for name in ("trainer_state.json", "training_args.bin", "scheduler.pt", "rng_state.pth"):
        shutil.copy(old / name, new / name)
    torch.save(grown, new / "optimizer.pt")
    resumed = trainer(type(large).from_pretrained(new), tmp_path / "grown", 4)
    resumed.train(resume_from_checkpoint=str(new))
    assert resumed.state.global_step == 4
    said = [
        json.loads((tmp_path / name / "checkpoint-4" / "trainer_state.json").read_text())["log_history"]
        for name in ("run", "grown")
    ]
    one, two = ([row["learning_rate"] for row in rows if "learning_rate" in row] for rows in said)
    assert one == two
    steps = {float(entry["step"]) for entry in resumed.optimizer.state_dict()["state"].values()}
    assert steps == {2.0, 4.0}  # new layers count from the growth

    # The same, by the live objects: the state dict of an optimizer that the Trainer would have made.
    live_one = trainer(before, tmp_path / "live", 4)
    optimizer = live_one.create_optimizer()
    optimizer.load_state_dict(state)
    _, other, *_ = isogrow.grow_training(before, optimizer=optimizer, plan=known)
    assert same(other.state_dict()["state"], grown["state"])
    assert [group["params"] for group in other.state_dict()["param_groups"]] == [
        group["params"] for group in grown["param_groups"]
    ]


def test_names_that_are_not_the_states_are_refused() -> None:
    small = live("llama")
    large = isogrow.grow(small, ffn=51)
    known = plan_of(large)
    assert known is not None
    state = torch.optim.AdamW(small.parameters()).state_dict()
    with pytest.raises(StateError, match=r"groups of \[51\] parameters, and the names .* of \[23, 28\]"):
        isogrow.grow_optimizer_state(state, small, large, known)

    def one(model: Any) -> Any:
        return [[name for name, _ in model.named_parameters()]]

    isogrow.grow_optimizer_state(state, small, large, known, Policy(), one)
    with pytest.raises(StateError, match="x is no parameter of this model"):
        isogrow.grow_optimizer_state(state, small, large, known, groups=lambda m: [["x", *one(m)[0][1:]]])
    with pytest.raises(StateError, match="the plan is not the one that made this model"):
        isogrow.grow_optimizer_state(state, small, isogrow.grow(small, layers=5), known, None, one)


# Averages of other models


@pytest.mark.parametrize(("name", "sizes"), [("bart", {"ffn": "x2"}), ("deepseek_v3", {"layers": "+1"})])
def test_an_average_has_the_models_buffers_too(name: str, sizes: dict[str, Any]) -> None:
    """Some that a model saves are no parameters: biases of logits, and of a router."""
    small = live(name)
    assert {key for key, _ in small.named_buffers()} & small.state_dict().keys()
    grown = isogrow.grow_training(small, ema=copy.deepcopy(small), **sizes)
    assert all(torch.equal(x, grown.ema.state_dict()[key]) for key, x in grown.model.state_dict().items())


class Ema(nn.Module):
    """An average in a wrapper of one's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = model


@pytest.mark.parametrize(
    ("average", "said"),
    [
        (
            lambda: live("llama", hidden_size=42),
            r"the average's .* is \[\d+, 42\], and the model's \[\d+, 30\]",
        ),
        (lambda: live("llama", num_hidden_layers=5), "the average has model.layers.* and the model lacks it"),
        (lambda: live("llama", num_hidden_layers=1), "the average lacks model.layers.1"),
        (lambda: AveragedModel(live("llama", num_hidden_layers=5)), "the average has model.layers"),
        (
            lambda: Ema(live("llama")),
            "the average lacks model.embed_tokens.weight: .* the module in a wrapper",
        ),
        (lambda: live("llama", hidden_size=42).state_dict(), "give the average of the model as it is"),
        (
            lambda: live("llama").state_dict() | {"n_averaged": torch.tensor(7)},
            "the average has n_averaged, and the model lacks it: leave it out of ema=",
        ),
        (lambda: live("llama", num_hidden_layers=5).state_dict(), "the average has model.layers.* lacks it"),
    ],
)
def test_an_average_of_another_model_is_refused(average: Any, said: str) -> None:
    with pytest.raises(StateError, match=said):
        isogrow.grow_training(live("llama"), ema=average(), ffn=51)
