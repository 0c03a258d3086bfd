"""A ~ means the user's folder wherever a path is given: in Python, in the shell, in a recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import checkpoints, grown, isogrow

import isogrow as package
from isogrow.recipes.corpus import files
from isogrow.recipes.folder import folder_of
from isogrow.recipes.reading import parse


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, with a small model, while one stands in another that has to stay empty."""
    shutil.copytree(checkpoints()["LlamaForCausalLM"], tmp_path / "home" / "small")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_in_python(home: Path) -> None:
    made = package.grow_checkpoint("~/small", "~/large", ffn="x2")
    assert (home / "large" / "isogrow.json").is_file()
    found = package.grow_checkpoint(Path("~/small"), Path("~/same"), plan="~/large")
    assert found.target == made.target and (home / "same" / "config.json").is_file()
    package.grow_checkpoint("~/small", "~/sibling", to="~/large/config.json")
    assert package.forecast("~/small", {"fsdp": 2}, plan="~/large").to_dict()
    assert package.verify("~/small", "~/large").passed
    assert not list(Path().iterdir())


def test_in_the_shell(home: Path) -> None:
    done = isogrow("plan", "~/small", "--ffn", "x2", "--out", "~/plan.json")
    assert done.code == 0 and (home / "plan.json").is_file()
    done = isogrow("grow", "~/small", "~/large", "--plan", "~/plan.json", "--no-verify", "--json")
    assert done.code == 0 and json.loads(done.out)["out"] == str(home / "large")
    shutil.copytree(grown(), home / "failed")
    assert isogrow("inspect", "~/failed", "--new").code == 0
    assert not list(Path().iterdir())


def test_in_a_recipe(home: Path) -> None:
    (home / "a.txt").write_text("text")
    said: dict[str, Any] = yaml.safe_load(
        "{run: ~/runs/a, model: {from: ~/small}, data: {train: ~/*.txt}, stages: [{steps: 200}]}"
    )
    recipe = parse(said)
    assert folder_of(recipe, Path()) == home / "runs" / "a"
    assert files(recipe.data.train, Path(), "train") == [home / "a.txt"]


def test_of_nobody_it_stays() -> None:
    with pytest.raises(package.IsogrowError, match="~nobody-here/small is no folder"):
        package.verify("~nobody-here/small", "large")
