"""What a growth in mid-run costs in held-out loss, by the policy for new entries of the optimizer's state.

    python benchmarks/policies.py                      every policy, three seeds: some ten minutes of one core
    python benchmarks/policies.py --seeds 1 --steps 100

A byte-level Llama (98k parameters beside embeddings) learns Python's standard library for some hundred
steps, is grown in every axis (to 442k) and trained on at the same constant rate, once for each policy: from
the same weights and the same new numbers, on the same batches. Every finished run is a line of a JSONL file,
and is not run again; benchmarks/policies.jsonl has those of benchmarks/policies.md. Prints its tables.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

import isogrow
from isogrow import Policy

LENGTH, ROWS, RATE, WARM = 64, 12, 3e-3, 50
SIZES = dict(
    vocab_size=256, hidden_size=64, intermediate_size=172, num_hidden_layers=2, num_attention_heads=4,
    head_dim=16, max_position_embeddings=LENGTH, bos_token_id=None, eos_token_id=None,
)  # fmt: skip
GROWN = dict(hidden=96, ffn=256, heads=6, kv_heads=6, layers="+2")
FINISHED = Path(__file__).with_suffix(".jsonl")
MARKS = (1, 3, 10, 30, 100, 300)
POLICIES: Mapping[str, Policy | None] = {
    "small, not grown": None,
    "zero": Policy("zero"),
    "seeded": Policy("seeded"),
    "zero, ramp 100": Policy("zero", ramp=100),
    "seeded, ramp 100": Policy("seeded", ramp=100),
    "fresh": Policy("fresh"),
}


def text() -> tuple[Tensor, Tensor]:
    """Bytes of the standard library's modules to learn from, and of every tenth to be asked about."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    parts = (
        b"".join(f.read_bytes() for i, f in enumerate(files) if (i % 10 == 0) is held)
        for held in (False, True)
    )
    learned, held_out = (torch.frombuffer(bytearray(part), dtype=torch.uint8).long() for part in parts)
    return learned, held_out


def batch(data: Tensor, rows: int, seed: int) -> Tensor:
    starts = torch.randint(len(data) - LENGTH, (rows,), generator=torch.Generator().manual_seed(seed))
    return torch.stack([data[i : i + LENGTH] for i in starts])


def loss_of(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids, labels=ids, use_cache=False).loss


def held(model: Any, data: Tensor) -> float:
    """The loss on fixed rows of held-out text."""
    with torch.no_grad():
        return loss_of(model, batch(data, 192, 1)).item()


def train(
    model: Any, optimizer: Any, data: tuple[Tensor, Tensor], seed: int, steps: int, rows: int
) -> dict[str, float]:
    """Held-out losses at the start (0) and at MARKS."""
    found = {"0": held(model, data[1])}
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss_of(model, batch(data[0], rows, (seed << 20) + step)).backward()
        optimizer.step()
        if step in MARKS:
            found[str(step)] = held(model, data[1])
    return found


def small(data: tuple[Tensor, Tensor], seed: int, beta: float, steps: int, rows: int) -> tuple[Any, Any]:
    """A trained model, on the constant part of its schedule, and its optimizer."""
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(initializer_range=0.1, **SIZES))
    optimizer = torch.optim.AdamW(model.parameters(), RATE, (0.9, beta), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARM))
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, batch(data[0], rows, (seed << 20) + (1 << 19) + step)).backward()
        optimizer.step()
        schedule.step()
    return model, optimizer


def run(
    trained: tuple[Any, Any], policy: Policy | None, data: Any, seed: int, steps: int, rows: int
) -> dict[str, float]:
    model, optimizer = trained
    if policy is None:
        model, optimizer = copy.deepcopy((model, optimizer))  # one memo: the copy holds the copy's parameters
    else:
        model, optimizer, *_ = isogrow.grow_training(
            model, optimizer=optimizer, policy=policy, seed=seed, **GROWN
        )
    return train(model, optimizer, data, seed, steps, rows)


def table(rows: list[dict[str, Any]], beta: float, size: int) -> str:
    """Held-out losses less the one before growth: mean and spread over seeds, the largest of all, and the
    last one less that of "zero" on the same seed."""
    losses = {
        (row["policy"], row["seed"]): row["losses"]
        for row in rows
        if (row["beta"], row["batch"]) == (beta, size)
    }
    last = str(max(mark for mark in MARKS if all(str(mark) in found for found in losses.values())))
    titles = [*map(str, MARKS), "largest rise", f"at {last}, against zero"]
    lines = [f"| policy | {' | '.join(titles)} |"]
    lines.append("|---" * (len(MARKS) + 3) + "|")
    for name in POLICIES:
        own = {seed: found for (policy, seed), found in losses.items() if policy == name}
        cells = [
            said([found[m] - found["0"] for found in own.values() if m in found]) for m in map(str, MARKS)
        ]
        paired = [x[last] - losses["zero", seed][last] for seed, x in own.items() if ("zero", seed) in losses]
        rises = [found[m] - found["0"] for found in own.values() for m in found]
        if rises:
            lines.append(f"| {name} | {' | '.join(cells)} | {max(rises):+.3f} | {said(paired)} |")
    return "\n".join(lines)


def said(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.3f}{spread}" if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="after the growth")
    parser.add_argument("--before", type=int, default=500, help="steps of the small model")
    parser.add_argument("--betas", type=float, nargs="+", default=[0.95, 0.999], help="Adam's second")
    parser.add_argument("--batch", type=int, default=ROWS, help="rows of a step")
    parser.add_argument("--only", nargs="+", choices=POLICIES, default=list(POLICIES), help="policies")
    parser.add_argument("--rows", type=Path, default=FINISHED, help="finished runs")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data = text()
    rows = [json.loads(line) for line in asked.rows.read_text().splitlines()] if asked.rows.exists() else []
    for seed in range(asked.seeds):
        for beta in asked.betas:
            point = dict(seed=seed, beta=beta, batch=asked.batch)
            done = {row["policy"] for row in rows if point.items() <= row.items()}
            if done >= set(asked.only):
                continue
            trained = small(data, seed, beta, asked.before, asked.batch)
            for name in [name for name in asked.only if name not in done]:
                start = time.perf_counter()
                losses = run(trained, POLICIES[name], data, seed, asked.steps, asked.batch)
                assert all(map(math.isfinite, losses.values()))
                seconds = round(time.perf_counter() - start, 1)
                rows.append(dict(**point, policy=name, losses=losses, seconds=seconds))
                with asked.rows.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    for beta in asked.betas:
        print(f"\nbetas (0.9, {beta}), {asked.batch} rows a step\n\n{table(rows, beta, asked.batch)}")


if __name__ == "__main__":
    main()
