"""`isogrow train`: a recipe from its dry run to its last model, killed wherever it is."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import transformers
import yaml
from command import isogrow
from killing import killed, under_way
from sweeping import EVERYTHING

import isogrow as package
from isogrow.errors import IsogrowError, RecipeError
from isogrow.recipes import running
from isogrow.recipes.callbacks import Costs
from isogrow.recipes.folder import check_claimable, claim, last_complete
from isogrow.recipes.reading import parse, read
from isogrow.recipes.recipe import Recipe
from isogrow.recipes.running import checked
from isogrow.recipes.starting import started

RECIPE: dict[str, Any] = {
    "run": "run",
    "model": {
        "family": "llama",
        "sizes": {"hidden": 16, "ffn": 28, "heads": 2, "kv_heads": 2, "head_dim": 8, "layers": 1},
        "std": 0.1,
    },
    "data": {"train": "*.txt", "held_out": "held.text", "length": 16},
    "training": {
        "rate": 3e-3, "warmup": 2, "decay": 4, "batch": 4, "log_every": 1, "save_every": 3,
        "evaluate_every": 6,
    },
    "stages": [
        {"steps": 6},
        {"hidden": "x2", "heads": 4, "slope": {"below": 1.0, "window": 3, "at_most": 5}},
        {"layers": "+1", "steps": 8, "rate": 0.5},
    ],
}  # fmt: skip
GPT2: dict[str, Any] = {"family": "gpt2", "sizes": {"hidden": 16, "ffn": 28, "heads": 2, "layers": 1}}
T5: dict[str, Any] = {
    "family": "t5",
    "sizes": {"hidden": 16, "ffn": 28, "heads": 2, "head_dim": 8, "encoder_layers": 1, "decoder_layers": 3},
}
KILLS = 20 if EVERYTHING else 8
OURS = ("isogrow.recipes.running", "isogrow.cli.training", "isogrow.recipes.report")


def written(folder: Path, **changes: Any) -> Path:
    text = Path(package.__file__).read_text(encoding="utf-8")
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_text(text * 3)
    (folder / "held.text").write_text(text[:400])
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}, sort_keys=False))
    return path


def log(folder: Path) -> list[dict[str, Any]]:
    """A finished run's records, without what tells of time."""
    said = json.loads((folder / "run" / "log.json").read_text())
    return [
        {k: v for k, v in record.items() if "runtime" not in k and "per_second" not in k} for record in said
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    done = isogrow("train", str(written(folder)), "--json")
    assert done.code == 0, done.err
    return folder


@pytest.mark.slow
def test_a_run_from_recipe_to_model(finished: Path) -> None:
    records = log(finished)
    growths = [record for record in records if "growth" in record]
    assert [record["step"] for record in growths] == [6, 10]  # as soon as 3 losses can tell
    assert all(record["growth_difference"] < 1e-4 for record in growths)
    model = transformers.AutoModelForCausalLM.from_pretrained(finished / "run" / "model")
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (32, 2)
    outcome = json.loads((finished / "run" / "outcome.json").read_text())
    assert outcome["step"] == 18 and outcome["held_out"]
    rates = [record["learning_rate"] for record in records if "learning_rate" in record]
    assert len(rates) == 18
    assert rates[0] == pytest.approx(3e-3 / 2) and rates[5] == rates[9] == 3e-3
    assert rates[10] == pytest.approx(3e-3 / 2)  # the last stage's own, from its first step on
    assert rates[-1] == pytest.approx(3e-3 / 8)
    flops = [record["flops"] for record in records if "loss" in record]
    assert all(a < b for a, b in zip(flops, flops[1:], strict=False))
    after = [record for record in records if "grad_norm_new" in record]
    assert after and after[-1]["grad_norm_new"] > 0.0 and after[-1]["weight_norm_old"] > 0.0


@pytest.mark.slow
def test_operations_count_what_gradmax_looks_at(tmp_path: Path) -> None:
    stages = [{"steps": 3}, {"ffn": 36, "init": "gradmax", "steps": 4}]
    training = {**RECIPE["training"], "accumulate": 2, "save_every": 0}
    assert isogrow("train", str(written(tmp_path, stages=stages, training=training))).code == 0
    told = json.loads((tmp_path / "run" / "stages.json").read_text())
    before, after = (stage["flops"] // stage["steps"] for stage in told)
    records = log(tmp_path)
    passes = next(record["growth_passes"] for record in records if "growth" in record)
    assert passes > 16  # entries of a row
    spent = {record["step"]: record["flops"] for record in records if "loss" in record}
    assert spent[2] == 2 * before
    assert spent[7] == 3 * before + 4 * after + passes * after // 2  # two batches a step


@pytest.mark.slow
def test_operations_are_those_of_the_tokens_seen(tmp_path: Path) -> None:
    """An epoch of 3 sequences in batches of 2 ends in a smaller one. A stage may change the rate alone."""
    stages = [{"steps": 3}, {"rate": 0.25, "steps": 2}, {"ffn": 36, "steps": 4}]
    training = {**RECIPE["training"], "batch": 2, "accumulate": 3, "save_every": 0}
    path = written(tmp_path, stages=stages, training=training)
    (tmp_path / "a.txt").write_text("b" * 16 * 3)
    assert isogrow("train", str(path)).code == 0
    told = json.loads((tmp_path / "run" / "stages.json").read_text())
    small, same, large = (stage["flops"] // stage["tokens"] for stage in told)
    assert small == same < large
    records = log(tmp_path)
    assert records[-1]["num_input_tokens_seen"] == 9 * 3 * 16
    spent = max(record["flops"] for record in records if "flops" in record)
    assert spent == 16 * 3 * (5 * small + 4 * large)
    rates = [record["learning_rate"] for record in records if "learning_rate" in record]
    assert rates[2:5] == [3e-3, 0.75e-3, 0.75e-3]
    assert [record["step"] for record in records if "growth" in record] == [5]


def test_a_finished_run_stays_finished(finished: Path) -> None:
    before = (finished / "run" / "log.json").stat().st_mtime_ns
    done = isogrow("train", str(finished / "recipe.yaml"))
    assert done.code == 0 and "trained" in done.out
    assert (finished / "run" / "log.json").stat().st_mtime_ns == before


def test_its_page(finished: Path) -> None:
    done = isogrow("report", str(finished / "run"))
    assert done.code == 0 and "report.html" in done.out
    assert "Weight norm of old and new blocks" in (finished / "run" / "report.html").read_text()


def test_what_to_run_next_can_be_copied(tmp_path: Path) -> None:
    path = written(tmp_path, run="sp ace/my run", stages=[{"steps": 4}])
    done = isogrow("train", str(path), "--json")
    assert done.json["next"] == [f"isogrow report '{tmp_path / 'sp ace' / 'my run'}'"]


def test_the_dry_run_says_what_it_leaves_out(tmp_path: Path) -> None:
    stages = [{"steps": 3}, {"ffn": 36, "init": "gradmax", "steps": 4}]
    said = isogrow("train", str(written(tmp_path, stages=stages)), "--dry-run").out
    assert " not counted  what gradmax looks at" in said
    assert "not counted" not in isogrow("train", str(written(tmp_path)), "--dry-run").out


def test_the_dry_run_is_timed_where_it_would_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device that Trainer would take; meta stands for an accelerator."""
    recipe, seen = read(written(tmp_path)), list[torch.device]()
    assert running.arguments(recipe, tmp_path, False).device == running.device()
    first = running.started

    def watched(*given: Any) -> Any:
        model: Any = first(*given)
        model.register_forward_pre_hook(
            lambda _, args, words: seen.append(words["input_ids"].device), with_kwargs=True
        )
        return model

    monkeypatch.setattr(running, "started", watched)
    monkeypatch.setattr(running, "device", lambda: torch.device("meta"))
    assert running.timed(recipe, tmp_path, 2) > 0
    assert seen == [torch.device("meta")] * 2


def test_the_dry_run_tells_each_stage(tmp_path: Path) -> None:
    done = isogrow("train", str(written(tmp_path)), "--dry-run", "--json")
    assert done.code == 0, done.err
    stages = json.loads(done.out)["stages"]
    assert [stage["sizes"]["hidden"] for stage in stages] == [16, 32, 32]
    assert {"heads", "head_dim"} < stages[0]["sizes"].keys() and "group" not in stages[0]["sizes"]
    assert [stage["sizes"]["layers"] for stage in stages] == [1, 1, 2]
    assert [stage["steps"] for stage in stages] == [6, 5, 8]
    assert all(stage["seconds"] > 0 and stage["flops"] > 0 for stage in stages)
    assert not (tmp_path / "run").exists()
    shown = isogrow("train", str(tmp_path / "recipe.yaml"), "--dry-run")
    assert "hidden 32, heads 4" in " ".join(shown.out.split())


def _first(**sizes: int) -> dict[str, Any]:
    return {**RECIPE["model"], "sizes": {**RECIPE["model"]["sizes"], **sizes}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"train": "none.txt", "length": 16}}, "none.txt is not there"),
        ({"stages": [{"steps": 6}, {"hidden": 8, "steps": 9}]}, "stage 2: .*would shrink hidden from 16"),
        ({"stages": [{"steps": 6}, {"hidden": 17, "steps": 9}]}, "stage 2: .*needs hidden %"),
        ({"model": {"family": "llama", "sizes": {"hidden": 16}}}, "is missing: give every size"),
        ({"model": {"family": "lama", "sizes": {}}}, "'lama' is not known"),
        ({"model": _first(hiddn=3)}, "llama has no 'hiddn' of its own: give some of hidden, ffn, heads"),
        ({"model": _first(heads=3)}, "heads is 3, and by the other sizes and the config it is 2: give sizes"),
        ({"model": {**_first(), "config": {"vocab_size": 9}}}, "vocab_size is what data, tokenizer makes it"),
        ({"model": {**_first(), "config": {"hidden_size": 17}}}, "model: llama can't be so: .* multiple of"),
        (
            {"model": {**_first(), "config": {"rope_tetha": 1e4}}},
            "model, config: llama has no rope_tetha, so nothing would read it: did you mean rope_theta.$",
        ),
        ({"model": {"from": "small"}}, "config.json is not there: give a checkpoint's folder"),
        ({"model": {"from": "torn"}}, "torn/config.json is no valid JSON"),
        ({"model": {"from": "empty"}}, "empty holds no weights: expected"),
        (
            {"stages": [{"steps": 6}, {"ffn": 28, "steps": 9, "ramp": 4}]},
            "stage 2: ffn: 28 is what the model",
        ),
        (
            {"model": {**GPT2, "config": {"n_positions": 15}}},
            "length is 16, and the model has 15 positions: .* n_pos",
        ),
        ({"model": T5}, "no model that tells the next token can be made of a 't5'"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_starts(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, **changes)
    for name, config in (("torn", "{"), ("empty", '{"model_type": "llama", "vocab_size": 256}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    with pytest.raises(IsogrowError, match=message):
        checked(parse(yaml.safe_load(path.read_text())), tmp_path)
    done = isogrow("train", str(path))
    assert done.code == 2 and done.err.startswith("refused: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("module", "verb"), [("accelerate", "train"), ("matplotlib", "report")])
def test_what_is_not_installed_is_named(
    module: str, verb: str, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = finished / ("recipe.yaml" if verb == "train" else "run")
    ours = [name for name in sys.modules if name.startswith(OURS)]
    monkeypatch.delattr("isogrow.cli.training", raising=False)
    with mock.patch.dict(sys.modules, {module: None, f"{module}.figure": None}):
        for name in ours:
            del sys.modules[name]
        done = isogrow(verb, str(target))
    assert done.code == 2
    extra = f"isogrow with its extra {'train' if verb == 'train' else 'plots'!r}"
    assert done.err == f"refused: this needs {module}: install {module}, or {extra}\n"


def test_another_recipe_is_refused_in_the_same_folder(finished: Path) -> None:
    path = written(finished, training={**RECIPE["training"], "rate": 1e-3})
    try:
        done = isogrow("train", str(path))
        assert done.code == 2 and "holds a run of another recipe (its training differ" in done.err
    finally:
        written(finished)


@pytest.mark.parametrize(
    "held",
    [
        "checkpoint-700/model.safetensors",
        "checkpoint-best/x",
        "checkpoint-5",
        "model/config.json",
        "log.json",
        "notes.txt",
        ".hidden",
        "tokens/mine",
    ],
)
def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path, held: str) -> None:
    kept = tmp_path / "run" / held
    kept.parent.mkdir(parents=True)
    kept.write_text("precious")
    name = held.partition("/")[0]
    for dry in ((), ("--dry-run",)):
        done = isogrow("train", str(written(tmp_path)), *dry)
        assert done.code == 2 and f"holds {name} but no recipe.json, so it is not a recipe's run" in done.err
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [kept]


@pytest.mark.parametrize("run", ["a.txt", "a.txt/deeper/run"])
def test_a_run_that_is_a_file_is_refused(tmp_path: Path, run: str) -> None:
    path = written(tmp_path, run=run)
    for dry in ((), ("--dry-run",)):
        done = isogrow("train", str(path), *dry)
        assert done.code == 2
        assert done.err == (
            f"refused: run: {tmp_path / 'a.txt'} is a file, and a run has a folder: name another folder in"
            " run\n"
        )


def test_a_run_is_not_written_into_the_model_that_it_starts_from(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    (small / "config.json").write_text("{}")
    with pytest.raises(RecipeError, match="small holds config.json but no recipe.json"):
        claim(small, _recipe(run="small", model={"from": "small"}))
    assert [path.name for path in small.iterdir()] == ["config.json"]


def test_a_folder_is_free_that_is_empty_or_was_being_claimed(tmp_path: Path) -> None:
    (tmp_path / "recipe.unfinished").write_text("{")
    check_claimable(tmp_path, _recipe())
    assert claim(tmp_path, _recipe()) and not claim(tmp_path, _recipe())
    assert claim(tmp_path / "new" / "run", _recipe())


def _recipe(**changes: Any) -> Recipe:
    return parse({**RECIPE, **changes})


def test_a_folder_is_claimed_anew_until_there_is_a_checkpoint(tmp_path: Path) -> None:
    other = {**RECIPE["data"], "length": 17}
    claim(tmp_path, _recipe())
    claim(tmp_path, _recipe(data=other))
    (tmp_path / "checkpoint-3").mkdir()
    claim(tmp_path, _recipe(data=other))
    with pytest.raises(RecipeError, match="holds a run of another recipe .its data differ."):
        claim(tmp_path, _recipe())


def test_a_start_that_failed_can_be_mended(tmp_path: Path) -> None:
    failed = isogrow("train", str(written(tmp_path, data={**RECIPE["data"], "length": 10**6})))
    assert failed.code == 2 and "less than one sequence" in failed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "held.text", "recipe.yaml"]
    path = written(tmp_path, data={**RECIPE["data"], "held_out": "torn.text"})
    (tmp_path / "torn.text").write_bytes(b"\xff" * 99)
    (tmp_path / "run").mkdir()
    failed = isogrow("train", str(path))
    assert failed.code == 2 and "torn.text is no UTF-8" in failed.err
    assert not (tmp_path / "run").exists()
    done = isogrow("train", str(written(tmp_path, stages=[{"steps": 4}])))
    assert done.code == 0, done.err


def test_a_recipe_of_before_a_field_was_there_is_the_same(tmp_path: Path) -> None:
    claim(tmp_path, _recipe(model={"from": "small"}))
    noted = json.loads((tmp_path / "recipe.json").read_text())
    for stage in noted["stages"]:
        del stage["ramp"]
    (tmp_path / "recipe.json").write_text(json.dumps(noted))
    (tmp_path / "checkpoint-3").mkdir()
    claim(tmp_path, _recipe(model={"from": "small"}))
    with pytest.raises(RecipeError, match="its stages differ"):
        claim(
            tmp_path,
            _recipe(
                model={"from": "small"}, stages=[*RECIPE["stages"][:2], {**RECIPE["stages"][2], "ramp": 2}]
            ),
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"mod', "is no JSON .*: it is damaged"), ("{}", "is not a run's, which would overwrite")],
)
def test_a_note_that_no_run_wrote_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(RecipeError, match=f"recipe.json {message}"):
        claim(tmp_path, _recipe())
    assert (tmp_path / "recipe.json").read_text() == text


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("outcome", "{}", "outcome.json does not say step, loss, held_out: it is damaged"),
        ("corpus", "[]", "corpus.json does not say train, held_out: it is damaged"),
        ("corpus", '{"train": {"stored": "x"}, "held_out": {}}', "does not say which tokens train has"),
    ],
)
def test_a_damaged_note_is_told(finished: Path, tmp_path: Path, name: str, text: str, message: str) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    (folder / "run" / "outcome.json").unlink()
    (folder / "run" / f"{name}.json").write_text(text)
    done = isogrow("train", str(folder / "recipe.yaml"))
    assert done.code == 2 and message in " ".join(done.err.split())


def test_growths_without_tokens_count_by_steps(finished: Path) -> None:
    """So that a run goes on that began before tokens were noted."""
    recipe = parse(RECIPE)
    costs = Costs(recipe, checked(recipe, finished))
    records = log(finished)
    bare = [{k: v for k, v in r.items() if k != "num_input_tokens_seen"} for r in records if "growth" in r]
    tokens = records[-1]["num_input_tokens_seen"]
    assert costs.spent(bare, tokens) == costs.spent(records, tokens) > 0


def test_a_run_goes_on_with_its_own_corpus_alone(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    (folder / "run" / "outcome.json").unlink()
    (folder / "b.txt").write_text("more")
    done = isogrow("train", str(folder / "recipe.yaml"))
    assert done.code == 2 and "data, train: b.txt is new since the run began" in done.err
    (folder / "b.txt").unlink()
    assert isogrow("train", str(folder / "recipe.yaml")).code == 0


def test_a_model_that_sees_later_tokens_is_refused(tmp_path: Path) -> None:
    bert = {"family": "bert", "sizes": GPT2["sizes"], "config": {"hidden_dropout_prob": 0.5}}
    with pytest.raises(RecipeError, match="this bert sees later tokens, .*is_decoder: true in config"):
        started(_recipe(model=bert), tmp_path, 256)
    bert["config"] = {"is_decoder": True}
    assert started(_recipe(model=bert), tmp_path, 256).training


def test_a_class_whose_own_tokens_are_beyond_the_vocabulary(tmp_path: Path) -> None:
    written(tmp_path)
    assert checked(_recipe(model={**_first(), "family": "phi3"}, stages=[{"steps": 9}]), tmp_path)


def test_a_run_that_diverges_fails(tmp_path: Path) -> None:
    training = {**RECIPE["training"], "rate": 1e30, "warmup": 0, "decay": 0, "clip": 0, "save_every": 0}
    done = isogrow("train", str(written(tmp_path, training=training, stages=[{"steps": 5}])))
    assert done.code == 1 and "failed: loss: it is nan; the run has diverged" in done.err
    assert isogrow("train", str(tmp_path / "recipe.yaml")).code == 1


def test_a_half_written_checkpoint_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    for step, state in ((5, '{"log_history": []}'), (10, '{"log'), (15, None), (20, "{}")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_complete(tmp_path) == tmp_path / "checkpoint-5"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-5", "checkpoint-best"]


@pytest.mark.slow
@pytest.mark.sweep("examples")
def test_killed_at_random_points_it_ends_alike(tmp_path: Path) -> None:
    """`kill -9` again and again, wherever the run is, between two logs too: the losses are those of a run
    that nothing stopped."""
    first, slope, last = RECIPE["stages"]
    slope = {**slope, "slope": {"below": 1.0, "window": 6, "at_most": 9}}
    changes = {"training": {**RECIPE["training"], "log_every": 2}, "stages": [first, slope, last]}
    finished = tmp_path / "finished"
    assert isogrow("train", written(finished, **changes)).code == 0
    path, folder = written(tmp_path, **changes), tmp_path / "run"
    chance, kills, ended = random.Random(0), 0, 0
    while kills < KILLS or not ended:
        at_work = partial(under_way, folder, time.time())
        kills += killed(["train", str(path), "--json"], at_work, chance.uniform(0.0, 1.5), kills < KILLS)
        if (folder / "outcome.json").exists():
            ended += 1
            assert log(tmp_path) == log(finished)
            shutil.rmtree(folder)
