"""What a type checker knows of results: `make types` reads this file, and nothing runs it.

No type depends on which keywords are given.
"""

from __future__ import annotations

from typing import assert_type

from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaForCausalLM

import isogrow
from isogrow.growth.api import Training


def results(model: LlamaForCausalLM, optimizer: AdamW, schedule: LambdaLR, state: dict[str, Tensor]) -> None:
    assert_type(isogrow.grow(model, ffn="x2"), LlamaForCausalLM)
    assert_type(isogrow.grow(model, isogrow.MlpExpansion(8), seed=3, layers_at="even"), LlamaForCausalLM)
    assert_type(isogrow.grow(model, to="larger/config.json"), LlamaForCausalLM)
    alone = isogrow.grow_training(model, optimizer=optimizer, ffn="x2")
    assert_type(alone, Training[LlamaForCausalLM, AdamW, None, None])
    assert_type(alone.model, LlamaForCausalLM)
    assert_type(alone.optimizer, AdamW)
    assert_type(alone.scheduler, None)
    whole = isogrow.grow_training(model, optimizer=[optimizer], scheduler=schedule, ema=state, layers="+1")
    assert_type(whole, Training[LlamaForCausalLM, list[AdamW], LambdaLR, dict[str, Tensor]])
    large, made, moved, average = whole
    assert_type(
        (large, made, moved, average), tuple[LlamaForCausalLM, list[AdamW], LambdaLR, dict[str, Tensor]]
    )
    assert_type(isogrow.grow_(model, optimizer=optimizer, hidden=32), isogrow.Plan)
    assert_type(isogrow.grow_checkpoint("small", "large", plan="plan.json"), isogrow.Plan)
    assert_type(isogrow.plan("small", head_dim=16), isogrow.Plan)
    isogrow.grow(model, fnn="x2")  # pyright: ignore[reportCallIssue]
    isogrow.grow(model, seed="x2")  # pyright: ignore[reportArgumentType]
