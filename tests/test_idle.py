"""What is the same for all keys: softmax cancels it, so that it has no gradient, and `idle` says so."""

from __future__ import annotations

import dataclasses
from typing import Any

import families as F
import pytest
import torch

from isogrow.laws import idle
from isogrow.verification.float64 import float64
from isogrow.verification.runs import called, main_outputs

EVERY, UNTURNED, NONE = slice(None), slice(6, None), slice(0, 0)  # of a head's channels


@pytest.mark.parametrize(
    ("name", "sizes", "slot", "ends", "still"),
    [
        ("opt", {}, "attn.k.bias", "k_proj.bias", EVERY),
        ("phi", {}, "attn.k.bias", "k_proj.bias", UNTURNED),
        ("phi", {"qk_layernorm": True, "hidden_size": 72}, "attn.k_norm.bias", "k_layernorm.bias", UNTURNED),
        ("qwen2", {}, "attn.k.bias", "k_proj.bias", NONE),
    ],
)
def test_what_is_the_same_for_all_keys_has_no_gradient(
    name: str, sizes: dict[str, Any], slot: str, ends: str, still: slice
) -> None:
    family = F.FAMILIES[name]
    subject = F.subject(dataclasses.replace(family, sizes={**family.sizes, **sizes}))
    width = subject.anatomy.sizes.of("key_dim", ())
    found = {name: p for name, p in subject.small.named_parameters() if name.endswith(ends)}
    with float64():
        values = main_outputs(called(subject.small.requires_grad_(), F.batch(subject.kind)))
        sum((value.square().sum() for value in values.values()), torch.zeros(())).backward()
    assert found
    for grad in (p.grad.view(-1, width) for p in found.values() if p.grad is not None):
        quiet = torch.zeros(width, dtype=torch.bool)
        quiet[still] = True
        rounding = 1e-12 * max(grad.abs().max(), 1.0)
        assert (grad[:, quiet].abs() < rounding).all() and (grad[:, ~quiet].abs() > rounding).all()
    assert (slot in idle(subject.anatomy)) is (still is not NONE)
