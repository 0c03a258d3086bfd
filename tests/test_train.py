"""`isogrow train`: a recipe from its dry run to its last model, killed wherever it is."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import transformers
import yaml
from command import isogrow

import isogrow as package
from isogrow.errors import RecipeError
from isogrow.train.folder import last_complete
from isogrow.train.recipe import parse
from isogrow.train.running import checked

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
KILLS = 20
OURS = ("isogrow.train.running", "isogrow.cli.training", "isogrow.report")


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


def test_the_dry_run_says_what_it_leaves_out(tmp_path: Path) -> None:
    stages = [{"steps": 3}, {"ffn": 36, "init": "gradmax", "steps": 4}]
    said = isogrow("train", str(written(tmp_path, stages=stages)), "--dry-run").out
    assert " not counted  what gradmax looks at" in said
    assert "not counted" not in isogrow("train", str(written(tmp_path)), "--dry-run").out


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
        ({"model": {"from": "small"}}, "config.json is not there: give a checkpoint's folder"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_starts(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises((RecipeError, ValueError), match=message):
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
    extra = "train" if verb == "train" else "plots"
    assert done.err == f"refused: this needs {module}: pip install 'isogrow[{extra}]'\n"


def test_another_recipe_is_refused_in_the_same_folder(finished: Path) -> None:
    path = written(finished, training={**RECIPE["training"], "rate": 1e-3})
    try:
        done = isogrow("train", str(path))
        assert done.code == 2 and "holds a run of another recipe (its training differ" in done.err
    finally:
        written(finished)


def test_a_half_written_checkpoint_is_none(tmp_path: Path) -> None:
    for step, state in ((5, "{}"), (10, '{"log'), (15, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_complete(tmp_path) == tmp_path / "checkpoint-5"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


@pytest.mark.slow
def test_killed_at_random_points_it_ends_alike(finished: Path, tmp_path: Path) -> None:
    """`kill -9` twenty times, wherever the run is: the losses are those of the run that nothing stopped."""
    path, folder = written(tmp_path), tmp_path / "run"
    command = [sys.executable, "-m", "isogrow", "train", str(path), "--json"]
    chance, killed, ended = random.Random(0), 0, 0
    while killed < KILLS or not ended:
        started = time.time()
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while running.poll() is None and not _under_way(folder, started):
            time.sleep(0.02)
        deadline = time.monotonic() + chance.uniform(0.0, 2.5)
        while running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if running.poll() is None and killed < KILLS:
            killed += 1
            os.kill(running.pid, signal.SIGKILL)
        _, said = running.communicate()
        assert running.returncode in (0, -signal.SIGKILL), said.decode()
        if (folder / "outcome.json").exists():
            ended += 1
            assert log(tmp_path) == log(finished)
            shutil.rmtree(folder)


def _under_way(folder: Path, since: float) -> bool:
    """Whether a process has come as far as its run: it notes the stages anew each time."""
    noted = folder / "stages.json"
    return noted.exists() and noted.stat().st_mtime >= since
