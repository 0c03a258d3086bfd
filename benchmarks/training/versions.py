"""What computed a row."""

from __future__ import annotations

import platform

import torch
import transformers

from benchmarks.training.scale import scale


def versions() -> dict[str, str]:
    """Versions, and a device by its name."""
    known = dict(
        python=platform.python_version(), torch=torch.__version__, transformers=transformers.__version__
    )
    return known if scale().device == "cpu" else {**known, "device": torch.cuda.get_device_name()}
