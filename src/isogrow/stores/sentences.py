"""What stands behind the transformer in a sentence-transformers folder, and how it follows a wider residual.

modules.json lists the modules in the order in which they run. A grown model's hidden states have the old
channels as they were, and new ones beside them: zeros, or whole copies of the old ones (where a LayerNorm
writes the residual), by the rule that grew it. So with h for the hidden size

    Pooling     takes each mode channel by channel: its width is ĥ
    Dense       reads y = W x + b: its columns at new channels are zero, so y is what it was, and what follows
                sees nothing of the growth
    Dropout     passes on what it gets
    Normalize   divides by |x|, which zeros leave as it is, and m whole copies make √m times as large

Without a Dense the sentence embedding itself has ĥ entries. Beside zeros every similarity of two of them is
what it was; beside copies the cosine is, and of normalised ones their product and distance too. What is not
so, and everything else that mixes channels (another norm, a network of its own), is refused by its name. No
other axis than hidden reaches that far.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from isogrow.errors import CheckpointError
from isogrow.stores.sources import load_bin, read_json

if TYPE_CHECKING:
    from torch import Tensor

Beyond = Literal["zeros", "copies", "other"]
LIST = "modules.json"
POOLED = ("word_embedding_dimension", "embedding_dimension")
SAID = "config_sentence_transformers.json"
SIMILAR = ("cosine", "dot", "euclidean")  # what whole copies leave: the first, and of unit length all
LOGITS = ("MLMTransformer",)  # its outputs are as wide as the vocabulary
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
READS = ("linear.weight", "residual.weight")  # of a Dense, (out, in)
ELSE = "leave hidden as it is (every other axis can grow), or take modules.json away to grow the model alone"


@dataclass(frozen=True)
class Widened:
    """A residual that grows from `old` to `new` channels; `kept` says where the old ones are, by number, and
    `beside` what the model's output has in the others."""

    old: int
    new: int
    kept: tuple[int, ...]
    beside: Beyond = "other"


def modules_of(folder: Path) -> dict[str, str]:
    """The folders of a sentence-transformers model, in order, and what they hold; the model's own is "".

    Raises `CheckpointError` for a list that can't be read.
    """
    path = folder / LIST
    if not path.is_file():
        return {}
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        found = {str(m["path"]): str(m["type"]).rpartition(".")[2] for m in cast("list[Any]", listed)}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is no list of modules with path and type ({error!r}): fetch it again"
        ) from error
    return {"" if path == "." else path: kind for path, kind in found.items()}


def followed(folder: Path, name: str, wide: Widened) -> bytes | None:
    """What a file of a module is to hold; None where it stays as it is. Raises `CheckpointError` for a module
    that can't follow."""
    config = reached(folder, wide).get(str(Path(name).parent))
    if config is None:
        return None
    file = Path(name).name
    if file == "config.json":
        return (json.dumps({**config, **_sizes(config, wide)}, indent=2, ensure_ascii=False) + "\n").encode()
    return _columns(folder / name, wide) if file in WEIGHTS else None


def reached(folder: Path, wide: Widened) -> Mapping[str, Mapping[str, Any]]:
    """The configs of the modules that a wider residual reaches, by their folders."""
    modules = modules_of(folder)
    if wide.old == wide.new or not modules or next(iter(modules.values())) in LOGITS:
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    normal = False
    for path, kind in list(modules.items())[1:]:
        if kind in ("Pooling", "Dense"):
            found[path] = read_json(folder / path / "config.json", f"{LIST} lists it")
        if kind == "Dense":
            _check_dense(path, found[path], wide, normal)
            return found
        if kind not in ("Pooling", "Dropout", "Normalize"):
            raise CheckpointError(
                f"{path} ({kind}) mixes the {wide.old} hidden channels that it gets, and no law says how it"
                f" follows {wide.new} of them: {ELSE}"
            )
        normal = normal or kind == "Normalize"
    _check_similar(folder, wide, normal)
    return found


def _check_similar(folder: Path, wide: Widened, normal: bool) -> None:
    """Wider sentence embeddings are as similar to each other as they were."""
    path = folder / SAID
    said = read_json(path, "it says how embeddings are compared") if path.is_file() else {}
    how = said.get("similarity_fn_name") or "cosine"
    if wide.beside == "zeros" or (wide.beside == "copies" and how in (SIMILAR if normal else SIMILAR[:1])):
        return
    raise CheckpointError(
        f"{LIST} has no Dense behind the model, so sentence embeddings would have {wide.new} entries in place"
        f" of {wide.old}, and how similar two of them are ({how}) would change: {ELSE}"
    )


def _check_dense(path: str, config: Mapping[str, Any], wide: Widened, normal: bool) -> None:
    reads, writes = config.get("in_features"), config.get("out_features")
    if normal and wide.beside != "zeros":
        raise CheckpointError(
            f"{path} (Dense) reads normalised embeddings, and the new channels change their length: {ELSE}"
        )
    if not isinstance(reads, int) or reads % wide.old:
        raise CheckpointError(
            f"{path} (Dense) reads {reads} channels, and the model gives {wide.old} for each way of pooling:"
            f" the two do not belong together; fetch {path} again"
        )
    if config.get("use_residual") and reads == writes:
        raise CheckpointError(
            f"{path} (Dense) adds what it reads to what it computes (use_residual), so sentence embeddings"
            f" would be wider too: {ELSE}"
        )


def _sizes(config: Mapping[str, Any], wide: Widened) -> dict[str, int]:
    """The keys that say how wide a module is."""
    sizes = {key: wide.new for key in POOLED if key in config}
    reads = config.get("in_features")
    return sizes | ({"in_features": reads // wide.old * wide.new} if isinstance(reads, int) else {})


def _columns(path: Path, wide: Widened) -> bytes:
    """A file of a Dense's weights, with zeros in the columns of new channels, for each way of pooling."""
    import torch
    from safetensors.torch import load_file, save

    tensors = load_file(path) if path.suffix == ".safetensors" else load_bin(path)
    made = {name: _spread(tensor, wide) if name in READS else tensor for name, tensor in tensors.items()}
    if path.suffix == ".safetensors":
        return save(made, {"format": "pt"})
    held = io.BytesIO()
    torch.save(made, held)
    return held.getvalue()


def _spread(weight: Tensor, wide: Widened) -> Tensor:
    """(out, n · h) to (out, n · ĥ)."""
    import torch

    ways = weight.shape[1] // wide.old
    out = torch.zeros(len(weight), ways, wide.new, dtype=weight.dtype)
    out[:, :, list(wide.kept)] = weight.view(len(weight), ways, wide.old)
    return out.flatten(1)
