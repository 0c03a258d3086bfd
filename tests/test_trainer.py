"""Growth inside Hugging Face's Trainer: one run, whose losses a stop and a resume do not change."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file
from torch.utils.data import Dataset

import isogrow
from isogrow import GradMax, Init
from isogrow.errors import CheckpointError, SizeError, StateError
from isogrow.growth.newness import NewEntries
from isogrow.optim.pacing import COUNT
from isogrow.train.looking import init_of
from isogrow.train.schedule import Growth, Plateau
from isogrow.train.trainer import growing
from isogrow.train.unlogged import KEY

STEPS, SAVED, ROWS, LENGTH = 12, 4, 4, 16
GROWTHS = (
    Growth({"hidden": 36, "ffn": "x2"}, at=5),
    Growth({"layers": "+1", "heads": 6, "kv_heads": 3}, at=8, layers_at=(1,)),
)


class Bytes(Dataset[dict[str, torch.Tensor]]):
    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(tiny.VOCAB, (64, LENGTH), generator=generator)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[i], "labels": self.ids[i]}


class Own(transformers.Trainer):
    """A subclass of the user's, which counts its steps."""

    seen = 0

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        self.seen += 1
        return super().training_step(*given, **named)


def trainer(
    folder: Path, growths: Sequence[Growth] = GROWTHS, model: Any = "LlamaForCausalLM", **options: Any
) -> Own:
    given: dict[str, Any] = dict(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=ROWS,
        learning_rate=1e-2,
        weight_decay=0.1,
        warmup_steps=2,
        logging_steps=1,
        save_steps=SAVED,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=3,
    )
    asked = transformers.TrainingArguments(**{**given, **options})
    made = Own(
        tiny.model(model) if isinstance(model, str) else model,
        asked,
        train_dataset=Bytes(),
        eval_dataset=Bytes(),
    )
    made.remove_callback(transformers.PrinterCallback)
    growing(made, growths)
    return made


def losses(made: transformers.Trainer) -> list[float]:
    return [record["loss"] for record in made.state.log_history if "loss" in record]


def weights(made: transformers.Trainer) -> dict[str, torch.Tensor]:
    return dict(made.model.state_dict())  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Own, Path]:
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    made = trainer(folder)
    made.train()
    return made, folder


@pytest.mark.slow
def test_the_run_goes_on_across_growths(whole: tuple[Own, Path]) -> None:
    made, folder = whole
    config: Any = made.model.config  # type: ignore[union-attr]
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (36, 4, 6)
    assert made.state.global_step == made.seen == STEPS == len(losses(made))
    growths = [record for record in made.state.log_history if "growth" in record]
    assert [(record["growth"], record["step"]) for record in growths] == [(1, 5), (2, 8)]
    assert all(record["growth_difference"] < 1e-4 for record in growths)
    assert growths[0]["growth_parameters"] == growths[1]["growth_parameters_before"]
    saved = json.loads((folder / f"checkpoint-{STEPS}" / "config.json").read_text())
    assert saved["hidden_size"] == 36
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder / f"checkpoint-{STEPS}")
    assert all(torch.equal(value, weights(made)[name]) for name, value in loaded.state_dict().items())


class Whitened(torch.optim.SGD):
    """One that keeps a matrix of its own for each parameter, as Shampoo's kin do."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].setdefault("whitening", torch.eye(len(p) + 1))
        return super().step(closure)


@pytest.mark.slow
def test_an_optimizer_that_no_law_grows_is_refused_after_the_first_step(tmp_path: Path) -> None:
    made = trainer(tmp_path / "refused", GROWTHS, max_steps=9)
    made.optimizer = Whitened(made.model.parameters(), lr=1e-3)  # pyright: ignore
    with pytest.raises(StateError, match=r"^growth 1: .*whitening"):
        made.train()
    assert made.seen == 1
    with pytest.raises(StateError, match="whitening"):  # asked anew by each train()
        made.train()
    assert made.seen == 2
    last = trainer(tmp_path / "grown", (Growth({"ffn": "x2"}, at=0),), max_steps=2)
    last.optimizer = Whitened(last.model.parameters(), lr=1e-3)  # pyright: ignore
    last.train()  # nothing is left to grow
    assert last.seen == 2


@pytest.mark.slow
def test_what_is_called_before_a_growth_may_make_it_possible(tmp_path: Path) -> None:
    def forget(model: torch.nn.Module) -> None:
        for own in made.optimizer.state.values():  # pyright: ignore
            own.pop("whitening")

    made = trainer(tmp_path, (), max_steps=4)
    made.callback_handler.callbacks.pop()
    growing(made, (Growth({"ffn": "x2"}, at=3),), before=forget)
    made.optimizer = Whitened(made.model.parameters(), lr=1e-3)  # pyright: ignore
    before: Any = made.model
    width = before.config.intermediate_size
    made.train()
    assert made.seen == 4 and before.config.intermediate_size == 2 * width


@pytest.mark.slow
def test_the_loss_goes_on_where_it_was(tmp_path: Path) -> None:
    """Next to a run that does not grow: alike until the growth, and the first step after it starts alike."""
    grown, plain = trainer(tmp_path / "a", GROWTHS[:1]), trainer(tmp_path / "b", ())
    grown.train()
    plain.train()
    assert losses(grown)[:5] == losses(plain)[:5]
    assert losses(grown)[5] == pytest.approx(losses(plain)[5], rel=1e-5)  # the log rounds nothing
    assert losses(grown)[9] != pytest.approx(losses(plain)[9], rel=1e-5)


@pytest.mark.slow
def test_a_growth_at_0_comes_before_the_first_step(tmp_path: Path) -> None:
    """Its run is that of the grown model, and its number that of what begins with it."""
    growth = dict(hidden=36, heads=6)
    late = trainer(tmp_path / "a", [Growth(growth, at=0, seed=5), Growth({}, at=4)])
    late.train()
    early = trainer(tmp_path / "b", (), isogrow.grow(tiny.model("LlamaForCausalLM"), seed=5, **growth))
    early.train()
    assert losses(late) == losses(early)
    first, *_, last = [r for r in late.state.log_history if "growth" in r or "stage" in r]
    assert (first["growth"], first["step"], last["stage"], last["step"]) == (1, 0, 2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("at", [4, 8])
def test_resuming_changes_no_loss(whole: tuple[Own, Path], at: int, tmp_path: Path) -> None:
    """From before the growths, and from between the last one and the end: a fresh small model catches up."""
    made, folder = whole
    resumed = trainer(tmp_path)
    resumed.train(resume_from_checkpoint=str(folder / f"checkpoint-{at}"))
    assert losses(resumed) == losses(made)
    assert all(torch.equal(value, weights(made)[name]) for name, value in weights(resumed).items())


@pytest.mark.slow
def test_resuming_between_two_logs_changes_none(tmp_path: Path) -> None:
    """A plateau is seen by the log: the means of three losses, of which a checkpoint may lie between."""
    plateau = Plateau(below=-1.0, at_most=12, window=9)  # only a loss that rises fast enough is one
    growths = [Growth({"ffn": "x2"}, at=plateau)]
    made = trainer(tmp_path / "whole", growths, max_steps=14, logging_steps=3, save_steps=2)
    made.train()
    for at in (4, 8, 10):
        resumed = trainer(tmp_path / str(at), growths, max_steps=14, logging_steps=3)
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{at}"))
        assert losses(resumed) == losses(made) and len(losses(made)) == 4
        assert all(torch.equal(value, weights(made)[name]) for name, value in weights(resumed).items())


@pytest.mark.slow
def test_the_losses_since_the_last_log_are_what_is_kept(tmp_path: Path) -> None:
    """Without them the mean is that of the steps since the checkpoint."""
    made = trainer(tmp_path / "whole", (), max_steps=6, logging_steps=3, save_steps=2)
    made.train()
    state = tmp_path / "whole" / "checkpoint-2" / "trainer_state.json"
    said = json.loads(state.read_text())
    kept = said["stateful_callbacks"].pop(KEY)
    assert kept["since"] == 0 and len(kept["sums"]) == 1
    state.write_text(json.dumps(said))
    resumed = trainer(tmp_path / "other", (), max_steps=6, logging_steps=3)
    resumed.train(resume_from_checkpoint=str(state.parent))
    first, last = losses(made)
    assert losses(resumed) != losses(made) and losses(resumed)[1] == last
    assert (kept["sums"][0] + losses(resumed)[0]) / 3 == pytest.approx(first, rel=1e-6)


@pytest.mark.slow
def test_resuming_without_catching_up_fails(whole: tuple[Own, Path], tmp_path: Path) -> None:
    """So the test above says something."""
    _, folder = whole
    plain = trainer(tmp_path, ())
    with pytest.raises(CheckpointError, match="checkpoint-8 has 2 growths behind it, and the schedule has 0"):
        plain.train(resume_from_checkpoint=str(folder / "checkpoint-8"))
    other = trainer(tmp_path, (Growth({"hidden": 48}, at=5), GROWTHS[1]))
    with pytest.raises(CheckpointError, match="checkpoint-8 has hidden_size = 36.* lead to 48"):
        other.train(resume_from_checkpoint=str(folder / "checkpoint-8"))


@pytest.mark.slow
def test_new_entries_may_be_ramped(tmp_path: Path) -> None:
    """Each growth starts its own ramp, and a run that stopped within one goes on within it."""
    ramped = [dataclasses.replace(g, policy=isogrow.Policy(ramp=6, ramp_from=3.0)) for g in GROWTHS]
    made, plain = trainer(tmp_path / "a", ramped, save_steps=2), trainer(tmp_path / "b")
    made.train()
    plain.train()
    assert losses(made)[:6] == losses(plain)[:6] and losses(made)[6] != losses(plain)[6]
    assert made.optimizer.param_groups[0][COUNT] == STEPS - 8  # type: ignore[union-attr]
    for at in (6, 10):
        resumed = trainer(tmp_path / "a", ramped, save_steps=2)
        resumed.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{at}"))
        assert losses(resumed) == losses(made)


@pytest.mark.slow
def test_new_entries_may_be_trained_alone(tmp_path: Path) -> None:
    """For four steps old entries keep their bits, then all are trained; a stop changes nothing."""
    alone = [dataclasses.replace(GROWTHS[0], policy=isogrow.Policy(old_rate=0, rates_for=4))]
    made = trainer(tmp_path, alone, save_steps=1)
    made.train()
    new = isogrow.new_entries(made.model)  # type: ignore[arg-type]
    moved = [_moved(tmp_path, new, 5, step) for step in (9, 10)]
    assert moved == [{True}, {True, False}]
    resumed = trainer(tmp_path, alone, save_steps=1)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-7"))
    assert losses(resumed) == losses(made)


def _moved(folder: Path, new: NewEntries, before: int, after: int) -> set[bool]:
    """Of the entries that differ between two checkpoints: whether they are new."""
    one, two = (load_file(folder / f"checkpoint-{at}" / "model.safetensors") for at in (before, after))
    found: set[bool] = set()
    for name, value in one.items():
        is_new = torch.zeros(value.shape, dtype=torch.bool)
        for box in new.parameters[name].slices if name in new.parameters else ():
            is_new[box] = True
        found |= set(is_new[value.view(torch.int32) != two[name].view(torch.int32)].unique().tolist())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_accumulation_steps": 2},
        {"bf16": True, "use_cpu": True},
        {"optim": "adafactor"},
        {"activation_checkpointing": True},
        {"max_grad_norm": 0.1, "lr_scheduler_type": "cosine"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_trainers_options(options: dict[str, Any], tmp_path: Path) -> None:
    made = trainer(tmp_path, **options)
    made.train()
    assert len(losses(made)) == STEPS
    again = trainer(tmp_path, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert losses(again) == losses(made)


@pytest.mark.slow
def test_an_optimizer_of_ones_own(tmp_path: Path) -> None:
    model = tiny.model("GPT2LMHeadModel")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1 + step))
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=8,
        report_to=[],
        disable_tqdm=True,
        logging_steps=1,
        dataloader_pin_memory=False,
    )
    made = transformers.Trainer(model, arguments, train_dataset=Bytes(), optimizers=(optimizer, scheduler))
    made.remove_callback(transformers.PrinterCallback)
    growing(made, [Growth({"ffn": "x2", "layers": "+1"}, at=4)])
    made.train()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert made.state.log_history[-2]["learning_rate"] == pytest.approx(1e-2 / 8)


@pytest.mark.slow
def test_the_best_checkpoint_is_of_the_last_sizes(tmp_path: Path) -> None:
    """The loss only rises, so the best is from before the growth. A stage without one forgets nothing."""
    options: dict[str, Any] = dict(eval_strategy="steps", eval_steps=3, load_best_model_at_end=True)
    made = trainer(tmp_path, (GROWTHS[0], Growth({}, at=8)), save_steps=3, **options)
    made.evaluate = lambda *_, **__: {"eval_loss": float(made.state.global_step)}  # type: ignore[method-assign]
    made.train()
    assert made.state.best_model_checkpoint == str(tmp_path / "checkpoint-6")
    best = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-6")
    assert all(torch.equal(value, weights(made)[name]) for name, value in best.state_dict().items())


@pytest.mark.slow
def test_a_trainer_grows_its_model_once(tmp_path: Path) -> None:
    made = trainer(tmp_path / "a")
    made.train()
    with pytest.raises(StateError, match="model has had 2 growths, and this run has 0 behind it: make a new"):
        made.train()
    with pytest.raises(StateError, match="has had 2 growths, and checkpoint-4 has 0 behind it"):
        made.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    assert weights(made)["model.embed_tokens.weight"].shape[1] == 36
    made.args.max_steps = STEPS + 2
    made.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{STEPS}"))  # which has both
    assert made.state.global_step == STEPS + 2


@pytest.mark.slow
def test_growths_are_checked_before_a_step_is_made(tmp_path: Path) -> None:
    made = trainer(tmp_path, GROWTHS[::-1])
    with pytest.raises(SizeError, match="growth 2 is at step 5, after one at step 8"):
        made.train()
    made = trainer(tmp_path, [Growth({"ffn": 90}, Plateau(1e-4, 40, window=8))], logging_steps=5)
    with pytest.raises(SizeError, match="growth 1 waits for a plateau of 8 steps"):
        made.train()
    assert made.seen == 0


@pytest.mark.parametrize(
    ("growth", "said"),
    [
        (Growth({"fnn": "x2"}, at=8), "growth 2: fnn is no axis that grows"),
        (Growth({"ffn": 20}, at=8), r"growth 2: ffn=20 would shrink ffn from \d+ to 20"),
        (Growth({"hidden": 37}, at=8), "growth 2: .*hidden"),
        (Growth({"layers": 5}, at=8, layers_at="middle"), "growth 2: layers at 'middle'"),
        (Growth({"ffn": "x2"}, at=8, init=Init("no such")), "growth 2: init 'no such' is not known"),
        (Growth({"ffn": "x2"}, at=STEPS + 1), f"growth 2 is at step {STEPS + 1}, and the run has {STEPS}:"),
    ],
)
def test_growths_that_can_not_be_are_told_before_a_step_is_made(
    growth: Growth, said: str, tmp_path: Path
) -> None:
    """Each is planned on what the ones before it lead to."""
    made = trainer(tmp_path, (GROWTHS[0], growth))
    with pytest.raises(SizeError, match=said):
        made.train()
    assert made.seen == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (GROWTHS[0], r"give a list, \[Growth\(...\)\]"),
        ([{"ffn": 80}], "growth 1 is {'ffn': 80}: give a Growth"),
        ([Growth("x2", at=4)], "growth 1 has sizes='x2': give a dict of sizes by name"),  # type: ignore[arg-type]
        ([Growth({"ffn": 90}, at=4, init="copy")], "growth 1 has init='copy': give a isogrow.Init"),  # type: ignore[arg-type]
        ([Growth({"ffn": 90}, at=4, policy=3)], "growth 1 has policy=3: give a isogrow.Policy"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_schedule_is_told(given: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(SizeError, match=said):
        trainer(tmp_path, given)


def test_a_trainer_has_one_schedule(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    with pytest.raises(StateError, match="grows already: give all growths in one call"):
        growing(made, GROWTHS)
    with pytest.raises(StateError, match="is given a NoneType and wants a transformers.Trainer"):
        growing(None, GROWTHS)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_growth_of_no_size_ends_a_stage_alone(tmp_path: Path) -> None:
    """It leaves a ramp that runs alone, and is no growth in the log."""
    ramped = dataclasses.replace(GROWTHS[0], policy=isogrow.Policy(ramp=9))
    made, plain = trainer(tmp_path / "a", (ramped, Growth({}, at=7))), trainer(tmp_path / "b", (ramped,))
    made.train()
    plain.train()
    assert losses(made) == losses(plain)
    assert [r["step"] for r in made.state.log_history if "growth" in r] == [5]
    assert [(r["stage"], r["step"]) for r in made.state.log_history if "stage" in r] == [(3, 7)]
    resumed = trainer(tmp_path / "a", (ramped, Growth({}, at=7)))
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-8"))
    assert losses(resumed) == losses(made)


@pytest.mark.slow
def test_an_encoder_and_a_decoder_grow_in_a_run(tmp_path: Path) -> None:
    config = transformers.T5Config(
        vocab_size=tiny.VOCAB,
        d_model=24,
        d_kv=5,
        d_ff=44,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config)
    made = trainer(tmp_path, [Growth({"ffn": 50}, at=2)], model, max_steps=4)
    made.train()
    record = next(r for r in made.state.log_history if "growth" in r)
    assert record["growth_difference"] < 1e-5 and len(losses(made)) == 4


# GradMax


LOOKING = (Growth({"ffn": 51}, at=2, init=Init("gradmax"), seed=7),)


@pytest.mark.slow
def test_gradmax_looks_at_the_runs_own_data(tmp_path: Path) -> None:
    """Numbers, losses and what follows a resume are those of GradMax on the batches that the seed draws."""
    made = trainer(tmp_path / "a", LOOKING, max_steps=4, save_steps=3)
    before: list[Any] = []
    made.add_callback(_Kept(before))
    made.train()
    rows = torch.randperm(64, generator=torch.Generator().manual_seed(7))[:16].split(ROWS)
    batches = [{name: Bytes().ids[some] for name in ("input_ids", "labels")} for some in rows]
    large = isogrow.grow(before[0], init=GradMax(batches), ffn=51, seed=7)
    assert all(torch.equal(x, before[1][name]) for name, x in large.state_dict().items())
    resumed = trainer(tmp_path / "a", LOOKING, max_steps=4, save_steps=3)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert losses(resumed) == losses(made)
    assert all(torch.equal(x, weights(made)[name]) for name, x in weights(resumed).items())


class _Kept(transformers.TrainerCallback):
    """The model before the growth after step 2, and its weights after it."""

    def __init__(self, kept: list[Any]) -> None:
        self.kept = kept

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step == 1:  # the second step has just been made
            self.kept.append(copy.deepcopy(given["model"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step == 2:
            self.kept.append({name: x.clone() for name, x in given["model"].state_dict().items()})


def test_gradmax_can_not_draw_from_a_stream(tmp_path: Path) -> None:
    made = trainer(tmp_path / "a", LOOKING, max_steps=3)
    made.train_dataset = iter(())
    with pytest.raises(StateError, match="looks at a few batches of the training data, and .* has no items"):
        init_of(made, "gradmax", 0)
    assert init_of(made, "copy", 0) == "copy"
