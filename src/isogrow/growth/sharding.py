"""The grown model as the user's own function shards it, with room for this rank's parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from isogrow.errors import IsogrowError, StateError
from isogrow.growth.as_built import carry_settings_
from isogrow.growth.models import build_of
from isogrow.interpreters.module import numberless_module
from isogrow.numbers.local import local_of, parts_of
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import Plan
from isogrow.plans.spread import check_even

Shard = Callable[[Any], object]


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of a model by every name that they have."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def sharded_anew(model: nn.Module, anatomy: Anatomy, plan: Plan, shard: Shard) -> nn.Module:
    """The grown model as the user's function shards it, with room for this rank's parts."""
    large = numberless_module(model, anatomy, plan, build_of(model))
    carry_settings_(model, large, anatomy, plan)
    buffers = {name: x.detach().clone() for name, x in large.named_buffers()}
    shapes = {name: tuple(x.shape) for name, x in large.named_parameters()}
    large = _by_user(large, shard)
    for name, x in large.named_parameters():
        if shapes.get(name) != tuple(x.shape):
            was = list(shapes[name]) if name in shapes else "not there"
            raise StateError(
                f"after shard= {name} is {list(x.shape)}, and before it was {was}: the function may spread"
                " parameters over ranks, and change nothing else"
            )
        check_even(name, tuple(x.shape), parts_of(x))
    _make_room_(large, model)
    with torch.no_grad():
        for name, x in large.named_buffers():
            if name in buffers:
                local_of(x).copy_(buffers[name])
    return large


def _by_user(large: nn.Module, shard: Shard) -> nn.Module:
    try:
        found = shard(large)
    except IsogrowError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise StateError(
            f"shard= can't shard the grown model: {said}; choose sizes that it can, or change the function"
        ) from error
    return found if isinstance(found, nn.Module) else large


def _make_room_(large: nn.Module, model: nn.Module) -> None:
    """This rank's parts get memory where the old model's are; what was one tensor stays one."""
    first: dict[int, str] = {}
    twins = {
        name: first.setdefault(id(x), name) for name, x in large.named_parameters(remove_duplicate=False)
    }
    homes = [[local_of(x).device for x in each] for each in (model.parameters(), model.buffers())]
    place, side = (next(iter(home), torch.device("cpu")) for home in homes)

    def room(x: Tensor) -> Tensor:
        if x.is_meta:
            return torch.empty_like(x, device=place)
        return x if isinstance(x, nn.Parameter) else x.to(side)

    own: Any = large
    own._apply(room)  # as `to_empty` does it, which would take the buffers' numbers too
    found = dict(large.named_parameters(remove_duplicate=False))
    for name, home in twins.items():
        if found[name] is not found[home]:
            part, _, own = name.rpartition(".")
            setattr(large.get_submodule(part), own, found[home])
