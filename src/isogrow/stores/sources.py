"""Checkpoints on disk or on the Hugging Face Hub: config.json, and where each tensor's bytes lie.

Opening one reads headers alone. Nothing in it is run: `.safetensors` holds no code, `.bin` is read by
`torch.load(weights_only=True)`, and code files of a model are never imported.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal, cast

from isogrow.errors import CheckpointError
from isogrow.paths import expanded
from isogrow.plans.anatomy import Header
from isogrow.stores.distributed import Chunk, Distributed, folder_of, read_distributed
from isogrow.stores.dtypes import word_of
from isogrow.stores.gguf import gguf_of, held_in
from isogrow.stores.hub import WEIGHTS, fetched
from isogrow.stores.laid import Laid
from isogrow.stores.shards import check_fetched, read_spans
from isogrow.stores.strangers import check_no_adapter

if TYPE_CHECKING:
    from torch import Tensor

# The same of `from_pretrained(…, variant="fp16")`.
VARIANTS = ("model.*.safetensors", "pytorch_model.*.bin")

RUNS = "checkpoint-"  # before the step in the name of what Trainer leaves in a run's folder

CONFIG = "config.json"
Format = Literal["safetensors", "bin", "distributed", "gguf"]

QUANTIZED_KEYS = ("quantization_config", "compression_config")
QUANTIZED_NAMES = re.compile(
    r"\.(qweight|qzeros|g_idx|weight_packed|weight_scale(_inv)?|absmax|quant_map|SCB|\w+_proj_(blocks|scales)"
    r"|weight\.(absmax|quant_map|nested_absmax|quant_state\.\w+))$"
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder, its config and its tensors' headers.

    `name` is what a model card may call it: the Hub id, or the folder's name. `files` says which file
    holds a tensor, and `starts` (of `.safetensors` alone) at which byte of it; of a distributed checkpoint
    `chunks` says where each of its parts is, and `held` what else it holds; of a GGUF file `laid` says where
    each tensor's numbers are. A GGUF file that was given by its own name is its own `folder`, in which
    nothing else lies.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    headers: Mapping[str, Header]
    files: Mapping[str, Path]
    format: Format
    starts: Mapping[str, int] = field(default_factory=dict[str, int])
    revision: str = ""
    chunks: Mapping[str, tuple[Chunk, ...]] = field(default_factory=dict[str, "tuple[Chunk, ...]"])
    held: Distributed | None = None
    laid: Mapping[str, tuple[Laid, ...]] = field(default_factory=dict[str, "tuple[Laid, ...]"])

    @property
    def plain(self) -> bool:
        """Whether it is a folder as `from_pretrained` reads it."""
        return self.format in ("safetensors", "bin")

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file that holds weights."""
        parts = (chunk.path for chunks in self.chunks.values() for chunk in chunks)
        return tuple(sorted({*self.files.values(), *parts}))

    def stamps(self) -> dict[str, tuple[int, int]]:
        """The size and the time of change of every such file as it is now; of one that is gone nothing."""
        found: dict[str, tuple[int, int]] = {}
        for path in self.paths:
            with suppress(FileNotFoundError, NotADirectoryError):
                stat = path.stat()
                found[path.name] = stat.st_size, stat.st_mtime_ns
        return found

    @property
    def configured(self) -> bool:
        """Whether its config lies with it."""
        return any((path / CONFIG).is_file() for path in {self.folder, *(p.parent for p in self.paths)})


def open_checkpoint(
    model: str | Path, revision: str | None = None, config: str | Path | Mapping[str, Any] | None = None
) -> Checkpoint:
    """The checkpoint in a folder, or under a Hub id (fetched, or taken from the local cache): a Hugging Face
    model, or a distributed checkpoint of torch; or a GGUF file, or the one in a folder.

    `config` is the config of a folder that has none: its values, its file, or a folder that holds it. Raises
    `CheckpointError` for a checkpoint that is missing, incomplete, damaged or quantized.
    """
    _check_named(model)
    if (found := gguf_of(expanded(model))) is not None:
        return _of_gguf(found, expanded(model), revision, config)
    folder, name, commit = _located(model, revision)
    _check_no_run(folder)
    check_no_adapter(folder, name)
    distributed = None if _weights(folder) else folder_of(folder)
    said = _configured(folder if distributed is None else _with_config(folder, distributed), config)
    _check_quantized_config(name, said)
    if distributed is not None:
        return _checked(_of_chunks(folder, distributed, name, said))
    weights = _weights(folder)
    if not weights:
        raise CheckpointError(
            f"{name} holds no weights: expected {' or '.join(WEIGHTS[::2])} (or its index), or a distributed"
            f" checkpoint's .metadata, in {folder}" + (_parts(folder) or _variant(folder))
        )
    kind: Format = "safetensors" if "safetensors" in weights else "bin"
    return _checked(_read(folder, name, said, _shards(folder, weights), kind, commit))


def _weights(folder: Path) -> str:
    """The file of weights, or their index, that transformers would load; "" if there is none."""
    return next((weights for weights in WEIGHTS if (folder / weights).is_file()), "")


def _of_chunks(folder: Path, weights: Path, name: str, config: Mapping[str, Any]) -> Checkpoint:
    held = read_distributed(weights)
    files = {name: parts[0].path for name, parts in held.chunks.items() if parts}
    return Checkpoint(folder, name, config, held.headers, files, "distributed", chunks=held.chunks, held=held)


def _of_gguf(file: Path, folder: Path, revision: str | None, config: object) -> Checkpoint:
    for given, what in ((revision, "revision"), (config, "config")):
        if given is not None:
            raise CheckpointError(f"{file.name} is a GGUF file, which takes no {what}: leave it out")
    held = held_in(file)
    name = file.stem if file == folder else folder.resolve().name
    files = dict.fromkeys(held.headers, file)
    return Checkpoint(folder, name, held.config, held.headers, files, "gguf", laid=held.laid)


def _with_config(folder: Path, weights: Path) -> Path:
    """The folder that holds a distributed checkpoint's config: its own, or the one around it."""
    return next((each for each in (weights, folder) if (each / CONFIG).is_file()), weights)


def _configured(folder: Path, given: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The config in a folder, or the one that is given because there is none."""
    if given is None:
        return read_json(
            folder / CONFIG, "it is no Hugging Face model folder without it; config= (--config) can give one"
        )
    if (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} has a {CONFIG}, and another config is given: leave out config= (--config)"
        )
    if isinstance(given, Mapping):
        return given
    path = expanded(given)
    return read_json(path / CONFIG if path.is_dir() else path, "it was given as the config")


def _check_named(model: object) -> None:
    """Refuse what is neither a folder's name nor a Hub id: a model in memory above all."""
    if isinstance(model, Path) or (isinstance(model, str) and model.strip()):
        return
    if hasattr(model, "state_dict"):
        raise CheckpointError(
            f"a {type(model).__name__} is no folder, and a folder or a Hub id was expected: grow a model in"
            " memory by isogrow.grow(model, …), or save it by save_pretrained and give that folder"
        )
    raise CheckpointError(
        f"{model!r:.60} is no folder: give a model's folder (with config.json) or a Hub id like"
        " 'openai-community/gpt2'"
    )


def _check_no_run(folder: Path) -> None:
    """Refuse the folder of a training run, whose checkpoints are the models."""
    found = {path.name.removeprefix(RUNS): path for path in folder.glob(f"{RUNS}*") if path.is_dir()}
    steps = sorted(filter(str.isdecimal, found), key=int)
    if steps and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"config.json is missing from {folder}, which is the folder of a training run: give one of its"
            f" {len(steps)} checkpoints, {found[steps[-1]]} is the last"
        )


def _parts(folder: Path) -> str:
    """What to do with safetensors of which each holds parts of tensors."""
    found = next((path.name for path in sorted(folder.glob("shard-*-model-*.safetensors"))), "")
    return found and (
        f"; {found} holds one rank's parts of tensors: save with enable_consolidation=True, too, or without"
        " HuggingFaceStorageWriter, as a distributed checkpoint"
    )


def _variant(folder: Path) -> str:
    """What to do with weights under another name."""
    found = sorted(path.name for pattern in VARIANTS for path in folder.glob(pattern))
    if not found:
        return ""
    variant = found[0].split(".")[1].split("-")[0]
    return (
        f"; {found[0]} is a variant: load it by from_pretrained(…, variant={variant!r}), save that, and grow"
        " that"
    )


def read_json(path: Path, otherwise: str, mend: str = "fetch it again") -> dict[str, Any]:
    """A file that must hold a JSON object; `otherwise` says why it must be there, `mend` what to do about one
    that holds something else."""
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing from {path.parent}: {otherwise}")
    held = path.read_bytes()
    check_fetched(path, held)
    try:
        found = json.loads(held.decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no valid JSON ({error}): {mend}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is no JSON object: {mend}")
    return cast("dict[str, Any]", found)


def load_bin(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.bin` file. Raises `CheckpointError` where it holds anything but tensors by name."""
    import torch

    state = load_state(path, "fetch it again, or take the model's .safetensors")
    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, torch.Tensor)):
            raise CheckpointError(
                f"{path.name} holds {key!r}, which is no tensor: save the model by save_pretrained"
            )
    return dict(cast("Mapping[str, Tensor]", state))


def load_state(path: Path, mend: str) -> Mapping[Any, Any]:
    """What `torch.save` wrote of a state dict, its tensors mapped where the format allows (files of torch <
    1.6 are read whole). Raises `CheckpointError`."""
    import torch

    try:
        mapped = zipfile.is_zipfile(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises half a dozen kinds, down to EOFError and KeyError
        # What torch says is left out: it advises to unpickle all the same.
        raise CheckpointError(
            f"{path.name} is damaged, or holds more than tensors, which is never unpickled"
            f" ({type(error).__name__}): {mend}"
        ) from error
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path.name} holds no state dict: {mend}")
    return cast("Mapping[Any, Any]", found)


# ── where it is ──


def _located(model: str | Path, revision: str | None) -> tuple[Path, str, str]:
    """(folder, name, commit) of a folder or a Hub id."""
    folder = expanded(model)
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(
                f"{model} is a folder, and revision {revision!r} is for Hub ids: leave it out"
            )
        return folder, folder.resolve().name, ""
    text = str(model)
    if isinstance(model, Path) or folder.exists() or not HUB_ID.fullmatch(text) or ".." in text:
        raise CheckpointError(
            f"{text} is no folder: give a model's folder (with config.json) or a Hub id like"
            " 'openai-community/gpt2'"
        )
    found = fetched(text, revision)
    return found, text, found.name


# ── which files hold what ──


def _shards(folder: Path, weights: str) -> Mapping[Path, set[str] | None]:
    """Each weight file, and the tensors that the index expects in it (None: there is no index)."""
    if not weights.endswith(".index.json"):
        return {folder / weights: None}
    index = read_json(folder / weights, "the index says which shard holds what")
    listed = index.get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise CheckpointError(f"{weights} has no weight_map: fetch it again")
    paths: dict[str, Path] = {}
    found: dict[Path, set[str]] = {}
    for name, file in cast("dict[str, Any]", listed).items():
        if not isinstance(file, str) or file not in paths:
            paths[file] = folder / _inside(weights, file)
        found.setdefault(paths[file], set()).add(name)
    for path in found:
        if not path.is_file():
            raise CheckpointError(
                f"{path.name} is missing from {folder}, and {weights} names it: fetch the model again"
            )
    return found


def _inside(index: str, file: Any) -> str:
    """The name of a shard, which may not lead out of the folder (the Hub's caches link their files to
    blobs elsewhere, so the name is what counts, not the link's target)."""
    path = PurePosixPath(str(file))
    out = path.is_absolute() or PureWindowsPath(str(file)).drive or "\\" in str(file)
    if not isinstance(file, str) or out or ".." in path.parts or "\0" in file or not path.parts:
        raise CheckpointError(
            f"{index} names the shard {str(file)!r}, which is outside the model's folder: the model is"
            " damaged or malicious, so nothing was read"
        )
    return file


def _read(
    folder: Path,
    name: str,
    config: Mapping[str, Any],
    shards: Mapping[Path, set[str] | None],
    kind: Format,
    commit: str,
) -> Checkpoint:
    headers: dict[str, Header] = {}
    files: dict[str, Path] = {}
    starts: dict[str, int] = {}
    for path, expected in shards.items():
        held: set[str] = set()
        for tensor, header, start in _tensors(path, kind):
            headers[tensor], files[tensor] = header, path
            held.add(tensor)
            if kind == "safetensors":
                starts[tensor] = start
        _check_index(path, held, held if expected is None else expected)
    return Checkpoint(folder, name, config, headers, files, kind, starts, commit)


def _tensors(path: Path, kind: str) -> Iterator[tuple[str, Header, int]]:
    if kind == "safetensors":
        for name, place in read_spans(path).items():
            yield name, place.header, place.start
        return
    for name, tensor in load_bin(path).items():
        yield name, Header(tuple(tensor.shape), word_of(tensor.dtype)), 0


def _check_index(path: Path, held: set[str], expected: set[str]) -> None:
    if missing := sorted(expected - held):
        raise CheckpointError(
            f"{missing[0]} should be in {path.name}, says the index, but is not: index and shards do"
            " not belong together; fetch the model again"
        )
    if extra := sorted(held - expected):
        raise CheckpointError(
            f"{extra[0]} is in {path.name}, and the index does not list it there: index and shards do"
            " not belong together; fetch the model again"
        )


# ── what can't be grown ──


def _check_quantized_config(name: str, config: Mapping[str, Any]) -> None:
    for key in QUANTIZED_KEYS:
        given = config.get(key)
        if given:
            method = (
                cast("Mapping[str, Any]", given).get("quant_method") if isinstance(given, dict) else given
            )
            raise _quantized(name, f"config.json has {key}, {method or 'of an unnamed method'}")


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, where nothing in it is quantized."""
    for name, header in checkpoint.headers.items():
        packed = QUANTIZED_NAMES.search(name) is not None
        small = header.dtype[0] == "F" and header.dtype[1:] not in ("16", "32", "64")
        integer = header.dtype in ("I8", "U8", "I32") and name.endswith("weight")
        if packed or small or integer or header.dtype == "I8":
            raise _quantized(checkpoint.name, f"{name} is {header.dtype}")
    return checkpoint


def _quantized(name: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"{name} is quantized ({why}), and growing needs the weights themselves: give the model that it"
        " was quantized from"
    )
