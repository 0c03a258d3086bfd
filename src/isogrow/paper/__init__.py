"""The architecture of arXiv 2308.06103, Eqs 1–5; read `model.py` beside the paper."""

from __future__ import annotations

from isogrow.paper.building import build
from isogrow.paper.model import (
    Config,
    HeadConfig,
    LayerConfig,
    Transformer,
    attention,
    init_,
    norm,
)

__all__ = ["Config", "HeadConfig", "LayerConfig", "Transformer", "attention", "build", "init_", "norm"]
