"""The models: byte-level Llamas of named sizes, what a step of each costs, and how well one does."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.training.optimizing import muon_flops
from benchmarks.training.scale import Scale, scale
from benchmarks.training.text import held_out
from isogrow.growth.models import anatomy_of
from isogrow.recipes.flops import training_flops

VOCAB = 256
CLIP = 1.0


def new_model(size: str, std: float, seed: int) -> LlamaForCausalLM:
    """A new model whose matrices have this std; the same numbers on any device."""
    torch.manual_seed(seed)
    return ready(LlamaForCausalLM(config(size, std)).train())


def ready(model: Any) -> Any:
    """The model on the device of this scale, where it is compiled if the scale says so."""
    model.to(scale().device)
    if scale().compiled:
        model.compile(dynamic=False)
    return model


def config(size: str, std: float) -> LlamaConfig:
    given = scale().sizes[size]
    return LlamaConfig(
        vocab_size=VOCAB, hidden_size=given["hidden"], intermediate_size=given["ffn"],
        num_hidden_layers=given["layers"], num_attention_heads=given["heads"],
        num_key_value_heads=given["kv_heads"], head_dim=scale().head_dim,
        max_position_embeddings=scale().length,
        initializer_range=std, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip


def step_flops(size: str, matrices: str | None = None) -> int:
    """Operations of one training step; those of the optimizer's products of matrices, where it makes some."""
    return _step_flops(scale(), size, matrices)


@cache
def _step_flops(at: Scale, size: str, matrices: str | None) -> int:
    with torch.device("meta"):
        model = LlamaForCausalLM(config(size, 0.02))
    return flops_of(model) + (muon_flops(model) if matrices else 0)


def flops_of(model: Any) -> int:
    """Operations of one training step of this model."""
    return training_flops(anatomy_of(model), scale().length) * scale().bytes


def loss_of(model: Any, ids: Tensor) -> Tensor:
    with torch.autocast(scale().device, torch.bfloat16, enabled=scale().bf16):
        return model(input_ids=ids, labels=ids, use_cache=False).loss


def held_loss(model: Any, rows: int) -> float:
    """The loss on held-out text, in the model's own dtype and as it was written."""
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        parts = held_out(rows).split(64)
        losses = [model(input_ids=ids, labels=ids, use_cache=False).loss * len(ids) for ids in parts]
        return sum(loss.item() for loss in losses) / rows
