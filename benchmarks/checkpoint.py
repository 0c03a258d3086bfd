"""Growing a checkpoint on disk, beside copying its output and beside saving it from memory.

    python benchmarks/checkpoint.py                  2 GB, three rounds, on the current folder's disk
    python benchmarks/checkpoint.py --gigabytes 0.3 --rounds 1 --folder /some/disk

A random bf16 Llama checkpoint is grown in hidden, ffn and layers (`--init copy`, no verification) in a
process of its own. Times end when the output is on disk (fsync). Memory is the peak of anonymous memory
(RssAnon) over a process that imported the same libraries and built the grown model on the meta device.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDE = 256  # added to hidden
INNER = 512  # added to ffn
MORE = 2  # added layers
PAUSE = 0.002  # seconds between two looks at a process's memory


@dataclass(frozen=True)
class Run:
    """One process: its seconds of work, of the processor at it, of everything, and its peak memory in MB."""

    work: float
    busy: float
    wall: float
    anonymous: float
    mapped: float


# ── the model ──


def config(gigabytes: float) -> dict[str, Any]:
    """A Llama whose bf16 weights are about so large: it has as many layers as that takes."""
    hidden, ffn, heads, kv_heads, vocab = 2048, 5632, 32, 8, 32000
    layer = 2 * hidden * hidden + 2 * hidden * hidden * kv_heads // heads + 3 * hidden * ffn
    layers = max(1, round((gigabytes * 1e9 / 2 - 2 * vocab * hidden) / layer))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    }


def meta_model(values: Mapping[str, Any]) -> Any:
    import torch
    import transformers

    with torch.device("meta"):
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**values))


def build(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the checkpoint without ever holding it."""
    import torch

    from isogrow.plans.anatomy import Header
    from isogrow.stores.shards import header_bytes, nbytes

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(values), indent=2))
    state = meta_model(values).state_dict()
    headers = {name: Header(tuple(tensor.shape), "BF16") for name, tensor in state.items()}
    generator = torch.Generator().manual_seed(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header_bytes(headers))
        for header in headers.values():
            left = nbytes(header) // 2
            while left:
                count = min(left, 1 << 22)
                block = torch.randn(count, generator=generator).to(torch.bfloat16)
                file.write(block.view(torch.uint8).numpy().data)
                left -= count
        file.flush()
        os.fsync(file.fileno())


# ── what is measured, each in a process of its own ──


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - busy


def grow(model: Path, out: Path) -> tuple[float, float]:
    from isogrow.families import layout_for
    from isogrow.interpreters.checkpoint import grow_checkpoint
    from isogrow.planning.planner import plan
    from isogrow.plans.anatomy import match
    from isogrow.plans.expansions import expansions
    from isogrow.plans.plan import Init
    from isogrow.stores.sources import open_checkpoint

    def work() -> None:
        checkpoint = open_checkpoint(model)
        anatomy = match(layout_for("llama"), checkpoint.config, checkpoint.headers)
        sizes = {"hidden": f"+{WIDE}", "ffn": f"+{INNER}", "layers": f"+{MORE}"}
        made = plan(anatomy, expansions(sizes), Init("copy"))
        grow_checkpoint(checkpoint, anatomy, made, out)

    warm(model, out.parent)
    return timed(work)


def baseline(out: Path) -> tuple[float, float]:
    """What memory is counted above: the libraries, and the grown model on the meta device."""
    import isogrow.interpreters.checkpoint  # noqa: F401

    warm(out, None)
    model = meta_model(json.loads((out / "config.json").read_text()))
    result = timed(lambda: time.sleep(0.2))
    del model
    return result


def save_file(out: Path, copy: Path) -> tuple[float, float]:
    """The same tensors from memory, as `safetensors.torch.save_file` writes them."""
    import torch
    from safetensors.torch import load_file, save_file

    warm(out, None)
    tensors = {
        name: torch.empty_like(tensor).copy_(tensor)
        for file in sorted(out.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    copy.mkdir()
    back(out.parent, size_of(out))

    def work() -> None:
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        with (copy / "model.safetensors").open("rb") as file:
            os.fsync(file.fileno())

    return timed(work)


def warm(folder: Path, scratch: Path | None) -> None:
    """Have what no time counts: imports, what is read in the system's cache, free memory backed."""
    import transformers

    _ = transformers.LlamaForCausalLM
    read(folder)
    if scratch is not None:
        back(scratch, 2 * size_of(folder))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def back(folder: Path, size: int) -> None:
    """Have as much memory free as will be needed, used once before: a virtual machine's host gives memory
    slowly the first time, and whoever writes next would pay for it."""
    path = folder / "scratch"
    with path.open("wb", buffering=0) as file:
        block = bytes(1 << 22)
        for _ in range(0, size, len(block)):
            file.write(block)
        os.fsync(file.fileno())
    path.unlink()


def read(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


CHILDREN: dict[str, Callable[..., tuple[float, float]]] = {
    "build": lambda folder, values: timed(lambda: build(Path(folder), json.loads(values))),
    "grow": lambda *paths: grow(*map(Path, paths)),
    "baseline": lambda *paths: baseline(*map(Path, paths)),
    "save_file": lambda *paths: save_file(*map(Path, paths)),
}


def copied(out: Path, copy: Path) -> tuple[float, float]:
    def work() -> None:
        subprocess.run(["cp", "-r", "--reflink=never", str(out), str(copy)], check=True)
        subprocess.run(["sync", *map(str, copy.iterdir())], check=True)

    read(out)
    back(out.parent, 2 * size_of(out))
    before = os.times()
    clock, _ = timed(work)
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return clock, busy


def child(kind: str, *arguments: str) -> Run:
    """Run one of `CHILDREN`, and watch its memory from outside."""
    command = [sys.executable, __file__, "--child", kind, *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peaks = {"RssAnon": 0, "RssFile": 0}
    watcher = threading.Thread(target=_watch, args=(process, peaks))
    watcher.start()
    said, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{kind} failed")
    wall = time.perf_counter() - start
    work, busy = map(float, said.split())
    return Run(work, busy, wall, peaks["RssAnon"] / 1e6, peaks["RssFile"] / 1e6)


def _watch(process: subprocess.Popen[str], peaks: dict[str, int]) -> None:
    while process.poll() is None:
        for name, size in _memory(process.pid):
            peaks[name] = max(peaks[name], size)
        time.sleep(PAUSE)


def _memory(pid: int) -> Iterator[tuple[str, int]]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        name, _, size = line.partition(":")
        if name in ("RssAnon", "RssFile"):
            yield name, int(size.split()[0]) * 1024


# ── the table ──


def rounds(home: Path, values: Mapping[str, Any], count: int) -> Iterator[dict[str, Any]]:
    model, out, copy = home / "model", home / "grown", home / "copy"
    child("build", str(model), json.dumps(dict(values)))
    for _ in range(count):
        grown = child("grow", str(model), str(out))
        cp = copied(out, copy)
        shutil.rmtree(copy)
        base = child("baseline", str(out))
        saved = child("save_file", str(out), str(copy))
        shutil.rmtree(copy)
        size = size_of(out)
        shutil.rmtree(out)
        yield {"grown": grown, "cp": cp, "base": base, "saved": saved, "size": size}


def table(found: list[dict[str, Any]], source: int) -> str:
    def of(pick: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(pick(one) for one in found)

    cp = of(lambda one: one["cp"][0])
    base = of(lambda one: one["base"].anonymous)
    rows = [f"{'median':24}" + "".join(f"{title:>16}" for title in COLUMNS)]
    rows.append(_row("cp + sync", cp, 1.0, of(lambda one: one["cp"][1])))
    for name, title in (("grown", "isogrow"), ("saved", "save_file from memory")):
        fields = ("work", "busy", "anonymous", "mapped")
        work, busy, memory, mapped = (of(lambda one, n=name, f=field: getattr(one[n], f)) for field in fields)
        ratio = of(lambda one, n=name: one[n].work / one["cp"][0])
        rows.append(_row(title, work, ratio, busy, memory, memory - base, mapped))
    wall = of(lambda one: one["grown"].wall)
    rows.append(f"baseline of memory: {base:.0f} MB")
    rows.append(f"isogrow with the start of Python, the imports and warming the cache: {wall:.2f} s")
    rows.append(f"source {source / 1e9:.2f} GB, output {found[0]['size'] / 1e9:.2f} GB")
    every = ", ".join(f"{one['grown'].work:.2f} / {one['cp'][0]:.2f}" for one in found)
    rows.append(f"isogrow / cp in each round, seconds: {every}")
    return "\n".join(rows)


COLUMNS = ("seconds", "of cp's", "processor s", "anonymous MB", "over baseline", "mapped MB")


def _row(title: str, *numbers: float) -> str:
    formats = (".2f", ".2f", ".2f", ".0f", ".0f", ".0f")
    return f"{title:24}" + "".join(f"{n:16{f}}" for n, f in zip(numbers, formats, strict=False))


def hardware() -> str:
    import torch

    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.machine()}, Linux"
        f" {platform.release()}, Python {platform.python_version()}, torch {torch.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(*CHILDREN[given.child[0]](*given.child[1:]))
        return
    values = config(given.gigabytes)
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="isogrow-benchmark-") as home:
        found = list(rounds(Path(home), values, given.rounds))
        source = (Path(home) / "model" / "model.safetensors").stat().st_size
    print(hardware())
    print(f"Llama, {values['num_hidden_layers']} layers: hidden +{WIDE}, ffn +{INNER}, layers +{MORE}")
    print(table(found, source))


if __name__ == "__main__":
    main()
