"""How forked processes become the ranks of one job: they meet through a file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch


def joined(folder: Path, rank: int, world: int, wait: float) -> None:
    """Make this process a rank, which waits so many seconds for the others."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meet"
    torch.distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=world, timeout=timedelta(seconds=wait)
    )
