"""`isogrow train` under torchrun: a run's losses are those of one process, on any number of ranks that it
goes on with, before and after a growth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers
from accelerate.data_loader import SeedableRandomSampler  # pyright: ignore[reportMissingTypeStubs]
from command import isogrow
from hypothesis import given
from hypothesis import strategies as st
from test_train import RECIPE, log, written
from torchrun import torchrun

from isogrow.errors import RecipeError
from isogrow.recipes.corpus import Sequences
from isogrow.recipes.reading import parse
from isogrow.recipes.sharing import Filled, InOrder, InStep, check_held, check_shared, share_of

spawned = pytest.mark.slow  # processes that train

# Sums in another order: each differs by 6e-8, float32's rounding. AdamW divides a gradient by its own size,
# so an entry whose gradient is about as small as that moves by another share of the rate.
ROUNDING = 1e-5
SEQUENCES, HELD_OUT = 16, 5  # neither can be shared by 2 or 3 ranks in batches of 6
STAGES = [
    {"steps": 5, "release": {"decay": 2}},
    {"hidden": "x2", "heads": 4, "steps": 4, "ramp": 2, "old_rate": 0.5},
    {"layers": "+1", "steps": 5},
]
TRAINING = {**RECIPE["training"], "batch": 6, "save_every": 2, "keep": 20, "evaluate_every": 4}


def recipe(folder: Path, model: Mapping[str, Any] = RECIPE["model"], **training: Any) -> Path:
    lately = {**TRAINING, "log_every": 3, **training}  # checkpoints lie between two logs, too
    path = written(folder, stages=STAGES, model=dict(model), training=lately)
    text = (folder / "a.txt").read_text()
    (folder / "a.txt").write_text(text[: 16 * SEQUENCES + 3])
    (folder / "held.text").write_text(text[: 16 * HELD_OUT])
    return path


def trained(folder: Path, world: int, first: Callable[[], None] | None = None, last: int = 14) -> None:
    if world == 1:
        done = isogrow("train", folder / "recipe.yaml")
        assert done.code == 0, done.err
        return
    words = ("train", folder / "recipe.yaml", "--json")
    codes, said, beside = torchrun(folder / "said", world, *words, first=first)
    shutil.rmtree(folder / "said")
    assert codes == [0] * world, beside
    assert json.loads(said[0])["step"] == last
    assert said[1:] == [""] * (world - 1) and beside == [""] * world


def assert_alike(one: Path, other: Path) -> None:
    """The same records, numbers up to the order of sums, of two folders that hold a run."""
    first, second = log(one), log(other)
    assert [record.keys() for record in first] == [record.keys() for record in second]
    for ours, theirs in zip(first, second, strict=True):
        for key in ours.keys() - {"growth_difference"}:  # rounding alone
            assert ours[key] == pytest.approx(theirs[key], rel=ROUNDING), (key, ours["step"])


Run = Callable[[int], Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run on so many ranks."""
    done: dict[int, Path] = {}

    def run(world: int) -> Path:
        if world not in done:
            folder = tmp_path_factory.mktemp(f"ranks{world}")
            recipe(folder)
            trained(folder, world)
            done[world] = folder
        return done[world]

    return run


@spawned
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_learn_what_one_process_learns(run: Run, world: int) -> None:
    """Losses, norms, tokens and operations, over epochs with a short last batch, through growths."""
    assert_alike(run(1), run(world))
    for each in (1, world):  # what is released is a run of its own
        (run(each) / "released").mkdir(exist_ok=True)
        shutil.copytree(run(each) / "run/released/stage-1", run(each) / "released/run", dirs_exist_ok=True)
    assert_alike(run(1) / "released", run(world) / "released")


@spawned
def test_other_losses_are_seen(run: Run, tmp_path: Path) -> None:
    """The proof that a comparison can fail."""
    shutil.copytree(run(1) / "run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    records = json.loads((tmp_path / "run" / "log.json").read_text())
    next(record for record in records if "loss" in record)["loss"] *= 1 + 2 * ROUNDING
    (tmp_path / "run" / "log.json").write_text(json.dumps(records))
    with pytest.raises(AssertionError, match="loss"):
        assert_alike(run(1), tmp_path)


@spawned
@pytest.mark.parametrize(("began", "step", "goes_on"), [(2, 4, 3), (2, 8, 1), (1, 4, 2), (3, 8, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(
    run: Run, tmp_path: Path, began: int, step: int, goes_on: int
) -> None:
    """From within an epoch that is not the first, before and after a growth."""
    folder = tmp_path / "on"
    shutil.copytree(run(began), folder)
    left = folder / "run"
    (left / "outcome.json").unlink()
    shutil.rmtree(left / "model")
    for checkpoint in left.glob("checkpoint-*"):
        if int(checkpoint.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(checkpoint)
    trained(folder, goes_on)
    assert_alike(run(1), folder)
    config = transformers.AutoConfig.from_pretrained(left / "model")
    assert (config.hidden_size, config.num_hidden_layers) == (32, 2)


# ── a rank's share ──


def sequences(count: int) -> Sequences:
    return Sequences(np.arange(4 * count, dtype=np.uint8), 4, "", {})


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(0, 60))
def test_a_step_has_its_place(count: int, batch: int, accumulate: int, step: int) -> None:
    """Its epoch and the tokens before it, as a loop counts them."""
    training = {**TRAINING, "batch": batch, "accumulate": accumulate}
    made = parse({**RECIPE, "training": training, "data": {**RECIPE["data"], "length": 4}})
    epoch, seen, left = 0, 0, count
    for _ in range(step):
        taken = min(left, batch * accumulate)
        seen, left = seen + 4 * taken, left - taken
        if not left:
            epoch, left = epoch + 1, count
    assert InStep(Filled(sequences(count), batch), made).place(step) == (epoch, seen)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_is_filled_up(count: int, batch: int, epoch: int) -> None:
    """Every sequence once, in one process's order of this epoch, then what nothing is learned from."""
    data = Filled(sequences(count), batch)
    data.epoch = epoch
    torch.manual_seed(7)
    order, one = list(InOrder(data)), SeedableRandomSampler(data.sequences)
    one.set_epoch(epoch)
    assert order[:count] == list(one) and len(order) == len(data) == -(-count // batch) * batch
    assert sorted(order[:count]) == list(range(count))
    assert all((data[i]["labels"] == -100).all() for i in order[count:])
    assert all((data[i]["labels"] == data[i]["input_ids"]).all() for i in order[:count])


def test_another_epoch_has_another_order() -> None:
    """The proof that what an epoch is told matters."""
    data = Filled(sequences(30), 4)
    first = list(InOrder(data))
    data.epoch = 1
    assert list(InOrder(data)) != first


@given(st.integers(1, 60), st.integers(1, 9))
def test_what_is_measured_is_measured_once(count: int, most: int) -> None:
    share = share_of(count, most)
    assert 1 <= share <= most and count % share == 0
    assert all(count % size for size in range(share + 1, most + 1))


@pytest.mark.parametrize(
    ("changes", "world", "message"),
    [
        ({}, 4, "batch is 6, which 4 ranks can't share alike: give 4 or 8, or start"),
        ({}, 7, "batch is 6, which 7 ranks can't share alike: give 7, or start"),
        (
            {"stages": [{"steps": 5}, {"ffn": "x2", "init": "gradmax", "steps": 5}]},
            2,
            "stage 2: init gradmax looks at batches, which 2 ranks would each do",
        ),
    ],
)
def test_what_ranks_cant_share_is_refused(changes: dict[str, Any], world: int, message: str) -> None:
    made = parse({**RECIPE, "training": TRAINING, **changes})
    with pytest.raises(RecipeError, match=message):
        check_shared(made, world)
    check_shared(made, 1)


@pytest.mark.parametrize(("name", "what"), [("fsdp", "FSDP"), ("deepspeed", "DeepSpeed")])
def test_what_a_launcher_spreads_is_refused(name: str, what: str) -> None:
    whole = {"accelerator": None}
    with pytest.raises(RecipeError, match=f"the environment asks for {what} .*: start it by torchrun"):
        check_held(cast("Any", SimpleNamespace(**whole, **{f"is_{name}_enabled": True})))
    check_held(cast("Any", SimpleNamespace(**whole)))


@spawned
def test_a_refusal_is_said_once(tmp_path: Path) -> None:
    """What only one rank can see, a folder of somebody else's, too."""
    path = recipe(tmp_path / "a", batch=5)
    codes, said, beside = torchrun(tmp_path / "said", 2, "train", path)
    assert codes == [2, 2] and said == ["", ""]
    assert "batch is 5, which 2 ranks can't share alike: give 4 or 6" in beside[0] and beside[1] == ""
    path = recipe(tmp_path / "b")
    (tmp_path / "b" / "run").mkdir()
    (tmp_path / "b" / "run" / "log.json").write_text("precious")
    codes, said, beside = torchrun(tmp_path / "said again", 2, "train", path)
    assert codes == [2, 2] and said == ["", ""]
    assert "holds log.json but no recipe.json" in beside[0] and beside[1] == ""


@spawned
def test_a_killed_rank_ends_the_run_which_goes_on(run: Run, tmp_path: Path) -> None:
    """The other rank says so; nothing is lost but what came after the last checkpoint."""
    recipe(tmp_path / "a")
    folder = tmp_path / "a" / "run"
    codes, _, beside = torchrun(
        tmp_path / "said", 2, "train", tmp_path / "a" / "recipe.yaml", kill=(1, folder / "checkpoint-6")
    )
    assert codes == [2, -9]
    assert "another rank of the job has ended before the run had come to its end" in beside[0]
    assert not (folder / "outcome.json").exists()
    trained(tmp_path / "a", 3)
    assert_alike(run(1), tmp_path / "a")
