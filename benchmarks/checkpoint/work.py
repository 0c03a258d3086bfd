"""One process of the benchmark: it has imported what is measured, then measures what it is asked."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import isogrow

held: dict[str, Any] = {"class": transformers.LlamaForCausalLM, "grow": isogrow.grow_checkpoint}


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds on the clock, and of the processor."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - start, "busy": time.process_time() - busy}


def grow(model: str, out: str, init: str, sizes: str) -> dict[str, float]:
    return timed(lambda: isogrow.grow_checkpoint(model, out, init=init, **json.loads(sizes)))


def tofile(out: str) -> dict[str, float]:
    """As many bytes from memory, in slabs: what writing alone costs."""
    size = sum(path.stat().st_size for path in Path(out).iterdir())
    slab, target = np.full(1 << 22, 7, dtype=np.uint8), Path(out).with_name("tofile")

    def work() -> None:
        with target.open("wb") as file:
            for _ in range(size >> 22):
                slab.tofile(file)
            os.fsync(file.fileno())

    found = timed(work)
    target.unlink()
    return found


def compare(model: str, out: str) -> dict[str, float]:
    from isogrow.growth.comparing import compare_bytes

    def work() -> None:
        assert compare_bytes(model, out).passed

    return timed(work)


def load(out: str) -> dict[str, float]:
    held["model"] = transformers.LlamaForCausalLM.from_pretrained(out, dtype=torch.bfloat16)
    return {}


def save(copy: str) -> dict[str, float]:
    def work() -> None:
        held["model"].save_pretrained(copy)
        for path in Path(copy).iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    return timed(work)


ASKED: dict[str, Callable[..., dict[str, float]]] = {
    "begin": dict,
    "grow": grow,
    "tofile": tofile,
    "bytes": compare,
    "load": load,
    "save": save,
}

if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        what, *words = json.loads(line)
        print(json.dumps(ASKED[what](*words)), file=out, flush=True)
