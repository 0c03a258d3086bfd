"""What is fetched of a model on the Hugging Face Hub: its config and its weights in one format."""

from __future__ import annotations

from pathlib import Path

from isogrow.errors import CheckpointError

# In the order in which transformers looks for them.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
OTHER_FRAMEWORKS = (
    "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.onnx_data", "*.gguf", "*.tflite", "*.pt", "*.pth",
    "*.ckpt", "*.mlmodel", "onnx/*", "openvino/*", "coreml/*", "original/*", "consolidated*",
)  # fmt: skip
# What huggingface_hub 1 means by its errors, whose own words are about its cache and its settings.
UNFETCHED = {
    "LocalEntryNotFoundError": "there is no network, and no copy of it here",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and there is no copy of it here",
    "RepositoryNotFoundError": "the Hub has no such model, or it is private",
    "GatedRepoError": "its owner asks for an agreement first: log in with `hf auth login`",
    "RevisionNotFoundError": "the model has no such revision",
}


def fetched(model: str, revision: str | None) -> Path:
    """The snapshot of a Hub id: its `.safetensors`, else its `.bin`. Raises `CheckpointError`."""
    import huggingface_hub

    def fetch(ignore: tuple[str, ...], allow: tuple[str, ...] | None = None) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                model,
                revision=revision,
                allow_patterns=list(allow) if allow else None,
                ignore_patterns=list(ignore),
            )
        )

    try:
        folder = fetch((*OTHER_FRAMEWORKS, "*.bin", "*.bin.index.json"))
        if not any((folder / weights).exists() for weights in WEIGHTS[:2]):
            folder = fetch((), ("pytorch_model*.bin", "pytorch_model.bin.index.json"))
    except Exception as error:  # the hub's own kinds, and whatever its network layer raises
        at = f" at revision {revision!r}" if revision else ""
        reason = str(error).strip().partition("\n")[0]
        why = UNFETCHED.get(type(error).__name__, f"{type(error).__name__}: {reason}")
        raise CheckpointError(
            f"{model!r} is no folder here, and as a Hub id{at} it can't be had ({why}): check the name, or"
            " fetch it where there is a network and give its folder"
        ) from error
    return folder
