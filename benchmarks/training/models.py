"""The models: byte-level Llamas of named sizes, what a step of each costs, and how well one does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.training.text import LENGTH, ROWS, held_out
from isogrow.growth.models import anatomy_of
from isogrow.recipes.flops import training_flops

HEAD_DIM, VOCAB = 16, 256
BETAS, DECAY, CLIP = (0.9, 0.95), 0.1, 1.0


def sizes(hidden: int, ffn: int, heads: int, layers: int) -> dict[str, int]:
    return dict(hidden=hidden, ffn=ffn, heads=heads, kv_heads=heads, layers=layers)


# Parameters beside embeddings are in the comments. "narrow" is half of "large" in every width, since
# tiling can only double; "shallow" and "flat" lack depth alone.
SIZES: Mapping[str, dict[str, int]] = {
    "large": sizes(96, 256, 6, 4),  # 442k
    "middle": sizes(80, 216, 5, 3),  # 232k
    "small": sizes(64, 172, 4, 2),  # 99k
    "tiny": sizes(48, 128, 3, 2),  # 55k
    "narrow": sizes(48, 128, 3, 4),  # 111k
    "shallow": sizes(96, 256, 6, 2),  # 221k
    "flat": sizes(96, 256, 6, 1),  # 111k
}


def new_model(size: str, std: float, seed: int) -> LlamaForCausalLM:
    """A new model whose matrices have this std."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(config(size, std)).train()


def config(size: str, std: float) -> LlamaConfig:
    given = SIZES[size]
    return LlamaConfig(
        vocab_size=VOCAB, hidden_size=given["hidden"], intermediate_size=given["ffn"],
        num_hidden_layers=given["layers"], num_attention_heads=given["heads"],
        num_key_value_heads=given["kv_heads"], head_dim=HEAD_DIM, max_position_embeddings=LENGTH,
        initializer_range=std, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip


def optimizer_of(model: Any) -> torch.optim.AdamW:
    """AdamW; the rate is set step by step."""
    return torch.optim.AdamW(model.parameters(), 0.0, BETAS, weight_decay=DECAY, fused=True)


@cache
def step_flops(size: str) -> int:
    """Operations of one training step."""
    with torch.device("meta"):
        model = LlamaForCausalLM(config(size, 0.02))
    return training_flops(anatomy_of(model), LENGTH) * ROWS * LENGTH


def loss_of(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids, labels=ids, use_cache=False).loss


def held_loss(model: Any, rows: int) -> float:
    """The loss on held-out text."""
    with torch.no_grad():
        ids = held_out(rows)
        return sum(loss_of(model, part).item() * len(part) for part in ids.split(64)) / rows
