"""What is learned: bytes of Python's standard library, the same batches in the same order for every run."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

LENGTH, ROWS = 64, 8
LEFT_OUT = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__"}
HELD_ROWS, FINAL_ROWS = 192, 1024


@cache
def text() -> tuple[Tensor, Tensor]:
    """The bytes to learn from, and those of every tenth file, which no run learns from."""
    top = Path(sysconfig.get_paths()["stdlib"])
    files = [f for f in sorted(top.rglob("*.py")) if not LEFT_OUT & set(f.relative_to(top).parts)]
    parts = (
        b"".join(f.read_bytes() for i, f in enumerate(files) if (i % 10 == 0) is held)
        for held in (False, True)
    )
    learned, held_out = (torch.frombuffer(bytearray(part), dtype=torch.uint8) for part in parts)
    return learned, held_out


def batch(seed: int, step: int) -> Tensor:
    """The rows of this step of a run with this seed, whatever model runs."""
    return _rows(text()[0], ROWS, (seed << 24) + step)


def held_out(rows: int) -> Tensor:
    """The first of always the same rows of held-out text."""
    return _rows(text()[1], rows, 1)


def _rows(data: Tensor, rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(data) - LENGTH, (rows,), generator=generator)
    return torch.stack([data[i : i + LENGTH] for i in starts.tolist()]).long()
