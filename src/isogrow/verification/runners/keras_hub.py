"""keras-hub on keras' torch backend: loaded from the folder in float32."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from isogrow.verification.runners.runner import Ids, Logits, Run, Runner


def load(folder: Path, scratch: Path) -> Run:
    """The model of a folder, by KerasHub on torch."""
    os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported
    hub: Any = import_module("keras_hub")
    model = hub.models.CausalLM.from_preset(str(folder), preprocessor=None, dtype="float32")

    def run(ids: Ids) -> Logits:
        given = {"token_ids": ids.astype("int32"), "padding_mask": np.ones_like(ids, dtype="int32")}
        return model.predict_on_batch(given)

    return run


RUNNERS = (Runner("keras-hub", ("keras", "keras_hub"), load),)
