"""A smaller model out of a larger one, as Minitron makes it (arXiv 2407.14679): the least important layers,
channels, heads and neurons are cut away, and what is left learns the larger one's outputs.

What is important is read off activations on some batches: of a channel the mean size of what the norms give,
of a neuron that of its activation, of a head the norm of its output, of a layer how far it turns the stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.training.models import config, flops_of, step_flops
from benchmarks.training.optimizing import matrices_by, optimizer_of
from benchmarks.training.scale import scale
from benchmarks.training.text import batch

LOOKED_AT = 4  # batches


def prune(
    model: Any, optimizer: Any, size: str, seed: int, step: int, options: Mapping[str, Any]
) -> tuple[Any, ...]:
    """As a method of `methods.METHODS`; its passes forward, each a third of a step, are counted."""
    small = pruned(model, size, [batch(seed, step + i) for i in range(LOOKED_AT)])
    looks = math.ceil(LOOKED_AT * flops_of(model) / 3 / step_flops(size))
    return small, optimizer_of(small, matrices_by(optimizer)), looks


def pruned(model: Any, size: str, batches: Sequence[Tensor]) -> LlamaForCausalLM:
    """The model of this size that keeps what is most important."""
    small = LlamaForCausalLM(config(size, 0.02)).train()
    given, own = scale().sizes[size], importance(model, batches)
    channels = _most(own["channels"], given["hidden"])
    layers = _most(own["layers"], given["layers"]).tolist()
    old, made = dict(model.named_parameters()), dict[str, Tensor]()
    for name in dict(small.named_parameters()):
        where, _, rest = name.removeprefix("model.layers.").partition(".")
        if not where.isdigit():
            made[name] = old[name][..., channels]  # embedding, head and last norm have channels last
            continue
        layer = layers[int(where)]
        whole = old[f"model.layers.{layer}.{rest}"]
        made[name] = _cut(rest, whole, channels, _inner(rest, own, layer, given))
    small.load_state_dict(made, strict=True)
    return small.to(scale().device)


def importance(model: Any, batches: Sequence[Tensor]) -> dict[str, Tensor]:
    """How important each is: "channels" and "layers" of the model, "neurons 0", "heads 0" … of each layer."""
    found: dict[str, list[Tensor]] = {}

    def seen(name: str, value: Tensor) -> None:
        found.setdefault(name, []).append(value.detach().double().cpu())

    def of_norm(module: Any, given: Any, output: Tensor) -> None:
        seen("channels", output.abs().mean((0, 1)))

    hooks = [model.model.norm.register_forward_hook(of_norm)]
    for i, layer in enumerate(model.model.layers):

        def of_neurons(module: Any, given: Any, i: int = i) -> None:
            seen(f"neurons {i}", given[0].abs().mean((0, 1)))

        def of_heads(module: Any, given: Any, i: int = i) -> None:
            seen(f"heads {i}", given[0].unflatten(-1, (-1, scale().head_dim)).norm(dim=-1).mean((0, 1)))

        def of_layer(module: Any, given: Any, output: Any, i: int = i) -> None:
            after = output if isinstance(output, Tensor) else output[0]
            seen(f"layer {i}", 1 - torch.cosine_similarity(given[0], after, dim=-1).mean())

        hooks += [
            layer.input_layernorm.register_forward_hook(of_norm),
            layer.post_attention_layernorm.register_forward_hook(of_norm),
            layer.mlp.down_proj.register_forward_pre_hook(of_neurons),
            layer.self_attn.o_proj.register_forward_pre_hook(of_heads),
            layer.register_forward_hook(of_layer),
        ]
    with torch.no_grad():
        for ids in batches:
            model(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    means = {name: torch.stack(values).mean(0) for name, values in found.items()}
    return {**means, "layers": torch.stack([means[f"layer {i}"] for i in range(len(model.model.layers))])}


def _most(importance: Tensor, count: int) -> Tensor:
    """The places of the most important, in their order."""
    return importance.topk(count).indices.sort().values


def _inner(name: str, own: Mapping[str, Tensor], layer: int, given: Mapping[str, int]) -> Tensor:
    """The rows within a block that are kept: neurons, or the rows of heads."""
    if name.startswith("mlp"):
        return _most(own[f"neurons {layer}"], given["ffn"])
    heads, width = _most(own[f"heads {layer}"], given["heads"]), scale().head_dim
    return (heads[:, None] * width + torch.arange(width)).flatten()


def _cut(name: str, whole: Tensor, channels: Tensor, inner: Tensor) -> Tensor:
    """A tensor of a layer without what is cut away: channels are what a block reads first and writes last."""
    if whole.dim() == 1:
        return whole[channels]
    writes = name.endswith(("o_proj.weight", "down_proj.weight"))
    return whole[channels][:, inner] if writes else whole[inner][:, channels]


def distilled(student: Any, teacher: Any, ids: Tensor) -> Tensor:
    """How far the student's next bytes are from the teacher's: KL(teacher, student), the mean over places."""
    with torch.autocast(scale().device, torch.bfloat16, enabled=scale().bf16):
        with torch.no_grad():
            wanted = teacher(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
        found = student(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
    return torch.nn.functional.kl_div(found, wanted, log_target=True, reduction="none").sum(-1).mean()
