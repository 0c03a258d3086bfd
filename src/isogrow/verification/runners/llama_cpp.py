"""llama.cpp by llama-cpp-python: converted to GGUF in float32 by llama.cpp's own script, and run in float32.

The script is in llama.cpp's source, and in no package that is installed. `LLAMA_CPP_SOURCE` names the folder
that holds it; the source archive of llama-cpp-python has the one that belongs to its version.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from isogrow.errors import EngineError
from isogrow.verification.runners.runner import Ids, Logits, Run, Runner, config_of, has_encoder

SOURCE, SCRIPT = "LLAMA_CPP_SOURCE", "convert_hf_to_gguf"
ULP = 2.0**-22  # of float32, at the most


def load(folder: Path, scratch: Path) -> Run:
    """It runs row by row, to the same bits in any batch, so another batch would show no noise of it. A row
    alone is run with every weight one unit in the last place of float32 larger instead: what the engine
    rounds itself (its GELU is a table in float16) shows in that."""
    if has_encoder(folder):
        raise EngineError("its encoders with decoders are not run from here")
    model = cache(partial(_model, folder, scratch))
    return lambda ids: np.stack([_row(model(0.0 if len(ids) > 1 else ULP), row) for row in ids])


def _model(folder: Path, scratch: Path, more: float) -> Any:
    file = scratch / f"{more}.gguf"
    converted(folder, file, more=more)
    engine: Any = import_module("llama_cpp")
    how = dict(logits_all=True, verbose=False, n_gpu_layers=0, n_ctx=512, n_batch=512, n_ubatch=512)
    float32 = dict(type_k=engine.GGML_TYPE_F32, type_v=engine.GGML_TYPE_F32, flash_attn=False)
    return engine.Llama(str(file), **how, **float32)


def _row(model: Any, row: Ids) -> Logits:
    """The logits of one row: those after each of its tokens."""
    model.reset()
    model.eval(row.tolist())
    return np.array(model.scores[: len(row)], dtype=np.float32)


def converted(folder: Path, file: Path, kind: str = "f32", more: float = 0.0) -> None:
    """Have llama.cpp's script make a GGUF file of a folder, in this type, as it is called in a shell; every
    weight this much larger, relative.

    The vocabulary is left out: token ids are compared, and no texts, so a tokenizer that the script does not
    know by heart, that is missing or of another size than the embeddings, stands in nobody's way.
    """
    with mock.patch.object(sys, "path", [str(source()), *sys.path]):
        script: Any = import_module(SCRIPT)
    known, said = script.get_model_class, _Said()

    def wordless(*given: Any, **how: Any) -> Any:
        return changed(known(*given, **how), more)

    alone = numbered(folder, file.with_suffix(".model"))
    arguments = [SCRIPT, str(alone), "--outfile", str(file), "--outtype", kind]
    logging.getLogger().addHandler(said)
    try:
        with (
            mock.patch.object(sys, "argv", arguments),
            mock.patch.object(script, "get_model_class", wordless),
        ):
            script.main()
    except SystemExit as ended:
        raise RuntimeError(said.last or f"its converter ended with {ended.code}") from ended
    finally:
        logging.getLogger().removeHandler(said)


def numbered(folder: Path, place: Path) -> Path:
    """The same folder, linked, with as many tokens as there are embeddings for a tokenizer: of some models
    the script cuts the embeddings to what it counts there."""
    place.mkdir()
    for path in folder.iterdir():
        if not path.name.startswith("token"):
            (place / path.name).symlink_to(path.resolve())
    said = config_of(folder)
    inner = [said, *(each for each in said.values() if isinstance(each, dict))]
    count = next((each["vocab_size"] for each in inner if "vocab_size" in each), 0)
    (place / "tokenizer.json").write_text(
        json.dumps({"model": {"vocab": [""] * count}, "added_tokens": []}), encoding="utf-8"
    )
    return place


def changed(kind: Any, more: float) -> Any:
    """A converter's class that writes how many tokens there are, and none of them, and larger weights."""

    def set_vocab(self: Any) -> None:
        self.gguf_writer.add_tokenizer_model("none")
        self.gguf_writer.add_vocab_size(self.hparams["vocab_size"])

    def modify_tensors(self: Any, data_torch: Any, name: str, bid: int | None) -> Any:
        return kind.modify_tensors(self, data_torch * (1 + more) if more else data_torch, name, bid)

    own = {"set_vocab": set_vocab, "modify_tensors": modify_tensors, "model_arch": kind.model_arch}
    return type(kind.__name__, (kind,), own)


class _Said(logging.Handler):
    """The last error that the script logged, which says why it ends."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.last = record.getMessage()


def source() -> Path:
    """The folder of llama.cpp's source. Raises `EngineError` where nothing says where it is."""
    named = os.environ.get(SOURCE, "")
    folder = Path(named).expanduser()
    if not named or not (folder / f"{SCRIPT}.py").is_file():
        raise EngineError(
            f"llama.cpp's converter is missing ({SOURCE} is {named or 'not set'}): set {SOURCE} to the folder"
            f" of llama.cpp's source, which holds {SCRIPT}.py; llama-cpp-python's source archive has it as"
            " vendor/llama.cpp: pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36"
        )
    return folder


RUNNERS = (Runner("llama.cpp", ("llama_cpp",), load, source),)
