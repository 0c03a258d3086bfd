"""One process of the benchmark: it has imported what is measured, then measures what it is asked."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import isogrow

DRAWINGS = 40
held: dict[str, Any] = {"class": transformers.LlamaForCausalLM, "grow": isogrow.grow_checkpoint}


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds on the clock, and of the processor."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - start, "busy": time.process_time() - busy}


def grow(model: str, out: str, init: str, sizes: str) -> dict[str, float]:
    return timed(lambda: isogrow.grow_checkpoint(model, out, init=init, **json.loads(sizes)))


def draw() -> dict[str, float]:
    """Normal entries of bfloat16 in memory, drawn as a build draws them: nothing is read or written."""
    shape, box = (1 << 12, 1 << 12), (range(1 << 9), range(1 << 9))
    torch.set_num_threads(1)  # as growing on disk does
    make = drawing(shape, box)
    make()
    return {key: value / DRAWINGS / 2**18 for key, value in timed(lambda: repeat(make, DRAWINGS)).items()}


def drawing(shape: tuple[int, int], box: tuple[range, range]) -> Callable[[], object]:
    """One drawing of a box of a region, by this build or by an earlier one."""
    try:
        from isogrow.numbers import filling, normal
    except ImportError:
        old, rounding = map(importlib.import_module, ("isogrow.initializers", "isogrow.arithmetic"))
        return lambda: rounding.rounded(
            torch.from_numpy(old.normal("key", shape, box)).mul_(0.02), torch.bfloat16
        )
    table = filling.normals(0.0, 0.02, 1.0, 0.0, torch.bfloat16)
    return lambda: normal.looked_up(table, "key", shape, box)


def repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


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


def verify(small: str, large: str) -> dict[str, Any]:
    """A streamed comparison: when each of its parts began, and when all was done."""
    began: list[tuple[str, float, float]] = []

    def begin(part: str) -> None:
        began.append((part.partition(":")[0], time.perf_counter(), time.process_time()))

    def work() -> None:
        report = isogrow.verify(small, large, streamed=True, progress=begin)
        assert report.passed, report

    found = timed(work)
    begin("end")
    return found | {"began": began}


def passes(small: str, large: str) -> dict[str, Any]:
    """Seconds of each forward pass that a streamed comparison makes of models of one layer, with all weights
    in memory: of the layer, and of all else."""
    from isogrow.stores.sources import open_checkpoint
    from isogrow.verification.float64 import float64
    from isogrow.verification.runs import one_by_one, still
    from isogrow.verification.streaming import proof, streamed_pair
    from isogrow.verification.streaming.lending import lent

    found: dict[str, Any] = {}
    # A thread of its own reads: the mode that widens every cast is that of the thread which runs the model.
    reading = ThreadPoolExecutor(1)
    with reading, streamed_pair(open_checkpoint(small), open_checkpoint(large), None) as both:
        sources, kept = proof.sources_of(both), dict[Any, torch.Tensor]()
        with one_by_one(both.pair.small, both.pair.large):
            for name, job in proof.Abreast(both, proof.given_to(both), False).jobs.items():

                def fetch(weight: str, region: Any, source: str = job.source) -> torch.Tensor:
                    key = (source, weight, region)
                    if key not in kept:
                        kept[key] = reading.submit(sources[source], weight, region).result()
                    return kept[key]

                (layer,) = (each for title, each in job.model.named_modules() if title == "model.layers.0")
                with still(job.model), float64() if job.wide else nullcontext(), lent(job.model, fetch):
                    job.work(job.model)  # fills `kept`
                    whole = layered(layer, lambda job=job: job.work(job.model))
                found[name] = {"large": job.source.startswith(proof.LARGE), "wide": job.wide, **whole}
    return {"passes": found}


def layered(layer: Any, work: Callable[[], object]) -> dict[str, float]:
    """Seconds of some work, in all of it and in one layer, on the clock and of the processor."""
    inside = {"layer": 0.0, "layer busy": 0.0}
    start: list[float] = []
    before = layer.register_forward_pre_hook(
        lambda *_: start.extend((time.perf_counter(), time.process_time()))
    )

    def after(*_: Any) -> None:
        inside["layer busy"] += time.process_time() - start.pop()
        inside["layer"] += time.perf_counter() - start.pop()

    then = layer.register_forward_hook(after)
    found = timed(work)
    before.remove()
    then.remove()
    return found | inside


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


ASKED: dict[str, Callable[..., dict[str, Any]]] = {
    "begin": dict,
    "grow": grow,
    "draw": draw,
    "tofile": tofile,
    "bytes": compare,
    "verify": verify,
    "passes": passes,
    "load": load,
    "save": save,
}

if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        what, *words = json.loads(line)
        print(json.dumps(ASKED[what](*words)), file=out, flush=True)
