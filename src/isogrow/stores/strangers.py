"""What is no model that grows as it is, though a loader takes it for one or a part of one: adapters, GGUF."""

from __future__ import annotations

from pathlib import Path

from isogrow.errors import CheckpointError

# What PEFT saves, and transformers loads with the model beside it.
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def check_no_gguf(model: Path) -> None:
    """A GGUF file has its tensors under other names and in other orders (rotary channels among them), and no
    place for some keys of a config; transformers undoes that for the types that it knows."""
    inside = sorted(model.glob("*.gguf")) if model.is_dir() else []
    others = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.distcp")
    alone = bool(inside) and not any(found for kind in others for found in model.rglob(kind))
    if alone or (model.is_file() and model.suffix == ".gguf"):
        file = inside[0] if alone else model
        raise CheckpointError(
            f"{file.name} is a GGUF file, which is made from a model and is not grown itself: grow the model"
            " that it was made from; or, where the file is all there is, load it by"
            f' AutoModelForCausalLM.from_pretrained("{file.parent}", gguf_file="{file.name}",'
            " quantization_config=GgufConfig(dequantize=True)), save that by save_pretrained, and grow that"
        )


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
