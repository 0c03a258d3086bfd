"""How others make a trained model larger, on Llama's tensors: written here for comparison alone.

- stacked: G_stack, arXiv 2405.15319: the layers, again on top. Not exact.
- tiled: HyperCloning, arXiv 2409.12903: every width doubled by copies, what reads a copied axis halved; with
  `noise`, numbers that cancel over the two copies of an input are added, 10 dB below the weights.
- split: LEMON, arXiv 2310.07999: as tiled, but each reader divides its weight between the two copies of an
  input in a random ratio.
- shrunk: shrink, pad and perturb, arXiv 2605.13405: a new model, and a `share` of the small one's
  matrices added where they have a place; norms are the small one's there. Not exact.
- padded: zero for everything that is new, the free blocks too: the direct zero growth of arXiv 2405.15319.

Each gives the new state dict; the same map with `power` 1 or 2 carries Adam's moments, as gradients scale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.training.growing import grow
from benchmarks.training.models import config, new_model
from benchmarks.training.optimizing import matrices_by, optimizer_of, parts_of
from benchmarks.training.scale import scale

State = Mapping[str, Tensor]
EMBEDDING = "model.embed_tokens.weight"
NOISE = 10**-0.5  # of the weights' std: 10 dB
MOMENTS = {"exp_avg": 1, "exp_avg_sq": 2}  # and the power of the gradient that each is of
RATIO = (0.25, 0.75)  # what a reader may give to the first copy
Shapes = Mapping[str, torch.Size]
Rival = Callable[[State, Shapes, int, torch.Generator, Mapping[str, Any]], dict[str, Tensor]]


def stacked(
    state: State, shapes: Shapes, power: int, random: torch.Generator, options: Any
) -> dict[str, Tensor]:
    """Layer i of the larger model is layer i mod n of the smaller."""
    layers = 1 + max(int(found[1]) for name in state if (found := LAYER.search(name)))
    return {
        name: state[LAYER.sub(lambda m: f"layers.{int(m[1]) % layers}.", name)].clone() for name in shapes
    }


def doubled(
    state: State, shapes: Shapes, power: int, random: torch.Generator, options: Any
) -> dict[str, Tensor]:
    """Copies along every axis that doubles; readers share their weight between copies of what they read."""
    made: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        old = state[name]
        written, read = _times(name, old.shape, shape)
        new = old.repeat(*(n // o for n, o in zip(shape, old.shape, strict=True)))
        if power:  # what writes to two copies has half the gradient in each
            new = new / written**power
        elif read == 2:
            new = torch.cat(_halves(old.repeat(written, 1), random, options), dim=1)
        made[name] = new
    return made


def padded_(large: Any, twin: Any) -> None:
    """Zero where two growths that differ in their random numbers differ."""
    with torch.no_grad():
        for mine, other in zip(large.parameters(), twin.parameters(), strict=True):
            mine[mine != other] = 0.0


LAYER = re.compile(r"layers\.(\d+)\.")


def _times(name: str, old: torch.Size, new: torch.Size) -> tuple[int, int]:
    """How often a tensor's outputs, and its inputs, are there in the larger model."""
    ratios = [n // o for n, o in zip(new, old, strict=True)]
    assert all(n == o * r for n, o, r in zip(new, old, ratios, strict=True)), (
        f"{name}: {old} does not tile {new}"
    )
    if name == EMBEDDING:
        return ratios[1], ratios[0]
    return (ratios[0], ratios[1]) if len(ratios) == 2 else (ratios[0], 1)


def _halves(weight: Tensor, random: torch.Generator, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """What a reader gives to the first copy of what it reads, and to the second: together its weight."""
    share = torch.full_like(weight, 0.5)
    if options.get("split"):
        share.uniform_(*RATIO, generator=random)
    first = share * weight
    if options.get("noise"):
        first = first + torch.randn(weight.shape, generator=random) * (NOISE * first.std())
    return first, weight - first


# ── as methods of growth ──


def copied(rival: Rival) -> Any:
    """The method that makes the weights, and with `carry` the optimizer's moments, by this map."""

    def method(
        model: Any, optimizer: Any, size: str, seed: int, step: int, options: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        large = LlamaForCausalLM(config(size, 0.02)).train()
        shapes = {name: p.shape for name, p in large.named_parameters()}
        random = torch.Generator().manual_seed(seed)
        old = {name: p.detach().cpu() for name, p in model.named_parameters()}
        large.load_state_dict(rival(old, shapes, 0, random, options), strict=True)
        made = optimizer_of(large.to(scale().device), matrices_by(optimizer))
        if options.get("carry"):
            fresh = options.get("fresh", False)
            _carry_(
                model,
                optimizer,
                large,
                made,
                lambda state, k: rival(state, shapes, k, random, options),
                fresh,
            )
        return large, made

    return method


def _carry_(model: Any, optimizer: Any, large: Any, made: Any, carried: Any, fresh: bool) -> None:
    """Moments by the map; with `fresh` none of what was not there, as if it had never had a gradient."""
    state = optimizer.state
    states = {name: state[p] for name, p in model.named_parameters()}
    step = next(own["step"] for own in states.values() if "step" in own)
    moments = {
        key: carried({name: _moment(own, key).cpu() for name, own in states.items()}, power)
        for key, power in MOMENTS.items()
    }
    names = {p: name for name, p in large.named_parameters()}
    for part in parts_of(made):
        adam = isinstance(part, torch.optim.AdamW)
        for p in (p for group in part.param_groups for p in group["params"]):
            name = names[p]
            own = {key: moments[key][name].to(p.device) for key in (MOMENTS if adam else ("exp_avg",))}
            if fresh:
                own = {key: _old_alone(value, states[name]) for key, value in own.items()}
            part.state[p] = {"step": step.clone(), **own} if adam else {"momentum_buffer": own["exp_avg"]}


def _moment(own: Mapping[str, Tensor], key: str) -> Tensor:
    """A parameter's moment; Muon has but the first."""
    if "momentum_buffer" not in own:
        return own[key]
    return own["momentum_buffer"] if key == "exp_avg" else torch.zeros_like(own["momentum_buffer"])


def _old_alone(value: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    """Zero behind what was there before."""
    box = tuple(slice(n) for n in _moment(own, "exp_avg").shape)
    kept = torch.zeros_like(value)
    kept[box] = value[box]
    return kept


def shrunk(
    model: Any, optimizer: Any, size: str, seed: int, step: int, options: Mapping[str, Any]
) -> tuple[Any, Any]:
    """As a method; the optimizer is a new one."""
    large, old = new_model(size, options["std"], seed + 1), dict(model.named_parameters())
    with torch.no_grad():
        for name, p in large.named_parameters():
            if name in old:
                box = tuple(slice(n) for n in old[name].shape)
                p[box] = old[name] if p.dim() == 1 else p[box] + options["share"] * old[name]
    return large, optimizer_of(large, matrices_by(optimizer))


def padded(
    model: Any, optimizer: Any, size: str, seed: int, step: int, options: Mapping[str, Any]
) -> tuple[Any, Any]:
    twin, *_ = grow(model, optimizer, size, seed + 1, step, {})
    large, made, *_ = grow(model, optimizer, size, seed, step, {})
    padded_(large, twin)
    return large, made
