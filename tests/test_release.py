"""A stage's model, released: decayed beside a run that goes on as if nothing had been, killed anywhere."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml
from command import isogrow
from killing import killed, under_way
from sweeping import EVERYTHING

import isogrow as package
from isogrow.errors import RecipeError
from isogrow.recipes import running
from isogrow.recipes.folder import claim, learned
from isogrow.recipes.reading import parse
from isogrow.recipes.release import Release
from isogrow.recipes.report import report

SIZES = {"hidden": 16, "ffn": 28, "heads": 2, "layers": 1}
RECIPE: dict[str, Any] = {
    "run": "run",
    "model": {"family": "gpt2", "sizes": SIZES, "std": 0.1},  # which drops channels at random
    "data": {"train": "*.txt", "held_out": "held.text", "length": 16},
    "training": {
        "rate": 3e-3, "warmup": 2, "decay": 4, "batch": 2, "accumulate": 3, "log_every": 1, "save_every": 2,
    },
    "stages": [
        {"steps": 5, "release": {"decay": 3}},
        {
            "ffn": 36, "slope": {"below": 9.0, "window": 3, "at_most": 5}, "rate": 0.5,
            "release": {"decay": 0.6},
        },
        {"layers": "+1", "steps": 6},
    ],
}  # fmt: skip
PLAIN = [{k: v for k, v in stage.items() if k != "release"} for stage in RECIPE["stages"]]
KEPT = ("model.safetensors", "config.json", "README.md")
KILLS = 20 if EVERYTHING else 3


def written(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_text("bacabadabacaba " * 24)  # 22 sequences: epochs of 4 steps
    (folder / "held.text").write_text(Path(package.__file__).read_text(encoding="utf-8")[:64])
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}, sort_keys=False))
    return path


def trained(folder: Path, **changes: Any) -> Path:
    done = isogrow("train", written(folder, **changes), "--json")
    assert done.code == 0, done.err
    return folder / "run"


def log(run: Path) -> list[dict[str, Any]]:
    """A run's records, without what tells of time."""
    said = json.loads((run / "log.json").read_text())
    times = ("runtime", "per_second", "preparation_time")
    return [{k: v for k, v in r.items() if not any(time in k for time in times)} for r in said]


def hashes(run: Path) -> dict[str, str]:
    return {name: hashlib.sha256((run / "model" / name).read_bytes()).hexdigest() for name in KEPT}


def branch(run: Path, stage: int) -> Path:
    return run / "released" / f"stage-{stage}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("released"))


# ── what it is ──


@pytest.mark.slow
def test_the_run_goes_on_as_if_nothing_had_been_released(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = trained(tmp_path / "plain", stages=PLAIN)
    assert log(plain) == log(run)
    name = "model.safetensors"  # the card holds the recipe
    assert hashes(plain)[name] == hashes(run)[name]
    assert not (plain / "released").exists()
    monkeypatch.setattr(running, "apart", lambda _: nullcontext())
    disturbed = trained(tmp_path / "disturbed")
    assert log(disturbed) != log(run) and hashes(disturbed)[name] != hashes(run)[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "stages", "decay"),
    [(1, [{"steps": 5 + 3}], 3), (2, [PLAIN[0], {"ffn": 36, "rate": 0.5, "steps": 4 + 2}], 2)],
)
def test_a_release_is_the_recipe_that_ends_with_its_stage(
    run: Path, tmp_path: Path, stage: int, stages: list[dict[str, Any]], decay: int
) -> None:
    alone = trained(tmp_path, stages=stages, training={**RECIPE["training"], "decay": decay})
    released = branch(run, stage)
    name = "model.safetensors"
    assert hashes(released)[name] == hashes(alone)[name] != hashes(run)[name]
    left = json.loads((released / "outcome.json").read_text())["step"] - decay
    found, wanted = (
        [r for r in log(each) if "loss" in r and r["step"] != left]  # which the run logs, after it has grown
        for each in (released, alone)
    )
    assert found == wanted
    rates = [record["learning_rate"] for record in log(released) if "learning_rate" in record]
    assert rates[-decay:] == [pytest.approx(rates[-decay] * (decay - i) / decay) for i in range(decay)]


@pytest.mark.slow
def test_a_release_is_a_whole_checkpoint_with_its_card(run: Path) -> None:
    for stage, ffn, ended in ((1, 28, 8), (2, 36, 11)):
        model = transformers.AutoModelForCausalLM.from_pretrained(branch(run, stage) / "model")
        assert model.config.n_inner == ffn
        card = (branch(run, stage) / "model" / "README.md").read_text()
        assert f"# run, stage {stage}, released" in card and f"trained over {ended} steps" in card
        assert f"| {stage} | " in card and f"| {stage + 1} | " not in card
        assert str(run.parent) not in card
    assert "After step 5 it grew from" in card and "beside a run that went on" in card
    own = (run / "model" / "README.md").read_text()
    assert own.count("it grew from") == 2 and "# run\n" in own and "beside a run" not in own


@pytest.mark.slow
def test_a_release_where_nothing_grows_is_a_start_for_another_recipe(tmp_path: Path) -> None:
    first = trained(tmp_path, stages=[{"steps": 4, "release": {"decay": 1}}, {"steps": 4}])
    assert [record["step"] for record in log(branch(first, 1)) if "loss" in record] == [1, 2, 3, 5]
    name = "model.safetensors"
    assert hashes(branch(first, 1))[name] != hashes(first)[name]
    changes = {"run": "second", "model": {"from": "run/released/stage-1/model"}}
    path = written(tmp_path, **changes, stages=[{"steps": 4}, {"ffn": 36, "steps": 4}])
    found = isogrow("train", path, "--dry-run", "--json").json
    per_step = found["stages"][0]["tokens"] / 4
    assert found["advice"]["tokens_per_parameter"][0] * found["stages"][0]["parameters"] == 9 * per_step
    assert 0 < found["advice"]["ceiling"] < 1  # what the release has learned, in its 5 steps, is known
    assert isogrow("train", path).code == 0
    card = (tmp_path / "second" / "model" / "README.md").read_text()
    assert "It began as the checkpoint `run/released/stage-1/model`." in card
    assert learned(branch(first, 1) / "model") == 5 * per_step
    assert (
        learned(tmp_path / "second" / "model") == 0
    )  # what its own start had learned, that recipe does not say


@pytest.mark.slow
def test_what_is_told_of_releases(run: Path) -> None:
    done = isogrow("train", run.parent / "recipe.yaml", "--json")
    first, second = done.json["released"]
    assert (first["stage"], first["step"], first["model"]) == (1, 8, str(branch(run, 1) / "model"))
    assert (second["stage"], second["step"]) == (2, 11) and second["held_out"] > 0
    assert [check["name"] for check in done.json["checks"]] == ["loss", "released", "released"]
    told = " ".join(isogrow("train", run.parent / "recipe.yaml", columns=200).out.split())
    assert f"stage 2 {branch(run, 2) / 'model'} (step 11, held-out loss" in told
    page = report(run).read_text(encoding="utf-8")
    assert "<h2>Released models</h2>" in page
    assert "<td>stage 1</td><td>5</td><td>3</td><td>288</td>" in page
    assert "<td>stage 2</td><td>9</td><td>2</td><td>192</td>" in page
    assert page.count("stroke-dasharray: 1.2,1.98") > report(branch(run, 1)).read_text().count("1.2,1.98")


@pytest.mark.slow
def test_the_dry_run_has_the_cost_of_releases(tmp_path: Path) -> None:
    path = written(tmp_path)
    said = isogrow("train", path, "--dry-run", "--json").json
    first, second, third = said["stages"]
    assert first["release"]["steps"] == 3 and first["release"]["tokens"] == 3 * 96
    assert first["release"]["flops"] * first["steps"] == first["flops"] * 3
    assert second["release"]["steps"] == 3 and third["release"] is None  # 0.6 of 5 at most
    assert first["release"]["seconds"] > 0
    total = sum(row["seconds"] + (row["release"] or {"seconds": 0})["seconds"] for row in said["stages"])
    assert said["seconds"] == pytest.approx(total)
    assert isogrow("train", path, "--dry-run").out.count("released: its decay") == 2


# ── of a stage that is decayed itself ──

FALLING: list[dict[str, Any]] = [
    {"steps": 6, "decay": 0.5, "release": {}},
    {"ffn": 36, "steps": 5, "rate": 0.7, "warmup": 2, "decay": 3, "release": {}},
    {"layers": "+1", "steps": 4, "decay": 4},
]
ENDLESS = {**RECIPE["training"], "decay": 0}


def rates(run: Path) -> list[float]:
    """Of each step, as shares of the training's rate."""
    found = {r["step"]: r["learning_rate"] for r in log(run) if "learning_rate" in r}
    return [found[step] / RECIPE["training"]["rate"] for step in sorted(found)]


@pytest.mark.slow
def test_a_stage_that_is_decayed_is_released_as_it_is(tmp_path: Path) -> None:
    """The run goes on from there, at the next stage's rate; a release costs and changes nothing."""
    run = trained(tmp_path / "falling", stages=FALLING, training=ENDLESS)
    first = [1 / 2, 1, 1, 1, 2 / 3, 1 / 3]
    second = [0.7 * share for share in (1 / 2, 1, 1, 2 / 3, 1 / 3)]
    assert rates(run) == pytest.approx([*first, *second, 1, 3 / 4, 1 / 2, 1 / 4], abs=1e-12)
    plain = [{k: v for k, v in stage.items() if k != "release"} for stage in FALLING]
    assert log(trained(tmp_path / "plain", stages=plain, training=ENDLESS)) == log(run)
    alone = trained(tmp_path / "alone", stages=[plain[0]], training=ENDLESS)
    name = "model.safetensors"
    assert hashes(branch(run, 1))[name] == hashes(alone)[name] != hashes(branch(run, 2))[name]
    ends = [[r["eval_loss"] for r in log(each) if "eval_loss" in r] for each in (branch(run, 1), alone)]
    assert ends[0] == ends[1] and len(ends[0]) == 1
    outcome = json.loads((branch(run, 2) / "outcome.json").read_text())
    assert outcome["step"] == 11 and outcome["held_out"][0] > 0
    card = (branch(run, 2) / "model" / "README.md").read_text()
    assert "Its rate fell to 0 over the last 3 steps, in a run that went on from there." in card
    assert "Its rate fell to 0 over the last 4 steps." in (run / "model" / "README.md").read_text()
    said = isogrow("train", written(tmp_path / "dry", stages=FALLING, training=ENDLESS), "--dry-run")
    assert said.out.count("released as it ends") == 2
    assert "<td>stage 2</td><td>11</td><td>0</td><td>0</td>" in report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("stage", "said", "message"),
    [
        (0, {"decay": 7}, "stage 1 has a decay that is 7 steps, and the stage may end after 6: give a"),
        (0, {"decay": 2.5}, "stage 1 has a decay that is 2.5: give a share of the stage's"),
        (0, {"decay": -1}, "stages, 1, decay is -1: input should be greater than or equal to 0"),
        (1, {"warmup": 3}, "stage 2 may end after 5 steps, and its warmup has 3 and its decay 3: make it"),
        (1, {"release": {"decay": 2}}, "stage 2 has a decay, after which its model is released as it is"),
        (1, {"steps": 0, "slope": {"below": 9.0, "window": 3, "at_most": 9, "at_least": 6}},
         "stage 2 ends by a slope, and a decay falls to a known end: give steps or tokens, or leave it out"),
        (2, {}, "stage 3 is the last and has a decay, and so has training: give one of them"),
    ],
)  # fmt: skip
def test_a_decay_of_a_stage_that_can_not_be_is_refused(
    stage: int, said: dict[str, Any], message: str
) -> None:
    stages = [dict(each) for each in FALLING]
    stages[stage] |= said
    training = RECIPE["training"] if stage == 2 else ENDLESS
    with pytest.raises(RecipeError, match=message) as refused:
        parse({**RECIPE, "training": training, "stages": stages})
    assert "\n" not in str(refused.value)


# ── wherever it is killed ──


@pytest.mark.slow
@pytest.mark.sweep("examples")
def test_killed_at_random_points_releases_end_alike(tmp_path: Path) -> None:
    first, second, third = RECIPE["stages"]
    second = {**second, "slope": {"below": 9.0, "window": 9, "at_most": 11}}
    lately: dict[str, Any] = dict(  # saves lie between two logs, too
        training={**RECIPE["training"], "log_every": 3}, stages=[first, second, third]
    )
    _killed(trained(tmp_path / "whole", **lately), tmp_path / "killed", **lately)


@pytest.mark.slow
@pytest.mark.sweep("examples")
def test_killed_at_random_points_what_is_released_as_it_ends_is_alike(tmp_path: Path) -> None:
    changes: dict[str, Any] = dict(stages=FALLING, training={**RECIPE["training"], "decay": 0})
    _killed(trained(tmp_path / "whole", **changes), tmp_path / "killed", **changes)


def _killed(run: Path, home: Path, **changes: Any) -> None:
    path, folder = written(home, **changes), home / "run"
    chance, kills, branches, ended = random.Random(0), 0, 0, 0
    while kills < KILLS or not ended or not branches:
        assert kills < 20 * KILLS, "no branch was killed while it was at work"
        at_work, kill = partial(_at_work, folder, kills, time.time()), kills < KILLS or not branches
        kills += killed(["train", str(path), "--json"], at_work, chance.uniform(0.0, 0.4), kill)
        own = list(folder.glob("released/*/"))
        branches += any(not (each / "outcome.json").exists() for each in own)
        if (folder / "outcome.json").exists():
            ended += 1
            for each in ("", "released/stage-1", "released/stage-2"):
                assert log(folder / each) == log(run / each)
                assert hashes(folder / each) == hashes(run / each)
            shutil.rmtree(folder)


def _at_work(folder: Path, kills: int, since: float) -> bool:
    """Every other time the branch is to be under way, else the run alone."""
    branched = not kills % 2 or (branch(folder, 1 + kills // 2 % 2) / "stages.json").exists()
    return branched and under_way(folder, since)


def test_a_run_with_a_release_holds_to_its_recipe(tmp_path: Path) -> None:
    claim(tmp_path, parse(RECIPE))
    claim(tmp_path, parse({**RECIPE, "stages": PLAIN}))
    branch(tmp_path, 1).mkdir(parents=True)
    claim(tmp_path, parse({**RECIPE, "stages": PLAIN}))
    with pytest.raises(RecipeError, match="holds a run of another recipe .its stages differ"):
        claim(tmp_path, parse(RECIPE))
    (tmp_path / "recipe.json").unlink()
    with pytest.raises(RecipeError, match="holds released but no recipe.json"):
        claim(tmp_path, parse(RECIPE))


# ── how long, and what can't be ──


@pytest.mark.parametrize(
    ("decay", "lasted", "steps"),
    [(None, 9, 0), (0.2, 500, 100), (0.2, 2, 1), (1.0, 9, 1), (30, 31, 30), ("1K", 2000, 1000)],
)
def test_how_long_a_release_decays(decay: Any, lasted: int, steps: int) -> None:
    assert Release(decay).steps(lasted) == steps


@pytest.mark.parametrize(
    ("stage", "said", "message"),
    [
        (0, {"decay": 6}, "stage 1 has a release whose decay is 6 steps, and the stage may end after 5"),
        (1, {"decay": 4}, "stage 2 has a release whose decay is 4 steps, and the stage may end after 3"),
        (0, {"decay": 1.5}, "stage 1 has a release whose decay is 1.5: give a share of the stage's"),
        (0, {"decay": 0}, "release, decay is 0: input should be greater than 0"),
        (0, {"decay": "long"}, "release, decay is 'long': give a number, like 8000, 8K, 8M, 8B or 8T"),
        (0, {"deacy": 3}, "release has 'deacy', which means nothing here: did you mean decay"),
        (0, {}, "stage 1 would release a model whose rate never fell: give release a decay, or the"),
        (2, {"decay": 0.2}, "stage 3 is the last, whose model is the run's own: leave release out, or add"),
    ],
)  # fmt: skip
def test_a_release_that_can_not_be_is_refused(stage: int, said: dict[str, Any], message: str) -> None:
    stages = [dict(each) for each in RECIPE["stages"]]
    stages[stage]["release"] = said
    with pytest.raises(RecipeError, match=message) as refused:
        parse({**RECIPE, "stages": stages})
    assert "\n" not in str(refused.value)
