"""What running an engine is written in: how it is known to be there, and how it reads a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Ids = np.ndarray[Any, np.dtype[np.int64]]
Logits = np.ndarray[Any, np.dtype[np.floating[Any]]]
Run = Callable[[Ids], Logits]
Load = Callable[[Path, Path], Run]


@dataclass(frozen=True)
class Runner:
    """How one engine reads a model's folder and runs it, on the CPU, in float32 if there is a choice.

    `load(folder, scratch)` converts, in the empty folder `scratch` if it writes anything, and gives what maps
    token ids (rows, tokens) to logits (rows, tokens, vocabulary); of an encoder-decoder, to the log
    probabilities (rows, tokens + 1) of the same ids, and of an end, as its output. It raises what the engine
    raises. `modules` are what it imports, when it runs; `ready` raises `EngineError` where something else
    that it needs is not there.
    """

    engine: str
    modules: tuple[str, ...]
    load: Load
    ready: Callable[[], object] = lambda: None


def config_of(folder: Path) -> Mapping[str, Any]:
    """What a folder's config.json says."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def has_encoder(folder: Path) -> bool:
    """Whether a folder holds an encoder and a decoder."""
    return bool(config_of(folder).get("is_encoder_decoder"))


def commanded(*arguments: str) -> None:
    """Run a module of Python's, as an engine's converter is meant to be run; raises what it says last."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise RuntimeError(f"{said} (exit code {done.returncode})")
