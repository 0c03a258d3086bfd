"""mlx-lm: loaded as it is, in the dtype in which it is stored."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from isogrow.verification.runners.runner import Run, Runner


def load(folder: Path, scratch: Path) -> Run:
    """The model of a folder, by mlx-lm."""
    array: Any = import_module("mlx.core")
    models: Any = import_module("mlx_lm.utils")
    model = models.load_model(folder)[0]
    return lambda ids: np.array(model(array.array(ids)).astype(array.float32))


RUNNERS = (Runner("mlx", ("mlx", "mlx_lm"), load),)
