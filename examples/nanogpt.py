"""Growing a model of one's own: a GPT in nanoGPT's style, trained a little, grown, and trained on.

    python examples/nanogpt.py

The model below is plain PyTorch and knows nothing of isogrow. The layout after it says what its weights
mean, one line each; `isogrow.register` makes it growable. All that is particular about it is said there:
q, k and v are fused in one Linear, the head is the embedding, and the LayerNorms' ε stands in the code.
"""

from __future__ import annotations

import math
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import isogrow
from isogrow import Attention, Bias, Key, Layout, Norm, Stream, Weight


@dataclass(frozen=True)
class GPTConfig:
    block_size: int = 64
    vocab_size: int = 128
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 32
    bias: bool = True


class LayerNorm(nn.Module):
    """LayerNorm with an optional bias; ε is a constant in the code."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class CausalSelfAttention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        q, k, v = (
            part.view(rows, length, self.n_head, width // self.n_head).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(rows, length, width))


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(functional.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1, self.attn = LayerNorm(config.n_embd, config.bias), CausalSelfAttention(config)
        self.ln_2, self.mlp = LayerNorm(config.n_embd, config.bias), MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, config.bias)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                std = 0.1 / math.sqrt(2 * config.n_layer) if name.endswith("c_proj.weight") else 0.1
                nn.init.normal_(parameter, std=std)

    def forward(self, idx: Tensor) -> Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


NORM = Norm("layer", "pre", eps=1e-5)
QKV = "(q: heads key_dim + k: heads key_dim + v: heads value_dim)"
MAYBE = Bias(required=False)
H = "h.{layers}."

LAYOUT = Layout(
    family="nanogpt",
    weights=(
        Weight("wte.weight", "vocab -> hidden", "embed"),
        Weight("wpe.weight", "positions -> hidden", "positions"),
        Weight(H + "ln_1.weight", "* hidden", "attn_norm", NORM, MAYBE),
        Weight(H + "attn.c_attn.weight", f"{QKV} <- hidden", "attn.*", bias=MAYBE),
        Weight(H + "attn.c_proj.weight", "hidden <- (heads value_dim)", "attn.o", bias=MAYBE),
        Weight(H + "ln_2.weight", "* hidden", "mlp_norm", NORM, MAYBE),
        Weight(H + "mlp.c_fc.weight", "ffn <- hidden", "mlp.up", bias=MAYBE),
        Weight(H + "mlp.c_proj.weight", "hidden <- ffn", "mlp.down", bias=MAYBE),
        Weight("ln_f.weight", "* hidden", "final_norm", NORM, MAYBE),
        Weight("lm_head.weight", "vocab <- hidden", "head", tied="embed"),
    ),
    axes={"vocab": "vocab_size", "positions": "block_size", "hidden": "n_embd", "ffn": "4 * n_embd",
          "heads": "n_head", "key_dim": "n_embd // n_head", "value_dim": "n_embd // n_head",
          "layers": "n_layer"},
    keys=(Key("n_embd", "hidden"), Key("n_head", "heads"), Key("n_layer", "layers"),
          Key("tied", default=True)),
    attentions=(Attention(),),
    constraints=("ffn == 4 * hidden", "key_dim == value_dim", "heads * key_dim == hidden"),
    streams=(Stream(tie="tied"),),
)  # fmt: skip


def build(config: Mapping[str, Any], _sizes: object) -> GPT:
    """A GPT for a grown config."""
    return GPT(GPTConfig(**config))


isogrow.register(LAYOUT, GPT, build)


def text() -> Tensor:
    """Python's own standard library as ASCII codes."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    source = "".join((folder / name).read_text() for name in ("argparse.py", "ast.py", "typing.py"))
    return torch.tensor([min(ord(letter), 127) for letter in source])


def loss_of(model: GPT, data: Tensor, starts: Tensor) -> Tensor:
    """Mean cross-entropy of the next character, in rows that start at `starts`."""
    rows = torch.stack([data[i : i + model.config.block_size + 1] for i in starts])
    return functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def train(model: GPT, data: Tensor, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        starts = torch.randint(len(data) - model.config.block_size - 1, (16,), generator=generator)
        optimizer.zero_grad()
        loss_of(model, data, starts).backward()
        optimizer.step()


def main(steps: int = 150) -> tuple[float, float, float]:
    """The loss on fixed rows after training, at growth, and after training on."""
    data = text()
    torch.manual_seed(0)
    small = GPT(GPTConfig())
    train(small, data, steps, seed=1)
    rows = torch.arange(0, 60_000, 1_000)
    with torch.no_grad():
        before = loss_of(small, data, rows).item()
        large = isogrow.grow(small, hidden=48, ffn=192, heads=3, layers="+1")
        at_growth = loss_of(large, data, rows).item()
    train(large, data, steps, seed=2)
    with torch.no_grad():
        after = loss_of(large, data, rows).item()
    print(f"{small.config}: {before:.6f}")
    print(f"{large.config}: {at_growth:.6f}, and after {steps} steps more {after:.6f}")
    return before, at_growth, after


if __name__ == "__main__":
    main()
