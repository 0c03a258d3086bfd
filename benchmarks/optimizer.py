"""Growing a model and its AdamW state in memory: the peak, and the time beside a training step.

    python benchmarks/optimizer.py                 a Llama of 34M parameters, float32, to 61M
    python benchmarks/optimizer.py --layers 2

Each way of growing runs in a process of its own. Memory is the peak of anonymous memory (RssAnon) during the
growth over what the process held before the old model was made; beside it what the law of the tensors says:
old model and state, new model and state, the largest new tensor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

HIDDEN, FFN, HEADS, VOCAB = 512, 1408, 8, 8192
SIZES = dict(hidden=640, ffn=1792, heads=10, kv_heads=10, layers="+2")
TINY = dict(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
ROWS, LENGTH, STEPS = 8, 256, 3


def anonymous() -> int:
    """This process's anonymous memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


class Peak:
    """The peak of anonymous memory while it is entered."""

    def __enter__(self) -> Peak:
        self.most, self.done = anonymous(), threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        while not self.done.wait(0.002):
            self.most = max(self.most, anonymous())

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def held(model: Any, optimizer: Any) -> int:
    """Bytes of a model and its optimizer's state."""
    state = [x for found in optimizer.state.values() for x in found.values()]
    return sum(x.numel() * x.element_size() for x in [*model.state_dict().values(), *state])


def step(model: Any, optimizer: Any, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCAB, (ROWS, LENGTH), generator=generator)
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def measured(layers: int, release: bool, watched: bool) -> dict[str, float]:
    """One growth: watched for its memory, or timed and followed by training steps."""
    import torch
    import transformers

    import isogrow

    torch.set_num_threads(1)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=layers,
        num_attention_heads=HEADS, head_dim=HIDDEN // HEADS, max_position_embeddings=LENGTH,
    )  # fmt: skip
    # All imports are made, and what they keep is kept.
    isogrow.grow(transformers.LlamaForCausalLM(transformers.LlamaConfig(**TINY)), ffn="+8")
    before = anonymous()
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters())
    for p in model.parameters():
        moments = {"exp_avg": torch.ones_like(p), "exp_avg_sq": torch.ones_like(p)}
        optimizer.state[p] = {"step": torch.tensor(9.0), **moments}
    old = held(model, optimizer)
    start = time.perf_counter()
    if watched:
        with Peak() as peak:
            large, grown, *_ = isogrow.grow_training(model, optimizer=optimizer, release=release, **SIZES)
        most = peak.most - before
    else:
        large, grown, *_ = isogrow.grow_training(model, optimizer=optimizer, release=release, **SIZES)
        most = 0
    seconds = time.perf_counter() - start
    new, largest = held(large, grown), max(p.numel() * p.element_size() for p in large.parameters())
    del model, optimizer
    steps = []
    for seed in range(0 if watched else STEPS):
        start = time.perf_counter()
        step(large, grown, seed)
        steps.append(time.perf_counter() - start)
    taken = statistics.median(steps) if steps else 0.0
    return dict(old=old, new=new, largest=largest, peak=most, seconds=seconds, step=taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--child", choices=("keep", "release", "time"))
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(measured(asked.layers, asked.child == "release", asked.child != "time")))
        return
    found: dict[str, dict[str, float]] = {}
    for kind in ("keep", "release", "time"):
        command = [sys.executable, __file__, "--layers", str(asked.layers), "--child", kind]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        found[kind] = json.loads(ran.stdout.splitlines()[-1])
    old, new, largest = (found["keep"][key] / 1e6 for key in ("old", "new", "largest"))
    total = old + new + largest
    print(f"old {old:.0f} MB, new {new:.0f} MB, largest tensor {largest:.0f} MB: {total:.0f} MB")
    print(f"peak {found['keep']['peak'] / 1e6:.0f} MB; with release {found['release']['peak'] / 1e6:.0f} MB")
    print(f"a growth {found['time']['seconds']:.2f} s, a step {found['time']['step']:.2f} s")


if __name__ == "__main__":
    main()
