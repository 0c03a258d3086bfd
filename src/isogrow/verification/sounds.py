"""Texts with sound in them, for models that put a tower's features of it among the embeddings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from isogrow.verification.pictures import KINDS, among, features, pictured
from isogrow.verification.runs import Batch, runs
from isogrow.verification.signals import waves, windows

HEARS, PROJECTOR, TOWER = "get_audio_features", "multi_modal_projector", "audio_tower"
CONFIGS = ("audio_config", "encoder_config")
WAVES, SPECTRA = "input_values", "input_features"
MASKS = ("feature_attention_mask", "input_features_mask")  # which frames there are, for classes that ask
BINS = ("input_size", "num_mel_bins", "input_dim")  # by which a config says how wide a spectrum is


class _Enough(RuntimeError):
    """Ends a run that has come far enough; `runs` takes it for a fault."""


def shown(model: nn.Module, ids: Tensor) -> Batch | None:
    """The same texts with images, sound or both in them; None for a model for which neither can be made."""
    seen = pictured(model, ids)
    return sounded(model, seen or {"input_ids": ids}) or seen


def sounded(model: nn.Module, batch: Batch, seed: int = 4) -> Batch | None:
    """The same texts, each with random sound as long as the tower takes: inputs by name, `input_ids` (rows,
    tokens) with as many of the sound's token as the tower gives features, beside what else there is in the
    batch. None for a model that takes no sound with its texts, or not in this plain way."""
    config: Any = getattr(model, "config", None)
    token = getattr(config, "audio_token_id", None)
    audio = next((getattr(config, name) for name in CONFIGS if hasattr(config, name)), None)
    if not isinstance(token, int) or audio is None:
        return None
    taken, ids = inspect.signature(model.forward).parameters, batch["input_ids"]
    rows = len(ids)
    for heard in _sounds(audio, rows, seed, tuple(taken)):
        trial = {**batch, "input_ids": among(config, ids, token, 2), **heard}
        count = _count(model, trial, heard) // rows
        if not count:
            continue
        given = {**batch, "input_ids": among(config, ids, token, count), **heard}
        for name in batch.keys() & KINDS:
            given[name] = torch.cat([batch[name].new_zeros(rows, count), batch[name]], dim=1)
        if runs(model, given):
            return given
    return None


def _sounds(audio: Any, rows: int, seed: int, taken: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """The same random sounds in the ways in which classes take them: as waves, as spectra of bins by frames
    or of frames by bins; with a mask, where a class takes one, and without."""
    generator = torch.Generator().manual_seed(seed)
    if WAVES in taken and (shape := waves(audio)):
        for each in (shape, (1, *shape)):
            yield {WAVES: torch.randn(rows, *each, generator=generator)}
    if SPECTRA not in taken:
        return
    bins = next((getattr(audio, name) for name in BINS if hasattr(audio, name)), 0)
    for frames in windows(audio) if bins else ():
        for shape in ((bins, frames), (frames, bins)):
            spectra = {SPECTRA: torch.randn(rows, *shape, generator=generator)}
            masks = {name: torch.ones(rows, frames, dtype=torch.long) for name in MASKS if name in taken}
            yield from (spectra | masks, spectra) if masks else (spectra,)


def _count(model: nn.Module, batch: Batch, heard: Batch) -> int:
    """How many of the residual's vectors the sounds become: as the model's own method says, or else as its
    projector or its tower makes in a run that ends there, since there are not as many tokens."""
    base: Any = getattr(model, "base_model", model)
    if hasattr(base, HEARS):
        taken = inspect.signature(getattr(base, HEARS)).parameters.values()
        needed = {
            each.name for each in taken if each.default is each.empty and each.kind is not each.VAR_KEYWORD
        }
        if count := features(base, HEARS, heard, needed - heard.keys()):
            return count
    parts = {
        name: part for name in (TOWER, PROJECTOR) if isinstance(part := getattr(base, name, None), nn.Module)
    }
    found: dict[str, int] = {}
    hooks = [
        part.register_forward_hook(partial(_note, found, [*parts][-1], name)) for name, part in parts.items()
    ]
    try:
        runs(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found.get(PROJECTOR, found.get(TOWER, 0))


def _note(found: dict[str, int], last: str, name: str, _module: nn.Module, _given: Any, made: Any) -> None:
    states: Any = getattr(made, "last_hidden_state", made)
    if isinstance(states, Tensor):
        found[name] = states.numel() // states.shape[-1]
    if name == last:
        raise _Enough
