"""onnxruntime-genai: built by its model builder in float32, and asked for logits token by token."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from isogrow.verification.runners.runner import Ids, Logits, Run, Runner, commanded


def load(folder: Path, scratch: Path) -> Run:
    """The model of a folder, built by ONNX Runtime GenAI's own builder."""
    engine: Any = import_module("onnxruntime_genai")
    built, cache = str(scratch / "built"), str(scratch / "cache")
    where = ("-i", str(folder), "-o", built, "-c", cache)
    commanded("-m", "onnxruntime_genai.models.builder", *where, "-p", "fp32", "-e", "cpu")
    model = engine.Model(built)

    def run(ids: Ids) -> Logits:
        return np.stack([_row(engine, model, row) for row in ids])

    return run


def _row(engine: Any, model: Any, row: Ids) -> Logits:
    """The logits of one row: those after each of its tokens."""
    asked = engine.GeneratorParams(model)
    asked.set_search_options(max_length=len(row) + 1, batch_size=1)
    generator = engine.Generator(model, asked)
    found: list[Logits] = []
    for token in row.tolist():
        generator.append_tokens(np.array([[token]], dtype=np.int32))
        found.append(np.array(generator.get_logits()).reshape(-1))
    return np.stack(found)


RUNNERS = (Runner("onnxruntime-genai", ("onnxruntime_genai", "onnx_ir"), load),)
