"""What is no model that grows as it is, though a loader takes it for a part of one: adapters."""

from __future__ import annotations

from pathlib import Path

from isogrow.errors import CheckpointError

# What PEFT saves, and transformers loads with the model beside it.
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def check_no_adapter(folder: Path, name: str) -> None:
    """transformers loads an adapter that lies beside a model with it (where peft is installed)."""
    found = next((each for each in ADAPTER if (folder / each).is_file()), None)
    if found is not None:
        alone = not (folder / "config.json").is_file()
        first = (
            "grow its base" if alone else "move the adapter's files to a folder of their own, grow the model"
        )
        raise CheckpointError(
            f"{name} holds an adapter ({found}), which does not grow as a model does: {first}, and then the"
            " adapter with it: isogrow grow ADAPTER OUT --base GROWN (isogrow.grow_adapter); or merge the two"
            " by merge_and_unload(), and grow that"
        )
