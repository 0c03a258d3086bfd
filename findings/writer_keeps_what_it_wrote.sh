#!/usr/bin/env bash
# torch 2.13.0: saving a distributed checkpoint keeps each tensor that was written until its file is closed.
#
# FileSystemWriter fetches tensors one after the other (from a GPU, or from a planner that makes them) and writes
# each at once. But it also puts each into a dict, which only the safetensors format reads, so that with the
# default format, too, a rank's whole share of the checkpoint is in the CPU's memory at the end: no more room
# than one tensor is needed.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
cat > "$work/seen.py" <<'PY'
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

warnings.simplefilter("ignore")
SIZE = 40 << 20  # bytes of a tensor
held = []


def own_memory() -> int:
    said = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in said.splitlines() if line.startswith("RssAnon")).split()[1])


class OnDemand(DefaultSavePlanner):
    """Each tensor is made when it is asked for, as a copy from a GPU is."""

    def resolve_data(self, write_item):
        held.append(own_memory())
        return super().resolve_data(write_item).clone()


one = torch.ones(SIZE // 4)
state = {f"w{i}": one for i in range(8)}
dcp.save(state, checkpoint_id=tempfile.mkdtemp(), planner=OnDemand(), no_dist=True)
print(f"torch {torch.__version__}")
kept = [round((each - held[0]) / SIZE) for each in held]
print(f"tensors that are still in memory when the next one is asked for: {kept}")
sys.exit(not kept == list(range(8)))
PY
"$work/venv/bin/python" "$work/seen.py"
