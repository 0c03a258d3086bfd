"""A plain training loop in which the model grows twice, its optimizer and schedule with it.

    python examples/train_and_grow.py

A byte-level Llama learns Python's own source. At the steps that GROWTHS names it becomes larger: the same
function, the same optimizer state, more room. New weights start gently, over RAMP steps.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import isogrow

LENGTH, ROWS, STEPS, RAMP = 64, 12, 240, 40
GROWTHS: dict[int, dict[str, Any]] = {
    100: dict(hidden=48, heads=6, kv_heads=6, ffn="x2"),
    170: dict(layers="+1"),
}
SMALL = LlamaConfig(
    vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    head_dim=8, max_position_embeddings=LENGTH, initializer_range=0.1, bos_token_id=None, eos_token_id=None,
)  # fmt: skip


def text() -> Tensor:
    folder = Path(sysconfig.get_paths()["stdlib"])
    source = b"".join((folder / name).read_bytes() for name in ("argparse.py", "ast.py", "typing.py"))
    return torch.tensor(list(source))


def loss_of(model: Any, data: Tensor, step: int) -> Tensor:
    """The loss on the batch of this step."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(data) - LENGTH, (ROWS,), generator=generator)
    rows = torch.stack([data[i : i + LENGTH] for i in starts])
    return model(input_ids=rows, labels=rows, use_cache=False).loss


def main(steps: int = STEPS, growths: dict[int, dict[str, Any]] | None = None) -> list[float]:
    """The loss of every step, on the batch that it learns from."""
    data, losses = text(), list[float]()
    torch.manual_seed(0)
    model = LlamaForCausalLM(SMALL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    policy = isogrow.Policy(ramp=RAMP)
    for step in range(steps):
        sizes = (GROWTHS if growths is None else growths).get(step)
        if sizes:
            model, optimizer, schedule, _ = isogrow.grow_training(
                model, optimizer=optimizer, scheduler=schedule, policy=policy, **sizes
            )
            print(f"step {step}: grown to {sum(p.numel() for p in model.parameters()):,} parameters")
        loss = loss_of(model, data, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 10 == 0:
            print(f"step {step}: loss {losses[-1]:.4f}")
    return losses


if __name__ == "__main__":
    main()
