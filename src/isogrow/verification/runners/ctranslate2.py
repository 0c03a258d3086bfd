"""CTranslate2: converted, and run in float32."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from isogrow.verification.runners.runner import Ids, Logits, Run, Runner, has_encoder


def load(folder: Path, scratch: Path) -> Run:
    """The model of a folder, converted by CTranslate2's own converter."""
    engine: Any = import_module("ctranslate2")
    converters: Any = import_module("ctranslate2.converters")
    converters.TransformersConverter(str(folder), low_cpu_mem_usage=False).convert(str(scratch), force=True)
    how = dict(device="cpu", compute_type="float32")
    if has_encoder(folder):
        return _scored(folder, engine.Translator(str(scratch), **how))
    generator = engine.Generator(str(scratch), **how)
    return lambda ids: np.array(generator.forward_batch(ids.tolist()))


def _scored(folder: Path, translator: Any) -> Run:
    """It scores outputs that are given as words."""
    import transformers

    words: Any = transformers.AutoTokenizer.from_pretrained(folder)

    def run(ids: Ids) -> Logits:
        texts = [words.convert_ids_to_tokens(row) for row in ids.tolist()]
        return np.array([scored.log_probs for scored in translator.score_batch(texts, texts)])

    return run


RUNNERS = (Runner("ctranslate2", ("ctranslate2",), load),)
