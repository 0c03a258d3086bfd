"""Running the command line in this process, on tiny checkpoints that nobody writes to."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tiny

from isogrow.cli import app

CLASSES = ("LlamaForCausalLM", "Qwen3ForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM")
_HOME = tempfile.TemporaryDirectory()
GROWTH = ("--hidden", "30", "--ffn", "x2", "--kv-heads", "+1", "--layers", "+2", "--layers-at", "1,3")


@dataclass(frozen=True)
class Ran:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def isogrow(*arguments: object, columns: int = 80) -> Ran:
    """Run one command; no stream of it is a terminal."""
    out, err = io.StringIO(), io.StringIO()
    plain = {name: value for name, value in os.environ.items() if "COLOR" not in name}
    with (
        mock.patch.dict(os.environ, plain | {"COLUMNS": str(columns)}, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        app([str(argument) for argument in arguments], prog_name="isogrow")
    return Ran(int(end.value.code or 0), out.getvalue(), err.getvalue())


@cache
def checkpoints() -> Mapping[str, Path]:
    """One tiny checkpoint of each class, kept as long as the process."""
    home = Path(_HOME.name)
    for name in CLASSES:
        tiny.model(name).save_pretrained(home / name)
    return {name: home / name for name in CLASSES}


@cache
def grown() -> Path:
    """The llama with a wider ffn, not verified."""
    out = Path(_HOME.name) / "wide"
    assert isogrow("grow", checkpoints()["LlamaForCausalLM"], out, "--ffn", "+9", "--no-verify").code == 0
    return out


def config(model: Path, **changes: Any) -> dict[str, Any]:
    """A checkpoint's config.json, changed."""
    return json.loads((model / "config.json").read_text()) | changes


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path
