"""The command line as a whole: usage, what grow, verify and demo do, where it prints, that it is light."""

from __future__ import annotations

import builtins
import contextlib
import doctest
import importlib
import io
import json
import os
import pty
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import transformers
from command import GROWTH, checkpoints, config, grown, isogrow, write
from families_verb import Asked, modules, python
from forking import PROCESSES
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from isogrow import __version__
from isogrow.__main__ import main
from isogrow.cli import app
from isogrow.cli.voice import answer, in_shell, plain, say


@pytest.fixture(scope="module")
def models() -> Mapping[str, Path]:
    return checkpoints()


@pytest.fixture(scope="module")
def llama() -> Path:
    return checkpoints()["LlamaForCausalLM"]


@pytest.fixture(scope="module")
def wide() -> Path:
    return grown()


VERBS = ("inspect", "plan", "grow", "verify", "train", "report", "families", "demo")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("allow it with allow_dead (--allow-dead)", "allow it with --allow-dead"),
        ("leave out streamed=True (--streamed), or", "leave out --streamed, or"),
        ("engines= (--for) names no engine", "--for names no engine"),
        ("with optimizer='drop' (--optimizer drop)", "with --optimizer drop"),
        ("give as base (--base) what was grown", "give as --base what was grown"),
        ("the model was grown (--plan)", "the model was grown (--plan)"),
        ("grow the base alone (--layers), and", "grow the base alone (--layers), and"),
    ],
)
def test_sentences_name_options_as_the_shell_does(said: str, shown: str) -> None:
    assert in_shell(said) == shown


# ── help, usage, exit codes ──


def test_help_lists_every_verb() -> None:
    ran = isogrow("--help")
    assert (ran.code, ran.err) == (0, "")
    for verb in VERBS:
        assert f"\n  {verb} " in ran.out
    assert "..." not in ran.out.partition("Commands:")[2], "a verb's line is cut short"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(verb: str) -> None:
    ran = isogrow(verb, "-h")
    assert ran.code == 0
    assert "--json" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize("verb", ["plan", "grow"])
def test_plan_and_grow_share_the_request(verb: str) -> None:
    out = isogrow(verb, "--help").out
    for option in ("hidden", "ffn", "heads", "kv-heads", "head-dim", "key-dim", "value-dim", "layers"):
        assert f"--{option} SIZE" in out
    for option in ("size", "layers-at", "to", "plan", "init", "init-std", "seed", "allow-dead", "dtype"):
        assert f"--{option} " in out
    assert out.index("Arguments:") < out.index("Sizes:") < out.index("\nOptions:")


def test_version() -> None:
    ran = isogrow("--version")
    assert (ran.code, ran.out) == (0, f"isogrow {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Usage: isogrow"),
        (["plann"], "No such command 'plann'"),
        (["plan"], "Missing argument 'MODEL'"),
        (["grow", "somewhere"], "Missing argument 'OUT'"),
        (["plan", "somewhere", "--seed", "x"], "Invalid value for '--seed'"),
        (["plan", "somewhere", "--widht", "3"], "No such option"),
    ],
)
def test_a_usage_error_exits_with_2(arguments: list[str], said: str) -> None:
    ran = isogrow(*arguments)
    assert ran.code == 2
    assert said in ran.err + ran.out
    if arguments:
        told = isogrow(*arguments, "--json")
        assert (told.code, told.json["refused"]["kind"]) == (2, "UsageError")
        assert said in told.json["refused"]["why"] and said in told.err


@pytest.mark.parametrize("arguments", [["plan", "m", "--ranks", "x"], ["--jsn"], ["grow", "m", "--ffn"]])
def test_a_usage_error_is_told_in_json(arguments: list[str]) -> None:
    refused = isogrow(*arguments[:1], "--json", *arguments[1:]).json["refused"]
    assert refused["kind"] == "UsageError" and refused["why"]


def test_stopped_before_it_has_begun_it_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(name: str, *rest: Any) -> Any:
        if name == "isogrow.cli":
            raise KeyboardInterrupt
        return found(name, *rest)

    found = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130


# ── grow ──


@pytest.mark.slow
def test_grow_proves_what_it_wrote(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = isogrow("grow", llama, out, *GROWTH)
    assert (ran.code, ran.err) == (0, "")
    assert " ✓  float64 " in ran.out
    assert " ✓  liveness " in ran.out
    assert "✗" not in ran.out
    assert ran.out.endswith(f'\n next  transformers.LlamaForCausalLM.from_pretrained("{out}")\n')
    assert "isogrow verify" not in ran.out
    made = transformers.LlamaForCausalLM.from_pretrained(out)
    assert (made.config.hidden_size, made.config.num_hidden_layers) == (30, 5)
    assert "passed" in (out / "README.md").read_text()


@pytest.mark.slow
def test_grow_json(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = isogrow("grow", llama, out, "--ffn", "+5", "--json")
    assert (ran.code, ran.err) == (0, "")
    data = ran.json
    assert data["out"] == str(out)
    assert data["verification"]["passed"] is True
    assert (data["before"]["sizes"]["ffn"], data["after"]["sizes"]["ffn"]) == (44, 49)
    assert data["next"][0].endswith(f'LlamaForCausalLM.from_pretrained("{out}")')


def test_grow_without_proof_says_so(llama: Path, tmp_path: Path) -> None:
    ran = isogrow("grow", llama, tmp_path / "out", "--ffn", "+5", "--no-verify")
    assert ran.code == 0
    assert "not verified: --no-verify was given\n" in ran.out
    assert f"\n next  isogrow verify {llama} {tmp_path / 'out'}\n" in ran.out


def test_grow_skips_what_memory_does_not_hold(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isogrow.verification.memory.available", lambda: 10_000)
    ran = isogrow("grow", llama, tmp_path / "out", "--ffn", "+5", "--json")
    assert ran.code == 0
    assert ran.json["verification"] is None
    assert "of memory for a layer of each in float64, and 1e-05 GB are free" in ran.json["skipped"]
    assert ran.json["next"][0].startswith("isogrow verify ")


@pytest.mark.slow
def test_an_output_that_fails_does_not_appear(llama: Path, tmp_path: Path) -> None:
    """Exact, but dead: the laws are told to allow it, and the proof does not."""
    file, out = tmp_path / "plan.json", tmp_path / "out"
    assert isogrow("plan", llama, "--ffn", "+4", "--out", file).code == 0
    data = json.loads(file.read_text())
    for slot in ("mlp.gate", "mlp.up"):
        data["steps"][0]["rewrites"][slot]["new"] = {"kind": "constant", "value": 0.0}
    write(file, data)
    refused = isogrow("grow", llama, out, "--plan", file)
    assert refused.code == 2
    assert "allow it with --allow-dead" in refused.err  # Python's name for it is left out
    ran = isogrow("grow", llama, out, "--plan", file, "--allow-dead")
    assert ran.code == 1
    assert "nothing was written" in ran.out
    assert " ✓  float64 " in ran.out
    assert ran.err.startswith("failed: liveness: ")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    kept = isogrow("grow", llama, out, "--plan", file, "--allow-dead", "--keep-failed", "--json")
    assert kept.code == 1 and kept.json["out"] is None
    assert kept.json["failed"] == str(out) + ".failed"
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json", "out.failed"}
    assert {path.name for path in (tmp_path / "out.failed").iterdir()} >= {"isogrow.json", "config.json"}
    assert not [path for path in (tmp_path / "out.failed").iterdir() if path.name.startswith(".")]
    for more in ((), ("--overwrite",)):
        again = isogrow("grow", llama, out, "--plan", file, "--allow-dead", "--keep-failed", *more)
        assert again.code == 2 and "out.failed exists, where an output that fails" in again.err
        assert again.err.endswith("would be kept: remove it, or leave out --keep-failed\n")
    shown = isogrow("verify", llama, tmp_path / "out.failed")
    assert shown.code == 1 and shown.err.startswith("failed: liveness: ")


def test_grow_keeps_what_is_there(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("grow", llama, out, "--no-verify", "--ffn")
    assert isogrow(*arguments, "+5").code == 0
    ran = isogrow(*arguments, "+6")
    assert ran.code == 2
    assert f"{out} exists" in ran.err
    assert config(out)["intermediate_size"] == 49
    assert isogrow(*arguments, "+6", "--overwrite").code == 0
    assert config(out)["intermediate_size"] == 50


def test_grow_writes_as_it_is_told(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--max-shard-size", "50kB", "--hash", "--dtype", "bfloat16", "--no-verify")
    assert isogrow("grow", llama, out, "--ffn", "x2", *options).code == 0
    shards = sorted(out.glob("*.safetensors"))
    assert [shard.name for shard in shards] == [
        f"model-0000{i}-of-0000{len(shards)}.safetensors" for i in range(1, len(shards) + 1)
    ]
    assert len(shards) > 1
    assert {str(t.dtype) for t in load_file(shards[0]).values()} == {"torch.bfloat16"}
    assert shards[0].name in json.loads((out / "isogrow.json").read_text())["sha256"]
    bad = isogrow("grow", llama, tmp_path / "b", "--ffn", "x2", "--max-shard-size", "lots")
    assert bad.code == 2
    assert "'lots' is no number of bytes: give one like 5GB" in bad.err


def test_names_are_printed_as_they_are(llama: Path, tmp_path: Path) -> None:
    """Brackets are no markup here."""
    folder = tmp_path / "[bold]x"
    shutil.copytree(llama, folder)
    assert " [bold]x\n" in isogrow("inspect", folder).out
    assert "[bold]" in isogrow("plan", folder, "--revision", "a", "--ffn", "x2").err


# ── verify ──


@pytest.mark.slow
def test_verify(llama: Path, wide: Path) -> None:
    ran = isogrow("verify", llama, wide)
    assert (ran.code, ran.err) == (0, "")
    assert " ✓  float64 " in ran.out
    assert "1e-12" in ran.out
    data = isogrow("verify", llama, wide, "--json").json
    assert data["passed"] is True
    assert {"float64", "kv cache", "padding left", "generate", "reload", "liveness"} <= {
        check["name"] for check in data["checks"]
    }


@pytest.fixture
def nudged(wide: Path, tmp_path: Path) -> Path:
    """The grown llama with one weight of layer 1 changed."""
    folder = tmp_path / "nudged"
    shutil.copytree(wide, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] += 0.01
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_verify_names_the_layer_that_differs(llama: Path, nudged: Path) -> None:
    ran = isogrow("verify", llama, nudged)
    assert ran.code == 1
    assert "✗" in ran.out
    assert ran.err.startswith("failed: ")
    assert "model.layers.1" in ran.err


def test_verify_fails_in_json(llama: Path, nudged: Path) -> None:
    ran = isogrow("verify", llama, nudged, "--json")
    assert ran.code == 1
    assert ran.json["passed"] is False
    assert [check["passed"] for check in ran.json["checks"]].count(False) >= 1
    assert "failed: " in ran.err


@pytest.mark.slow
def test_verify_needs_a_plan(llama: Path, wide: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(wide, bare)
    record = bare / "isogrow.json"
    plan_file = record.rename(tmp_path / "plan.json")
    ran = isogrow("verify", llama, bare)
    assert ran.code == 2
    assert "isogrow.json is missing" in ran.err
    assert isogrow("verify", llama, bare, "--plan", plan_file).code == 0


# ── demo ──


@pytest.mark.parametrize("passed", [True, False])
def test_demo_tells_how_it_ended(passed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo itself takes minutes, and is tested where it stands."""
    seen: list[Any] = []

    def run(folder: Path, say: Any, offline: bool) -> SimpleNamespace:
        seen.append((folder, offline))
        say("[1/2] growing")
        return SimpleNamespace(passed=passed, to_dict=lambda: {"passed": passed, "models": []})

    monkeypatch.setitem(sys.modules, "isogrow.demo", SimpleNamespace(run=run))
    ran = isogrow("demo", "--out", tmp_path, "--offline")
    assert ran.code == (0 if passed else 1)
    assert seen == [(tmp_path, True)]
    assert ran.out.startswith("[1/2] growing\n")
    assert ("✓ every check passed" if passed else "✗ a check failed") in ran.out
    told = isogrow("demo", "--out", tmp_path, "--json")
    assert told.json == {"passed": passed, "models": [], "folder": str(tmp_path)}
    assert told.err.startswith("[1/2] growing\n")


# ── where it prints ──


@pytest.fixture
def outputs(
    models: Mapping[str, Path], wide: Path, families_asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    monkeypatch.setattr("isogrow.cli.facts.known", lambda types: families_asked.json)
    llama = models["LlamaForCausalLM"]
    return [
        isogrow(*arguments).out
        for arguments in (
            ["families"],
            *(["inspect", model] for model in models.values()),
            ["plan", llama, *GROWTH],
            ["plan", models["BertForMaskedLM"], "--hidden", "x3", "--heads", "x3"],
            ["verify", llama, wide],
        )
    ]


@pytest.mark.slow
def test_answers_fit_eighty_columns(outputs: list[str]) -> None:
    for out in outputs:
        assert max(map(len, out.splitlines())) <= 80
        assert not any(line.endswith(" ") for line in out.splitlines())


def test_a_narrower_terminal_loses_no_word(llama: Path) -> None:
    out = isogrow("inspect", llama, columns=50).out
    assert max(map(len, out.splitlines())) <= 50
    assert "multiples" in out


def test_numbers_that_json_lacks() -> None:
    data = {"a": [float("nan"), 1.5], "b": (float("-inf"), None, True), 3: {"c": 2}}
    assert plain(data) == {"a": ["nan", 1.5], "b": ["-inf", None, True], "3": {"c": 2}}


@pytest.mark.slow
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=9))
def test_everything_becomes_json(value: Any) -> None:
    json.dumps(plain(value), allow_nan=False)


@pytest.mark.slow  # asks of all families
@pytest.mark.parametrize("verb", ["inspect", "families"])
def test_no_torch_where_no_weight_is_read(verb: str, llama: Path, families_asked: Asked) -> None:
    if verb == "families":
        code, loaded = families_asked.code, families_asked.loaded
    else:
        ran = python("-X", "importtime", "-m", "isogrow", verb, llama)
        code, loaded = ran.returncode, modules(ran.stderr)
    assert code == 0
    roots = {name.partition(".")[0] for name in loaded}
    assert "isogrow" in roots
    assert roots.isdisjoint({"torch", "transformers"})


def test_help_loads_no_rich() -> None:
    """It is what takes longest of what the verbs need, and plain help needs none of it."""
    loaded = modules(python("-X", "importtime", "-m", "isogrow", "--help").stderr)
    assert "isogrow.cli" in loaded
    assert loaded.isdisjoint({"rich.console", "isogrow.planning.planner", "isogrow.families"})


def test_a_terminal_without_arrows(llama: Path) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with contextlib.redirect_stdout(terminal):
        app(["plan", str(llama), "--ffn", "x2"], standalone_mode=False)
    assert b"MlpExpansion  ffn 44 ? 88" in cast(io.BytesIO, terminal.buffer).getvalue()


def all_of(terminal: int) -> bytes:
    """What a terminal was told, of which one read gives a part, cut anywhere."""
    found = b""
    while True:
        try:
            found += os.read(terminal, 1 << 20)
        except OSError:  # nobody writes to it any more
            return found


def unread(asked: list[str]) -> None:
    """A command whose answer goes into a pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as sys.stdout:
        app(asked)


@pytest.mark.parametrize("more", [["plan"], ["plan", "--json"], ["grow", "--no-verify"]], ids=" ".join)
def test_an_answer_that_nobody_reads_is_no_failure(llama: Path, more: list[str], tmp_path: Path) -> None:
    """Nor what it suggests to do next."""
    verb, *options = more
    where = [str(tmp_path / "out")] if verb == "grow" else []
    asked = [verb, str(llama), *where, "--ffn", "x2", *options]
    running = PROCESSES.Process(target=unread, args=(asked,))
    running.start()
    running.join()
    assert running.exitcode == 0


def test_words_that_nobody_reads_take_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as aside, (tmp_path / "said").open("w") as said:
        monkeypatch.setattr(sys, "stderr", aside)
        monkeypatch.setattr(sys, "stdout", said)
        say("on the way", aside=True)
        answer({"found": 1}, lambda data: str(data), as_json=True)
    assert json.loads((tmp_path / "said").read_text()) == {"found": 1}


def on_terminal(asked: list[str], terminal: str, said: Path) -> None:
    """The command of a process whose errors go to a terminal and whose output goes into a file."""
    os.environ |= {"TERM": "xterm", "COLUMNS": "80"}
    with said.open("w") as sys.stdout, open(terminal, "w", encoding="utf-8") as sys.stderr:
        app(asked, standalone_mode=False)


def test_a_bar_is_shown_on_a_terminal_alone(llama: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    asked = ["grow", str(llama), str(tmp_path / "out"), "--ffn", "x2", "--no-verify", "--json"]
    running = PROCESSES.Process(target=on_terminal, args=(asked, os.ttyname(follower), tmp_path / "said"))
    running.start()
    running.join()
    os.close(follower)
    shown = all_of(leader).decode()
    os.close(leader)
    assert running.exitcode == 0, shown
    assert "growing" in shown
    assert json.loads((tmp_path / "said").read_text())["out"] == str(tmp_path / "out")


@pytest.mark.parametrize(
    "module",
    [
        *("isogrow.plans.expansions", "isogrow.plans.boxes", "isogrow.numbers.filling"),
        *("isogrow.cli.voice", "isogrow.cli.tables.axes", "isogrow.cli.tables.blocks"),
    ],
)
def test_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed
