"""Hold what isogrow reads of GGUF files against the models that llama.cpp's own converter made them from.

    LLAMA_CPP_SOURCE=... python -m benchmarks.engines.gguf [MODEL_TYPE]...

Small models of random weights, in each of three dtypes: how many of their tensors come back bit by bit, and
how far the farthest of the others is off.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.engines.__main__ import made
from isogrow.stores.gguf.architectures import ARCHITECTURES
from isogrow.stores.mapping import mapped
from isogrow.stores.sources import open_checkpoint
from isogrow.stores.store import all_of
from isogrow.verification.runners.llama_cpp import converted

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
FILE = "model.safetensors"


def compared(family: str, kind: str, here: Path) -> str:
    """What became of a small model's tensors in a GGUF file."""
    small = made(family, "5", here / kind)
    state = {name: tensor.to(DTYPES[kind]) for name, tensor in load_file(small / FILE).items()}
    save_file(state, small / FILE, {"format": "pt"})
    said = json.loads((small / "config.json").read_text())
    said |= {"dtype": str(DTYPES[kind]).removeprefix("torch.")}
    said |= {"n_ctx": said["n_positions"]} if family == "gpt2" else {}  # as published, and no longer written
    (small / "config.json").write_text(json.dumps(said))
    converted(small, here / f"{kind}.gguf", kind)
    found = open_checkpoint(here / f"{kind}.gguf")
    assert found.headers.keys() == state.keys()
    with mapped(found) as store:
        gaps = [_gap(all_of(store, name), tensor) for name, tensor in state.items()]
    off = [gap for gap in gaps if gap]
    return f"{len(gaps) - len(off)} of {len(gaps)}" + (f", off {max(off):.1e}" if off else "")


def _gap(found: torch.Tensor, tensor: torch.Tensor) -> float:
    assert found.dtype == tensor.dtype
    return float((found.double() - tensor.double()).abs().max())


def main() -> None:
    print("| model type | F32 | BF16 | F16 |\n|---|---|---|---|")
    for family in sys.argv[1:] or [each.model_type for each in ARCHITECTURES.values()]:
        with tempfile.TemporaryDirectory() as place:
            told = [compared(family, kind, Path(place)) for kind in DTYPES]
        print(f"| {family} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
