"""Texts with sound in them, for models that put a tower's features of it among the embeddings."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from isogrow.verification.pictures import among
from isogrow.verification.runs import Batch, runs

FEATURES, PROJECTOR = "input_features", "multi_modal_projector"
MASKS = ("feature_attention_mask", "input_features_mask")  # which frames there are, for classes that ask


def sounded(model: nn.Module, ids: Tensor, seed: int = 4) -> Batch | None:
    """The same texts, each with a random spectrum as long as the tower takes: inputs by name, `ids` (rows,
    tokens) with as many of the sound's token as the projector gives features. None for a model that takes no
    sound with its texts, or not in this plain way."""
    config: Any = getattr(model, "config", None)
    token, audio = getattr(config, "audio_token_id", None), getattr(config, "audio_config", None)
    projector = getattr(getattr(model, "base_model", model), PROJECTOR, None)
    taken = inspect.signature(model.forward).parameters
    if not (isinstance(token, int) and audio and projector is not None and FEATURES in taken):
        return None
    bins, frames = getattr(audio, "num_mel_bins", 0), 2 * getattr(audio, "max_source_positions", 0)
    if not (bins and frames):
        return None
    rows = len(ids)
    spectra = torch.randn(rows, bins, frames, generator=torch.Generator().manual_seed(seed))
    masks = {name: torch.ones(rows, frames, dtype=torch.long) for name in MASKS if name in taken}
    heard = {FEATURES: spectra, **masks}
    count = _count(model, projector, {"input_ids": among(ids, token, 2), **heard}) // rows
    given = {"input_ids": among(ids, token, count), **heard}
    return given if count and runs(model, given) else None


def _count(model: nn.Module, projector: nn.Module, batch: Batch) -> int:
    """How many vectors the projector gives: of a run that may end behind it, where there are not as many
    tokens."""
    found: list[int] = []

    def note(_module: nn.Module, _given: Any, made: Tensor) -> None:
        found.append(made.numel() // made.shape[-1])

    hook = projector.register_forward_hook(note)
    try:
        runs(model, batch)
    finally:
        hook.remove()
    return found[0] if found else 0
