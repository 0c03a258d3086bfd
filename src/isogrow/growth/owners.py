"""What a model is wrapped in, or is a part of, where growing it would go wrong without a word."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from isogrow.errors import FamilyError, StateError
from isogrow.growth.replicas import check_renewed

# Wrappers that hold on to the parameters which a growth in place gives up, and what they would do.
HOLDERS: Mapping[str, str] = {
    "FullyShardedDataParallel": "would go on gathering the shards of the old parameters",
    "FSDPModule": "would go on gathering the shards of the old parameters",
    "DeepSpeedEngine": "would go on updating the old parameters",
}


def check_given(model: object) -> None:
    """Refuse what is no model in memory, and a model that holds more, or less, than its class says.

    Raises `FamilyError`: for what is no module (a folder's name, a state dict), for adapters.
    """
    if not isinstance(model, nn.Module):
        what = repr(model) if isinstance(model, str) else f"a {type(model).__name__}"
        raise FamilyError(
            f"{what:.80} is no model in memory: load it first (from_pretrained), or grow a folder by"
            " isogrow.grow_checkpoint(folder, out, …)"
        )
    if torch.is_inference_mode_enabled():
        raise FamilyError(
            f"{type(model).__name__} is given under torch.inference_mode(), where what is made can never be"
            " trained: call it outside of that, or under torch.no_grad()"
        )
    strange = {str(each.dtype) for each in model.parameters() if each.dtype.itemsize < 2}
    if strange:
        raise FamilyError(
            f"{type(model).__name__} has parameters of {', '.join(sorted(strange))}, and only 16 bits"
            " or more can be grown: give the model that it was made from"
        )
    adapter = next((name for name, part in model.named_modules() if _of_peft(part)), None)
    if adapter is not None:
        where = f", at {adapter}" if adapter else ""
        raise FamilyError(
            f"{type(model).__name__} holds an adapter of PEFT's{where}, which would not grow with it: call"
            " merge_and_unload() on the PeftModel and grow what that returns; or save the adapter, grow the"
            " base's folder, and then the adapter's by isogrow.grow_adapter(adapter, out, base=grown)"
        )


def check_free(model: nn.Module) -> list[DistributedDataParallel]:
    """Refuse to grow a model in place while something else relies on its parts, shapes or config.

    That is a wrapper which holds its parameters, or a larger model of Hugging Face's, whose config and tied
    weights would stay as they were. Raises `StateError`. Returns the wrappers that can be renewed
    (`isogrow.growth.replicas`), and have to be.
    """
    renewed: list[DistributedDataParallel] = []
    held, shared = _around(model)
    if held or shared:
        gc.collect()  # a wrapper that was given up, and lives on in a cycle, is none
        held, shared = _around(model)
    for owner, name in held:
        if isinstance(owner, DistributedDataParallel):
            check_renewed(owner)
            renewed.append(owner)
        elif (what := _holder(owner)) is not None:
            raise StateError(
                f"the model is held by a {what}, which {HOLDERS[what]}: delete the {what}, grow the model it"
                " held on every process alike (same request, same seed), and wrap it again"
            )
        elif isinstance(owner, PreTrainedModel):
            raise StateError(
                f"this {type(model).__name__} is the part {name!r} of a {type(owner).__name__}, whose config"
                f" and tied weights would stay as they were: grow the {type(owner).__name__}, or give it what"
                " isogrow.grow makes of the part"
            )
    for owner, name, own in shared:
        raise StateError(
            f"{own} of this {type(model).__name__} is {name!r} of a {type(owner).__name__} too, which would"
            f" keep the old one: take it out of the {type(owner).__name__}, grow, and give it the grown one"
        )
    return renewed


def _of_peft(part: nn.Module) -> bool:
    return type(part).__module__.partition(".")[0] == "peft"


def _holder(owner: nn.Module) -> str | None:
    return next((kind.__name__ for kind in type(owner).__mro__ if kind.__name__ in HOLDERS), None)


def _around(model: nn.Module) -> tuple[list[tuple[nn.Module, str]], list[tuple[nn.Module, str, str]]]:
    """The modules of this process that hold this one, and those that share a part of it."""
    modules: list[nn.Module] = []
    for each in gc.get_objects():
        kind: type[Any] = type(each)  # not isinstance, which asks an object that may be a lazy stand-in
        if issubclass(kind, nn.Module):
            modules.append(each)
    return _held(model, modules), _shared(model, modules)


def _shared(model: nn.Module, modules: list[nn.Module]) -> list[tuple[nn.Module, str, str]]:
    """The modules outside of this one that have a part or a parameter of it as theirs: its name there, and
    here."""
    own = {id(part) for part in model.modules()}
    inner = {id(each): name for name, each in (*model.named_modules(), *model.named_parameters()) if name}
    return [
        (owner, name, inner[id(each)])
        for owner in modules
        if id(owner) not in own
        for kind in ("_modules", "_parameters")
        for name, each in list((vars(owner).get(kind) or {}).items())
        if id(each) in inner
    ]


def _held(model: nn.Module, modules: list[nn.Module]) -> list[tuple[nn.Module, str]]:
    """The modules that have this one as a part, or as a part of their parts, and its name there; a part knows
    none of them itself."""
    found, names = list[tuple[nn.Module, str]](), {id(model): ""}
    inner = [model]
    while inner:
        within, inner = {id(each) for each in inner}, []
        for owner in modules:
            parts = vars(owner).get("_modules") or {}
            own = next((name for name, part in list(parts.items()) if id(part) in within), None)
            if own is not None and id(owner) not in names:
                names[id(owner)] = f"{own}.{names[id(parts[own])]}".rstrip(".")
                found.append((owner, names[id(owner)]))
                inner.append(owner)
    return found
