"""What travels with a model: tokenizer, generation config, licence, chat template, processor, pooling.

Everything in a checkpoint's folder does, except weights and their indexes (they are written anew),
weights of other frameworks (they are of the old size), hidden files, config.json and README.md (they are
rewritten). The modules of a sentence-transformers model, which its modules.json lists, travel whole, and
follow a wider residual (`sentences`). What is kept of a run travels if the optimizer's state is grown;
otherwise nothing could be resumed with it. What stays behind is told (`left`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from isogrow.errors import CheckpointError
from isogrow.stores.hub import OTHER_FRAMEWORKS
from isogrow.stores.items import Item
from isogrow.stores.sentences import Widened, followed, modules_of
from isogrow.stores.sources import Checkpoint

LEFT = (
    *OTHER_FRAMEWORKS,
    "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.index",
    "*.mlpackage/*", "*.distcp", "adapter_config.json", "trainer_state.json",
    "__pycache__/*", "*/__pycache__/*",
    "checkpoint-*/*", "runs/*", "config.json", "README.md", "isogrow.json",
    "optimizer_*/*", "pytorch_model_fsdp*/*", "global_step*/*", "zero_to_fp32.py", "latest",
    "random_states_*.pkl", "custom_checkpoint_*.pkl",
    "imatrix*.dat", "*.imatrix", "imatrix*.gguf",  # which weights matter to llama.cpp, of the old sizes
)  # fmt: skip
# What a run keeps beside the state of its optimizer: it knows no sizes.
TRAINER = ("trainer_state.json", "training_args.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth")
ACCELERATE = (  # its save_state
    *("scheduler.bin", "scaler.pt", "sampler*.bin"),
    *("dl_state_dict*.bin", "random_states_*.pkl"),
)
RUN: Mapping[str, tuple[str, ...]] = {
    "optimizer.pt": TRAINER,
    "optimizer.bin": ACCELERATE,
    "optimizer_0": (*TRAINER, *ACCELERATE),  # either of them, where FSDP saves a sharded state
}
MADE_ANEW = ("config.json", "README.md", "isogrow.json", "*.index.json", "__pycache__/*", "*/__pycache__/*")


@dataclass(frozen=True)
class Beside:
    """A file that is made anew beside the grown weights, from one of `size` bytes."""

    name: str
    size: int
    write: Callable[[Path], None]


@dataclass(frozen=True)
class Within:
    """What a distributed checkpoint has around and beside the grown weights, which are in the folder
    `weights`, their names below the keys `under`: the state of an optimizer (`name`; "" for none) and values,
    in `folder`."""

    name: str
    items: Mapping[str, Item]
    folder: str = ""
    weights: str = ""
    under: tuple[str, ...] = ()


def carried(checkpoint: Checkpoint, run: str = "") -> tuple[str, ...]:
    """The names of the files that travel, relative to the folder; what is kept of a run, too, where `run` is
    the state of its optimizer that grows.

    Raises `CheckpointError` for a link that leads out of the folder (to anything but the Hub cache's
    own blobs): what it points at might not be meant to be passed on.
    """
    return travelling(checkpoint.folder, run)


def travelling(folder: Path, run: str = "") -> tuple[str, ...]:
    """The same of any folder: that of an adapter, say."""
    modules = {path for path in modules_of(folder) if path}
    kept = RUN.get(run, ())
    found = [name for name in _files(folder) if _travels(name, modules) or _any(name, kept)]
    for name in found:
        _check_link(folder, name)
    return tuple(sorted(found))


def left(checkpoint: Checkpoint, run: str = "") -> tuple[str, ...]:
    """What stays behind: weights under other names, of other frameworks or averages, and other runs.

    Folders are named once, with a slash at their end.
    """
    gone = {*carried(checkpoint, run), *(_within(path, checkpoint.folder) for path in checkpoint.paths), run}
    rest = (name for name in _files(checkpoint.folder) if name not in gone and not _any(name, MADE_ANEW))
    found = (name for name in rest if not run or not name.startswith(f"{run}/"))
    return tuple(
        dict.fromkeys(f"{top}/" if rest else top for top, _, rest in (n.partition("/") for n in found))
    )


def _within(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def contents(checkpoint: Checkpoint, name: str, wide: Widened) -> bytes | None:
    """What a file that travels is to hold where the growth of the residual changes it; None where it is
    copied as it is. Raises `CheckpointError` for a module behind the model that can't follow.
    """
    return followed(checkpoint.folder, name, wide)


def dump(data: Mapping[str, Any]) -> bytes:
    """JSON as Hugging Face writes it, in the order of the keys given."""
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _files(folder: Path) -> Iterator[str]:
    """Every file that is not hidden; folders that are links are not entered, and a file holds none."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():
                yield from (f"{path.name}/{name}" for name in _files(path))
        else:
            yield path.name


def _travels(name: str, modules: Collection[str]) -> bool:
    if str(Path(name).parent) in modules:
        return True
    return not (_any(name, LEFT) or _any(Path(name).name, LEFT))


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_link(folder: Path, name: str) -> None:
    path = folder / name
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{name} in {folder} is a link that leads nowhere: fetch the file, or remove the link"
        ) from error
    home = folder.resolve()
    # A snapshot in the Hub's cache links its files to ../../blobs.
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if not target.is_file() or not (target.is_relative_to(home) or target.is_relative_to(blobs)):
        raise CheckpointError(
            f"{name} in {folder} is a link to {target}, outside the model: put a copy in its place if it"
            " belongs to the model, or remove it"
        )
