"""What is learned: bytes of Python's sources, the same batches in the same order for every run.

The standard library's, and where a scale says so those of installed packages whose license is permissive.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.training.scale import scale

LEFT_OUT = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__"}
PERMISSIVE = ("MIT", "BSD", "APACHE", "ISC", "ZLIB", "PSF", "PYTHON SOFTWARE FOUNDATION")
OTHERWISE = ("GPL", "MPL", "PROPRIETARY", "NVIDIA")  # one of these beside another is not


@cache
def text(packages: bool) -> tuple[Tensor, Tensor]:
    """The bytes to learn from, and those of every tenth file, which no run learns from."""
    files = [*standard_library(), *(of_packages() if packages else ())]
    parts = (
        b"".join(f.read_bytes() for i, f in enumerate(files) if (i % 10 == 0) is held)
        for held in (False, True)
    )
    learned, held_out = (torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in parts)
    return learned, held_out


def standard_library() -> list[Path]:
    top = Path(sysconfig.get_paths()["stdlib"])
    return [f for f in sorted(top.rglob("*.py")) if not LEFT_OUT & set(f.relative_to(top).parts)]


def of_packages() -> Iterator[Path]:
    """The sources of installed packages, in the order of their names; none twice."""
    named = {str(found.metadata["Name"]).lower(): found for found in distributions() if permissive(found)}
    seen = set[Path]()
    for name in sorted(named):
        for file in sorted(map(str, named[name].files or ())):
            path = Path(str(named[name].locate_file(file)))
            if path.suffix == ".py" and path not in seen and path.is_file() and path.stat().st_size:
                seen.add(path)
                yield path


def permissive(found: Distribution) -> bool:
    """Whether a package says that its license is one of those that allow all use."""
    told = [found.metadata[key] or "" for key in ("License-Expression", "License") if key in found.metadata]
    told += [c for c in found.metadata.get_all("Classifier") or () if c.startswith("License")]
    said = " ".join(line[:200] for line in told).upper()
    return any(word in said for word in PERMISSIVE) and not any(word in said for word in OTHERWISE)


def batch(seed: int, step: int) -> Tensor:
    """The rows of this step of a run with this seed, whatever model runs."""
    return _rows(text(scale().packages)[0], scale().rows, (seed << 24) + step)


def held_out(rows: int) -> Tensor:
    """The first of always the same rows of held-out text."""
    return _rows(text(scale().packages)[1], rows, 1)


def _rows(data: Tensor, rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(data) - scale().length, (rows,), generator=generator)
    found = data[starts[:, None] + torch.arange(scale().length)]
    return found.long().to(scale().device)
