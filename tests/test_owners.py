"""What is no model, and models that are wrapped or parts of others: refused, never grown apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from checkpoints import save
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

import isogrow
from isogrow.errors import CheckpointError, FamilyError, SizeError, StateError


def llama() -> Any:
    return tiny.model("LlamaForCausalLM")


@pytest.mark.parametrize("grow", [isogrow.grow, isogrow.grow_])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("some/folder", "'some/folder' is no model in memory: load it first .* isogrow.grow_checkpoint"),
        ({"weight": torch.ones(2)}, "a dict is no model in memory: load it first"),
        (None, "a NoneType is no model in memory"),
    ],
)
def test_what_is_no_model(grow: Any, given: Any, said: str) -> None:
    with pytest.raises(FamilyError, match=said):
        grow(given, ffn=64)


@pytest.mark.parametrize("grow", [isogrow.grow, isogrow.grow_])
@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            {"plan": [1]},
            r"plan= is given \[1\], which is no isogrow.Plan: give one, its JSON, or the file or grown",
        ),
        (
            {"ffn": 2.5},
            r"ffn=2.5 is 2.5 from \d+, .* not a whole number: give 'x2.5' for 2.5 times \d+",
        ),
    ],
)
def test_what_is_no_request(grow: Any, request_: dict[str, Any], said: str) -> None:
    with pytest.raises(SizeError, match=said):
        grow(llama(), **request_)


def test_a_size_without_its_name(tmp_path: Path) -> None:
    given: Any = 64
    with pytest.raises(SizeError, match="64 is no expansion: give sizes by name"):
        isogrow.grow(llama(), given)
    said = "no size is given, so there is nothing to grow: give one, like ffn='x2', or to= or plan="
    with pytest.raises(SizeError, match=said):
        isogrow.grow(llama())
    with pytest.raises(SizeError, match=said):
        isogrow.grow_checkpoint(save(tmp_path / "small"), tmp_path / "large")


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_a_part_of_a_model_is_not_grown_in_place(tied: bool) -> None:
    owner = tiny.model("LlamaForCausalLM", tie_word_embeddings=tied)
    before = {name: x.clone() for name, x in owner.state_dict().items()}
    with pytest.raises(StateError, match="LlamaModel is the part 'model' of a LlamaForCausalLM, .* grow the"):
        isogrow.grow_(owner.model, layers="+1")
    assert all(torch.equal(x, before[name]) for name, x in owner.state_dict().items())
    assert len(isogrow.grow(owner.model, layers="+1").layers) == len(owner.model.layers) + 1  # a new model


@pytest.mark.slow
def test_a_module_of_ones_own_may_hold_a_model() -> None:
    model = llama()
    owner = nn.ModuleDict({"backbone": model})
    isogrow.grow_(model, layers="+1")
    assert owner["backbone"] is model and len(model.model.layers) == model.config.num_hidden_layers


def test_the_wrapper_itself_is_not_grown(one_process: None) -> None:
    wrapper = DistributedDataParallel(llama())
    with pytest.raises(FamilyError, match="DistributedDataParallel is a wrapper around a model: give the"):
        isogrow.grow_(wrapper, ffn="x2")


@pytest.mark.slow
def test_a_wrapper_that_holds_the_parameters() -> None:
    """FSDP1 and DeepSpeed are told by their classes' names."""
    model = llama()
    holder: Any = type("FullyShardedDataParallel", (nn.Module,), {})()
    holder.module = nn.ModuleDict({"backbone": model})  # at any depth
    with pytest.raises(StateError, match="held by a FullyShardedDataParallel, .* delete .* wrap it again"):
        isogrow.grow_(model, ffn="x2")
    del holder
    isogrow.grow_(model, ffn="x2")


@pytest.mark.parametrize("kind", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_a_parameter(kind: str) -> None:
    model = llama()
    hook = getattr(model.lm_head.weight, kind)(lambda x: None)
    with pytest.raises(CheckpointError, match="lm_head.weight has hooks of its own, which the grown model's"):
        isogrow.grow_(model, ffn="x2")
    hook.remove()
    isogrow.grow_(model, ffn="x2")


def test_parameters_that_layers_share() -> None:
    """Ties that the config has go on; others would be two in the grown model."""
    model = llama()
    model.model.layers[2].mlp.up_proj.weight = model.model.layers[0].mlp.up_proj.weight
    said = "layers.0.mlp.up_proj.weight and model.layers.2.mlp.up_proj.weight are one parameter, and by the"
    for grow in (isogrow.grow, isogrow.grow_):
        with pytest.raises(FamilyError, match=said):
            grow(model, ffn="x2")
    model = llama()
    model.lm_head.weight = model.model.embed_tokens.weight
    assert not model.config.tie_word_embeddings
    with pytest.raises(FamilyError, match="embed_tokens.weight and lm_head.weight are .* config tie"):
        isogrow.grow(model, ffn="x2")
    model.config.tie_word_embeddings = True
    large = isogrow.grow(model, ffn="x2")
    assert large.lm_head.weight is large.model.embed_tokens.weight


def test_a_sharded_model(one_process: None) -> None:
    model, mesh = llama(), init_device_mesh("cpu", (1,))
    norm = model.model.norm
    norm.weight = nn.Parameter(DTensor.from_local(norm.weight.detach(), mesh, [Replicate()]))
    with pytest.raises(StateError, match="LlamaForCausalLM is spread over ranks: give shard=, the function"):
        isogrow.grow(model, ffn="x2")
    with pytest.raises(StateError, match="LlamaForCausalLM is spread over ranks: give shard=, the function"):
        isogrow.grow_(model, ffn="x2")
    assert isogrow.plan(model, ffn="x2") == isogrow.plan(llama(), ffn="x2")


def test_an_adapter_in_the_model() -> None:
    """A layer as PEFT puts it in the place of another; only where its class comes from counts."""
    model = llama()
    adapted: Any = type("Linear", (nn.Linear,), {"__module__": "peft.tuners.lora.layer"})
    attention = model.model.layers[0].self_attn
    attention.q_proj = adapted(attention.q_proj.in_features, attention.q_proj.out_features, bias=False)
    said = r"holds an adapter of PEFT's, at model.layers.0.self_attn.q_proj, .* merge_and_unload\(\)"
    for grow in (isogrow.grow, isogrow.grow_):
        with pytest.raises(FamilyError, match=said):
            grow(model, ffn="x2")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_beside_a_model(tmp_path: Path, name: str) -> None:
    small = save(tmp_path / "small")
    (small / name).write_text("{}")
    with pytest.raises(CheckpointError, match=rf"holds an adapter \({name}\), .* merge_and_unload"):
        isogrow.grow_checkpoint(small, tmp_path / "large", ffn="x2")
    assert not (tmp_path / "large").exists()


def test_activation_checkpointing_is_kept() -> None:
    def on(model: nn.Module) -> int:
        return sum(bool(getattr(part, "gradient_checkpointing", False)) for part in model.modules())

    model = llama()
    assert not on(isogrow.grow(model, layers="+1"))
    model.gradient_checkpointing_enable()
    assert on(isogrow.grow(model, layers="+1")) == on(model) + 1  # the new layer too


# ── what is shared with others ──


def with_embedding(model: Any) -> nn.Module:
    return nn.ModuleDict({"lm": model, "embed": model.get_input_embeddings()})


def with_tied_head(model: Any) -> nn.Module:
    head = nn.Linear(2, 2, bias=False)
    head.weight = model.get_input_embeddings().weight
    return head


def another_on_the_trunk(model: Any) -> nn.Module:
    other = llama()
    other.model = model.model
    return other


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (
            with_embedding,
            "model.embed_tokens of this Llama.* is 'embed' of a ModuleDict too, which would keep",
        ),
        (with_tied_head, "model.embed_tokens.weight of this .* is 'weight' of a Linear too"),
        (
            another_on_the_trunk,
            "model of this .* is 'model' of a LlamaForCausalLM too, .* take it",
        ),
    ],
)
def test_parts_that_others_hold_as_well(share: Any, said: str) -> None:
    model = llama()
    owner = share(model)
    with pytest.raises(StateError, match=said):
        isogrow.grow_(model, layers="+1")
    del owner
    isogrow.grow_(model, layers="+1")


def test_a_part_in_a_wrapper_within() -> None:
    model = llama()
    model.model.layers[0] = torch.compile(model.model.layers[0])
    said = r"model.layers.0._orig_mod.* is within a wrapper that changes its name: compile .* \(part.compile"
    for grow in (isogrow.grow, isogrow.grow_):
        with pytest.raises(FamilyError, match=said):
            grow(model, ffn="x2")


def test_a_class_that_takes_more_than_its_config() -> None:
    class Own(transformers.LlamaForCausalLM):
        def __init__(self, config: Any, more: int) -> None:
            super().__init__(config)
            self.more = more

    said = "Own takes more beside its config, and the grown model is made of its config alone: give more a"
    with pytest.raises(FamilyError, match=said):
        isogrow.grow(Own(llama().config, 3), ffn="x2")
