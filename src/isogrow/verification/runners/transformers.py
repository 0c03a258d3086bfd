"""transformers itself, in float32: what other engines are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from isogrow.quiet import quiet
from isogrow.verification.float64 import float64, rebuilt
from isogrow.verification.runners.runner import Ids, Logits, Run, Runner, config_of, has_encoder


def load(folder: Path, scratch: Path) -> Run:
    """The model of a folder, by plain transformers."""
    model = model_of(folder, torch.float32)
    return lambda ids: computed(model, ids)


def model_of(folder: Path, dtype: torch.dtype) -> Any:
    """The model of a folder in the class that has its head."""
    with torch.random.fork_rng(devices=[]), quiet():
        model: Any = _kind(folder).from_pretrained(folder, dtype=dtype).eval()
    model.config._experts_implementation = "eager"  # the other kernel takes widths of whole 16 bytes alone
    return model


def computed(model: Any, ids: Ids) -> Logits:
    """Its outputs in its own dtype."""
    with torch.no_grad():
        return outputs(model, torch.from_numpy(ids)).float().numpy()


def exact(model: Any, ids: Ids) -> Logits:
    """Its outputs in float64 throughout."""
    with float64(), torch.no_grad():
        return outputs(rebuilt(model), torch.from_numpy(ids)).numpy()


def outputs(model: Any, ids: Tensor, **given: Tensor) -> Tensor:
    """Logits; of an encoder-decoder the log probabilities of the ids that it reads, and an end, as output."""
    if not model.config.is_encoder_decoder:
        return model(input_ids=ids, **given).logits
    end, start = model.config.eos_token_id, model.config.decoder_start_token_id
    ended = torch.cat([ids, torch.full_like(ids[:, :1], end)], 1)
    begun = torch.cat([torch.full_like(ids[:, :1], start), ids], 1)
    found = model(input_ids=ended, decoder_input_ids=begun).logits.log_softmax(-1)
    return found.gather(-1, ended[..., None])[..., 0]


def _kind(folder: Path) -> Any:
    if has_encoder(folder):
        return transformers.AutoModelForSeq2SeqLM
    named = str((config_of(folder).get("architectures") or [""])[0])
    return transformers.AutoModelForMaskedLM if "MaskedLM" in named else transformers.AutoModelForCausalLM


RUNNERS = (Runner("transformers", ("transformers",), load),)
