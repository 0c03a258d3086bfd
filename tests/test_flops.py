"""The formula for a step's operations, beside torch's own counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from isogrow.growth.models import anatomy_of
from isogrow.recipes.flops import forward_flops, training_flops

LENGTH, ROWS = 24, 2
GATED = dict(
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=10,
)
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", GATED),
    ("qwen3", {**GATED, "tie_word_embeddings": True}),
    ("gpt2", dict(n_embd=48, n_head=6, n_layer=3)),
    ("gpt_neox", dict(hidden_size=48, num_attention_heads=6, num_hidden_layers=3, intermediate_size=80)),
]


def model(kind: str, sizes: dict[str, Any]) -> Any:
    tokens = dict(vocab_size=97, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    config = transformers.AutoConfig.for_model(kind, **tokens, **sizes)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")


@pytest.mark.parametrize(("kind", "sizes"), MODELS)
def test_the_formula_is_the_counter(kind: str, sizes: dict[str, Any]) -> None:
    made = model(kind, sizes)
    ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        loss = made(input_ids=ids, labels=ids).loss
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    anatomy = anatomy_of(made)
    assert forward_flops(anatomy, LENGTH) * ROWS * LENGTH == forward
    # The first layer's inputs need no gradient: no weight stands before the embedding.
    assert training_flops(anatomy, LENGTH) * ROWS * LENGTH == forward + counter.get_total_flops()
    assert forward_flops(anatomy, LENGTH + 1) > forward_flops(anatomy, LENGTH)


def test_a_state_costs_the_same_in_any_length() -> None:
    """Its contraction (of what writes it with what reads it) is none of every token with every other."""
    anatomy = anatomy_of(model("mamba", dict(hidden_size=48, num_hidden_layers=2, state_size=5)))
    assert forward_flops(anatomy, 10) == forward_flops(anatomy, 1000)
