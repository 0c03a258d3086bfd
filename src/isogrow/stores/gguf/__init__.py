"""GGUF files as checkpoints: `architectures` says what they hold, `file` reads one, `config` and `tensors`
are what transformers would have of it.

llama.cpp's own converter makes such files from Hugging Face models, and loses some of what those say. What
is read here is what is in the file, exactly, and in full: a tensor or a key that no table knows is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isogrow.errors import CheckpointError
from isogrow.plans.anatomy import Header
from isogrow.stores.distributed import folder_of
from isogrow.stores.dtypes import torch_name
from isogrow.stores.gguf.architectures import ARCHITECTURES
from isogrow.stores.gguf.config import config_of
from isogrow.stores.gguf.file import ENDING, begins, read_file
from isogrow.stores.gguf.tensors import dropped, dtype_of, tensors_of
from isogrow.stores.hub import WEIGHTS
from isogrow.stores.laid import Laid
from isogrow.stores.strangers import ADAPTER

OTHERS = (*WEIGHTS, *ADAPTER, "*.safetensors", "pytorch_model*.bin")  # what a folder is opened for instead


@dataclass(frozen=True)
class Held:
    """A GGUF file as a model of transformers."""

    config: Mapping[str, Any]
    headers: Mapping[str, Header]
    laid: Mapping[str, tuple[Laid, ...]]


def held_in(path: Path) -> Held:
    """The model in a GGUF file: its config, and where its tensors lie.

    Raises `CheckpointError` for a file that is quantized or damaged, or that holds anything that is not known
    to be read exactly.
    """
    file = read_file(path)
    known = ARCHITECTURES.get(file.architecture)
    if known is None:
        raise CheckpointError(
            f"{path.name} holds a model of architecture {file.architecture!r}, and of GGUF files isogrow"
            f" reads {', '.join(ARCHITECTURES)}: give the model that it was made from"
        )
    if "token_embd.weight" not in file.entries:
        raise CheckpointError(f"{path.name} has no token_embd.weight: it holds no language model")
    word = dtype_of(file, known)
    tied = "output.weight" not in file.entries.keys() - dropped(file, known)
    config = config_of(file, known, tied, torch_name(word))
    found = list(tensors_of(file, known, config, word))
    headers = {each.name: header for each, header in found}
    return Held(config, headers, {each.name: each.laid for each, _ in found})


def config_in(model: Path) -> Mapping[str, Any] | None:
    """The config of the GGUF file that is meant; None where there is none."""
    found = gguf_of(model)
    return None if found is None else held_in(found).config


def gguf_of(model: Path) -> Path | None:
    """The GGUF file that is meant: this one, whatever it is called, or the only one of a folder without other
    weights.

    Raises `CheckpointError` where there are several, or none of the name.
    """
    if model.is_file():
        return model if _named(model) or begins(model) else None
    if not model.is_dir():
        if _named(model):
            raise CheckpointError(f"there is no file {model}: correct its name, or fetch it")
        return None
    inside = sorted(path for path in model.iterdir() if _named(path) and path.is_file())
    others = (found for kind in OTHERS for found in model.glob(kind))
    if not inside or next(others, None) is not None or folder_of(model) is not None:
        return None
    if len(inside) > 1:
        raise CheckpointError(
            f"{model} holds {len(inside)} GGUF files ({', '.join(path.name for path in inside[:3])}): give"
            " one of them by its name"
        )
    return inside[0]


def _named(path: Path) -> bool:
    return path.suffix.lower() == ENDING
