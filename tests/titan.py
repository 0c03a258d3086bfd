"""A Llama as torchtitan has it, written anew for the tests: its names, and pairs of adjacent channels that
turn as complex numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Config = Mapping[str, Any]
SIZES: Config = dict(
    model_type="torchtitan_llama3",
    vocab_size=41,
    dim=24,
    hidden_dim=38,
    n_layers=3,
    n_heads=4,
    n_kv_heads=2,
    norm_eps=1e-3,
    rope_theta=500.0,
    rope_scaling=dict(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=32,
    ),
)


def turns(config: Config, length: int) -> Tensor:
    """By how much each pair of channels turns at each position."""
    head, scaling = head_dim(config), config["rope_scaling"]
    w = config["rope_theta"] ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
    waves = scaling["original_max_position_embeddings"] * w / (2 * torch.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = (waves - low) / (high - low)
    between = (1 - smooth) * w / scaling["factor"] + smooth * w
    slow = torch.where(waves < low, w / scaling["factor"], between)
    angles = torch.outer(torch.arange(length), torch.where(waves > high, w, slow))
    return torch.polar(torch.ones_like(angles), angles)


def head_dim(config: Config) -> int:
    return config.get("head_dim") or config["dim"] // config["n_heads"]


class Projections(nn.Module):
    """Queries, keys and values: apart, or fused head by head, in the order of their groups."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.kv, self.head = config["n_heads"], config["n_kv_heads"], head_dim(config)
        wide, narrow = self.heads * self.head, self.kv * self.head
        if config.get("fused"):
            self.wqkv = nn.Linear(config["dim"], wide + 2 * narrow, bias=False)
        else:
            self.wq = nn.Linear(config["dim"], wide, bias=False)
            self.wk, self.wv = (nn.Linear(config["dim"], narrow, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if hasattr(self, "wqkv"):
            each = self.wqkv(x).unflatten(-1, (self.kv, self.heads // self.kv + 2, self.head))
            parts = each.split([self.heads // self.kv, 1, 1], dim=-2)
            return tuple(part.flatten(-3, -2) for part in parts)
        return tuple(line(x).unflatten(-1, (-1, self.head)) for line in (self.wq, self.wk, self.wv))


class Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        made = Projections(config)
        if config.get("before"):  # 0.3
            self.wq, self.wk, self.wv = made.wq, made.wk, made.wv
            self.project: Callable[[Tensor], tuple[Tensor, ...]] = made.forward
        else:
            self.qkv_linear = made
        self.wo = nn.Linear(config["n_heads"] * head_dim(config), config["dim"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.project if self.config.get("before") else self.qkv_linear)(x)
        turn = turns(self.config, x.shape[1])[:, None]
        q, k = (
            torch.view_as_real(torch.view_as_complex(y.unflatten(-1, (-1, 2)).double()) * turn)
            for y in (q, k)
        )
        q, k, v = (y.flatten(3).to(x.dtype).transpose(1, 2) for y in (q, k, v.unsqueeze(-1)))
        said = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.wo(said.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.w1, self.w3 = (nn.Linear(config["dim"], config["hidden_dim"], bias=False) for _ in range(2))
        self.w2 = nn.Linear(config["hidden_dim"], config["dim"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(functional.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(config), FeedForward(config)
        self.attention_norm, self.ffn_norm = (
            nn.RMSNorm(config["dim"], eps=config["norm_eps"]) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Titan(nn.Module):
    """The model of a config; random in every weight."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = dict(config)
        self.tok_embeddings = nn.Embedding(config["vocab_size"], config["dim"])
        self.layers = nn.ModuleDict({str(i): Block(config) for i in range(config["n_layers"])})
        self.norm = nn.RMSNorm(config["dim"], eps=config["norm_eps"])
        head = nn.Linear(config["dim"], config["vocab_size"], bias=False)
        self.add_module("output" if config.get("before") else "lm_head", head)
        self.head = [head]
        with torch.no_grad():
            for p in self.parameters():
                p.normal_(float(p.dim() == 1), 0.3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tok_embeddings(ids)
        for block in self.layers.values():
            x = block(x)
        return self.head[0](self.norm(x))
