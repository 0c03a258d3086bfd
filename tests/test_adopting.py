"""Growing in place: the model stays the object that others hold, and becomes the grown one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import subjects
import tiny
import torch
from torch import nn
from torch.distributed._composable import checkpoint
from transformers.integrations.neftune import activate_neftune, deactivate_neftune

import isogrow
from isogrow.errors import CheckpointError
from isogrow.growth.api import grow_

IDS = torch.arange(11)[None]
SIZES: dict[str, Any] = dict(hidden=32, ffn="x2", layers="+1")


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_it_is_what_grow_makes() -> None:
    model = tiny.model("LlamaForCausalLM")
    large = isogrow.grow(copy.deepcopy(model), **SIZES)
    plan = grow_(model, **SIZES)
    assert isogrow.plan_of(model) is not None
    assert plan.target.of("hidden") == model.config.hidden_size == 32
    made, wanted = model.state_dict(), large.state_dict()
    assert made.keys() == wanted.keys()
    assert all(torch.equal(made[name], wanted[name]) for name in made)


def test_what_belongs_to_the_object_stays() -> None:
    model: Any = tiny.model("LlamaForCausalLM").train()
    before, seen = logits(model.eval()), list[str]()
    model.train()
    model.register_forward_hook(lambda *_: seen.append("hook"))
    model.of_mine = "kept"
    original = type(model).forward

    def wrapped(*given: Any, **named: Any) -> Any:
        seen.append("forward")
        return original(model, *given, **named)

    model.forward = wrapped
    grow_(model, **SIZES)
    assert model.training and model.of_mine == "kept"
    after = logits(model.eval())
    assert seen == ["forward", "hook"]
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


def test_hooks_of_parts_are_refused_by_name() -> None:
    model: Any = tiny.model("LlamaForCausalLM")
    handle = model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp has forward hooks, which the grown"):
        grow_(model, **SIZES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    handle.remove()
    model.model.norm.forward = lambda x: x
    with pytest.raises(CheckpointError, match=r"model\.norm has a forward of its own.* put it back"):
        grow_(model, **SIZES)
    del model.model.norm.forward
    grow_(model, **SIZES)


def test_noise_on_embeddings_goes_on() -> None:
    """NEFTune, as a Trainer puts it there; the handle takes it off again."""
    model: Any = tiny.model("LlamaForCausalLM").train()
    handle = activate_neftune(model, 5.0)
    grow_(model, **SIZES)
    embedding = model.get_input_embeddings()
    one, two = (embedding(IDS) for _ in range(2))
    assert embedding.neftune_noise_alpha == 5.0 and not torch.equal(one, two)
    deactivate_neftune(model, handle)
    assert torch.equal(embedding(IDS), embedding(IDS)) and not embedding._forward_hooks


def test_hooks_of_torchs_own_checkpointing_are_refused() -> None:
    model: Any = tiny.model("LlamaForCausalLM")
    checkpoint(model.model.layers[0])
    with pytest.raises(CheckpointError, match=r"model\.layers\.0 has forward .*hooks, which the grown"):
        grow_(model, **SIZES)


def test_activation_checkpointing_goes_on() -> None:
    model: Any = tiny.model("LlamaForCausalLM")
    model.activation_checkpointing_enable()
    grow_(model, **SIZES)
    assert model.is_gradient_checkpointing
    assert all(layer.gradient_checkpointing for layer in model.model.layers)
    loss = model.train()(input_ids=IDS, labels=IDS).loss
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    plain: Any = tiny.model("LlamaForCausalLM")
    grow_(plain, **SIZES)
    assert not plain.is_gradient_checkpointing


def test_hooks_that_transformers_puts_on_parts_come_back() -> None:
    model: Any = tiny.model("LlamaModel")
    wanted = len(model(input_ids=IDS, output_hidden_states=True).hidden_states)
    grow_(model, **SIZES)
    assert len(model(input_ids=IDS, output_hidden_states=True).hidden_states) == wanted + 1
    asking: Any = tiny.model("LlamaForCausalLM")
    asking.enable_input_require_grads()
    grow_(asking, **SIZES)
    assert asking.get_input_embeddings()(IDS).requires_grad
    asking.requires_grad_(False)
    assert asking.get_input_embeddings()(IDS).requires_grad


def test_a_model_of_ones_own() -> None:
    small = subjects.trained(subjects.PAPER)
    model = copy.deepcopy(small)
    grow_(model, hidden=17)
    assert subjects.change(small, model) < subjects.EXACT
