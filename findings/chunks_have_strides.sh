#!/usr/bin/env bash
# torch 2.13.0: a chunk of a distributed checkpoint keeps the strides of the tensor that was saved, and the
# checkpoint's metadata does not say so.
#
# .metadata tells a tensor's dtype, size and chunks, and its properties say torch.contiguous_format. A tensor that
# is dense but transposed is written in the order in which it lies in memory; its strides stand in the pickle
# inside the chunk alone. torch.distributed.checkpoint.load reads it right. Whoever maps the bytes where the
# metadata says that they are, as of a safetensors file, gets the right numbers in the wrong places.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
cat > "$work/seen.py" <<'PY'
import io
import pickle
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

warnings.simplefilter("ignore")
saved = torch.arange(6.0).view(2, 3).t()  # 3 x 2, strides 1 and 3
folder = Path(tempfile.mkdtemp())
dcp.save({"w": saved}, checkpoint_id=folder, no_dist=True)
metadata = pickle.loads((folder / ".metadata").read_bytes())
about, (place,) = metadata.state_dict_metadata["w"], metadata.storage_data.values()
chunk = (folder / place.relative_path).read_bytes()[place.offset : place.offset + place.length]
with zipfile.ZipFile(io.BytesIO(chunk)) as archive:
    (name,) = (name for name in archive.namelist() if "/data/" in name)
    numbers = torch.frombuffer(bytearray(archive.read(name)), dtype=torch.float32)
in_order = numbers.view(*about.size)
loaded = {"w": torch.empty(3, 2)}
dcp.load(loaded, checkpoint_id=folder, no_dist=True)
print(f"torch {torch.__version__}")
print(f"metadata: size {list(about.size)}, {about.properties.memory_format}")
print(f"saved {saved.tolist()}")
print(f"loaded {loaded['w'].tolist()}")
print(f"the chunk's numbers in the order of its size {in_order.tolist()}")
said = about.properties.memory_format is torch.contiguous_format
sys.exit(not (said and torch.equal(loaded["w"], saved) and not torch.equal(in_order, saved)))
PY
"$work/venv/bin/python" "$work/seen.py"
