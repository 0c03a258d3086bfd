"""The README's code runs, in the order in which it stands there; its table and make targets are true."""

from __future__ import annotations

import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import documents
import pytest
import transformers
from families_verb import Asked
from typer.testing import CliRunner

from isogrow.cli import app

README = documents.read(documents.ROOT / "README.md")
TINY, EXAMPLE, TRAINING, TRAINER = documents.code(README, "python")
SET_UP, ON_DISK = documents.code(README, "sh")


def commands(block: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in block.splitlines() if line]


def test_the_examples_are_short() -> None:
    assert [len([line for line in code.splitlines() if line]) for code in (TINY, EXAMPLE)] == [4, 3]


@pytest.mark.slow
def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(TINY + EXAMPLE, "README.md", "exec"), found)
    for line in commands(ON_DISK):
        assert line[0] == "isogrow"
        result = CliRunner().invoke(app, line[1:])
        assert result.exit_code == 0, (line, result.output, result.exception)
    large = transformers.AutoModelForCausalLM.from_pretrained("large")
    assert (large.config.hidden_size, large.config.num_hidden_layers) == (32, 3)
    assert sum(p.numel() for p in large.parameters()) == sum(p.numel() for p in found["large"].parameters())


@pytest.mark.slow
def test_the_training_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(TINY + EXAMPLE + TRAINING + TRAINER, "README.md", "exec"), found)
    (group,) = found["optimizer"].param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in found["small"].parameters()}
    assert found["schedule"].optimizer is found["optimizer"]
    assert found["small"].config.intermediate_size == 80
    assert [growth.at for growth in found["growths"]] == [500, 1000]


def test_a_command_that_is_refused_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = next(line for line in commands(ON_DISK) if line[1] == "inspect")
    assert CliRunner().invoke(app, line[1:]).exit_code == 2


def test_the_make_targets_are_there() -> None:
    makefile = documents.read(documents.ROOT / "Makefile").splitlines()
    for make, target in commands(SET_UP):
        assert make == "make" and any(line.startswith(f"{target}:") for line in makefile), target


@pytest.mark.slow
@pytest.mark.parametrize("true", [True, False])
def test_the_table_of_families_is_up_to_date(
    true: bool, families_asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the script's own check; and it sees an axis that the planner would grow otherwise."""
    said = families_asked.json
    if not true:
        said["families"][0]["axes"]["ffn"]["grows"] = "no"
    script = documents.ROOT / "docs" / "families_table.py"
    monkeypatch.setattr("isogrow.cli.facts.known", lambda types=(): said)
    monkeypatch.setattr(sys, "argv", [str(script), "--check", *families_asked.types])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert bool(ended.value.code) is not true


def test_a_model_type_that_the_table_lacks_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(documents.ROOT / "docs")
    import families_table

    monkeypatch.setattr(families_table, "known", lambda types: {"axes": [], "families": []})
    monkeypatch.setattr(families_table, "lines", lambda data: [])
    assert families_table.stands(README, ["llama"])
    monkeypatch.setitem(families_table.LAYOUTS, "nothing", families_table.LAYOUTS["llama"])
    assert not families_table.stands(README, ["llama"])


def test_a_table_that_is_not_up_to_date_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(documents.ROOT / "docs")
    import families_table

    monkeypatch.setattr(families_table, "table", lambda: "| made | up |\n")
    assert families_table.written(README) != README
    assert families_table.written(families_table.written(README)) == families_table.written(README)
