"""How each engine loads a folder and gives logits: the one place that imports it, in an environment of its
own.

`PINNED` is what such an environment holds beside isogrow, torch and transformers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

PINNED: Mapping[str, tuple[str, ...]] = {
    "ctranslate2": ("ctranslate2==4.8.5",),
    "mlx": ("mlx==0.32.4", "mlx-cpu==0.32.4", "mlx-lm==0.32.2"),
    "transformers": (),
}
Logits = Callable[[Path, np.ndarray, Path], np.ndarray]


def ctranslate2(folder: Path, ids: np.ndarray, scratch: Path) -> np.ndarray:
    """Converted, and run on a CPU in float32."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder), low_cpu_mem_usage=False).convert(str(scratch), force=True)
    if _has_encoder(folder):
        words = [[f"t{i}" for i in row] for row in ids.tolist()]
        translator = ctranslate2.Translator(str(scratch), device="cpu", compute_type="float32")
        return np.array([scored.log_probs for scored in translator.score_batch(words, words)])
    generator = ctranslate2.Generator(str(scratch), device="cpu", compute_type="float32")
    return np.array(generator.forward_batch(ids.tolist()))


def mlx(folder: Path, ids: np.ndarray, scratch: Path) -> np.ndarray:
    """Loaded as it is."""
    import mlx.core as mx
    from mlx_lm.utils import load_model

    model: Any = load_model(folder)[0]
    return np.array(model(mx.array(ids)).astype(mx.float32))


def transformers(folder: Path, ids: np.ndarray, scratch: Path) -> np.ndarray:
    """The model's own class."""
    import torch
    import transformers as tf

    given = torch.from_numpy(ids)
    with torch.no_grad():
        if not _has_encoder(folder):
            model = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            return model(given).logits.numpy()
        both = tf.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
        ended = torch.cat([given, torch.zeros_like(given[:, :1])], 1)  # both ends are token 0
        begun = torch.cat([torch.zeros_like(given[:, :1]), given], 1)
        logits = both(input_ids=ended, decoder_input_ids=begun).logits.log_softmax(-1)
        return logits.gather(-1, ended[..., None])[..., 0].numpy()


def _has_encoder(folder: Path) -> bool:
    return bool(json.loads((folder / "config.json").read_text()).get("is_encoder_decoder"))


RUNNERS: Mapping[str, Logits] = {"ctranslate2": ctranslate2, "mlx": mlx, "transformers": transformers}
