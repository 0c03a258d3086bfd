"""The class is asked by a process of its own: the same answer and refusals, before there is an output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command import checkpoints

from isogrow.errors import SizeError
from isogrow.stores import asking


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return json.loads((checkpoints()["LlamaForCausalLM"] / "config.json").read_text())


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if transformers were not loaded here."""
    monkeypatch.delitem(sys.modules, "transformers", raising=False)


@pytest.mark.slow
def test_a_process_says_what_this_one_says(config: dict[str, Any]) -> None:
    with asking._process() as ask:
        question = ask(config)
        beside = question.answer()
        assert question.ready()
    assert beside == asking.here(config).answer()
    assert beside is not None and beside.opener == "LlamaForCausalLM"
    with asking._process() as ask:
        assert ask({"model_type": "my_own"}).answer() is None


@pytest.mark.slow
def test_a_process_refuses_as_this_one_does(config: dict[str, Any]) -> None:
    wrong = {**config, "num_attention_heads": 7}
    with pytest.raises(SizeError) as here:
        asking.here(wrong).answer()
    with asking._process() as ask, pytest.raises(SizeError) as beside:
        ask(wrong).answer()
    assert str(beside.value) == str(here.value)


def test_a_process_that_dies_is_done_without(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with asking._process() as ask:
        found = ask(config).answer()
    assert found == asking.here(config).answer()


def test_no_process_outlives_the_question(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    with asking._process() as ask:
        question = ask(config)
        assert not question.ready()
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            time.sleep(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


REFUSED = """
import sys, isogrow
from isogrow.stores import loadable
model, out = sys.argv[1:]
try:
    isogrow.grow_checkpoint(model, out, ffn=50)
except isogrow.IsogrowError as error:
    print(error)
print("transformers" in sys.modules)
"""


@pytest.mark.slow
def test_a_refusal_that_comes_late_leaves_nothing(tmp_path: Path) -> None:
    model = tmp_path / "model"
    source = checkpoints()["LlamaForCausalLM"]
    model.mkdir()
    for file in source.iterdir():
        if file.is_file():
            (model / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_act": 3}))
    run = [sys.executable, "-c", REFUSED, model, tmp_path / "out"]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "nothing was written" in said and said.endswith("False\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


FORKED = """
import json, os, signal, sys, threading
from isogrow.errors import SizeError
from isogrow.stores import asking
config = json.loads(sys.argv[1])
assert asking._may_fork()
with asking.asking(beside=True) as ask:
    question = ask(config)
    beside = question.answer()
    assert question.ready() and "torch" in sys.modules and "transformers" not in sys.modules
assert not asking._may_fork(), "torch is loaded"
with asking._fork() as ask:
    try:
        ask({**config, "num_attention_heads": 7}).answer()
    except SizeError as error:
        refused = str(error)
with asking._fork() as ask:
    assert ask({"model_type": "my_own"}).answer() is None
with asking._fork() as ask:
    question = ask(config)
    (child,) = map(int, open(f"/proc/self/task/{os.getpid()}/children").read().split())
    os.kill(child, signal.SIGKILL)
    assert question.answer() == beside == asking.here(config).answer(), "asked here instead"
with asking._fork() as ask:
    ask(config)
assert not open(f"/proc/self/task/{os.getpid()}/children").read(), "none outlives its question"
try:
    asking.here({**config, "num_attention_heads": 7}).answer()
except SizeError as error:
    assert str(error) == refused
del sys.modules["torch"]
assert asking._may_fork()
threading.Thread(target=threading.Event().wait, daemon=True).start()
assert not asking._may_fork(), "a thread would be missing from the copy"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a new process is started")
def test_a_copy_of_this_process_says_what_this_one_says(config: dict[str, Any]) -> None:
    done = subprocess.run([sys.executable, "-c", FORKED, json.dumps(config)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
