"""A checkpoint opened: its config and headers, seen through its family's layout. No weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isogrow.errors import CheckpointError
from isogrow.families import layout_of
from isogrow.layouts.config import Config
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.matching import match
from isogrow.stores.sources import Checkpoint, open_checkpoint


@dataclass(frozen=True)
class Opened:
    """A checkpoint, and what it is."""

    checkpoint: Checkpoint
    anatomy: Anatomy


def opened(
    model: str | Path | Opened, revision: str | None = None, config: Config | str | Path | None = None
) -> Opened:
    """The model in this folder or under this Hub id; what is open already is handed back. `config` is that of
    a folder that has none.

    Raises `CheckpointError` for what is no Hugging Face model's folder, `FamilyError` for a model type that
    no layout describes.
    """
    if isinstance(model, Opened):
        return model
    return seen(open_checkpoint(model, revision, config))


def seen(checkpoint: Checkpoint) -> Opened:
    """An open checkpoint through the layout of its model type. Raises as `opened` does."""
    if checkpoint.config.get("model_type") is None:
        raise CheckpointError(
            f"config.json of {checkpoint.name} states no model_type: it is no Hugging Face model's"
        )
    return Opened(checkpoint, match(layout_of(checkpoint.config), checkpoint.config, checkpoint.headers))
