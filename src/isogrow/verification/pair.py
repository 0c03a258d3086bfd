"""The two models that are compared, and what the plan says about their channels and layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn

from isogrow.errors import CheckpointError, IsogrowError, LawError
from isogrow.growth.as_built import check_as_built
from isogrow.growth.models import anatomy_of, build_of, plan_of
from isogrow.growth.opening import seen
from isogrow.laws.history import Classes, is_old
from isogrow.layouts.config import untagged
from isogrow.layouts.layout import Index, Line
from isogrow.layouts.lines import name_axes
from isogrow.planning.request import Planned, Saved, plan_in, read_plan
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.matching import match
from isogrow.plans.pieces import Block
from isogrow.plans.plan import OLD, Old, Plan
from isogrow.plans.regions import drawn
from isogrow.plans.serial import RECORD
from isogrow.plans.sizes import Sizes
from isogrow.plans.words import stated
from isogrow.quiet import numberless, quiet
from isogrow.stores.dtypes import WORDS, torch_dtype
from isogrow.stores.loadable import class_name, classless, nameless
from isogrow.stores.mapping import mapped
from isogrow.stores.sources import Checkpoint
from isogrow.stores.store import all_of

At = tuple[str, Index]  # a block's slot and index


@dataclass(frozen=True)
class Pair:
    """A small model and the large one that was grown from it by `plan`.

    `configs` are theirs, as stored; `files` what they were read from, if both were given so. `learns_by` is
    the backward pass by which all that is new has had gradient, where the plan came with it. A folder's
    weights may be stored in another dtype than its config says, or in several: models from folders hold what
    is stored, in a dtype that is wide enough for all of it, `stored` says the dtype of each block of the
    large one's file, and `loads` in which one `from_pretrained` would have them. `beyond` are axes whose new
    channels can't be told live or dead, because a part of what has them is not there.
    """

    small: nn.Module
    large: nn.Module
    before: Anatomy
    after: Anatomy
    plan: Plan
    configs: tuple[Mapping[str, Any], Mapping[str, Any]]
    files: tuple[Checkpoint, Checkpoint] | None = None
    stored: Mapping[At, torch.dtype] = field(default_factory=dict[At, torch.dtype])
    loads: torch.dtype | None = None
    learns_by: int | None = None
    beyond: frozenset[str] = frozenset()

    @property
    def rounds(self) -> bool:
        """Whether loading the large model rounds what its files hold."""
        own = next(self.large.parameters()).dtype
        return self.loads is not None and torch.promote_types(self.loads, own) != self.loads

    @property
    def coarsest(self) -> torch.dtype:
        """The dtype of the largest rounding that the large model's weights go through, stored and loaded."""
        own = next(self.large.parameters()).dtype
        kept = (dtype for dtype in self.stored.values() if dtype.is_floating_point)
        return max((self.loads or own, *kept), key=lambda dtype: torch.finfo(dtype).eps)

    @cached_property
    def channels(self) -> Tensor | None:
        """Where the old channels of the residual stream are in the large one; None if it has not grown."""
        residual = self.before.layout.residual
        if self.plan.source.of(residual) == self.plan.target.of(residual):
            return None
        return torch.tensor(self.old_positions(residual, ()))

    @property
    def rescaled(self) -> bool:
        """Whether old channels of the residual stream are scaled (a norm's ε is a constant in the code)."""
        residual = self.before.layout.residual
        slots = self.before.slots.items()
        writers = {name for name, slot in slots if residual in slot.produced and not slot.norm}
        entries = [
            e for s in self.plan.steps if s.axis == residual for w in writers for e in [s.entry(w, OLD)]
        ]
        return any(entry != Old() for entry in entries)

    def old_positions(self, axis: str, index: Index) -> list[int]:
        """Positions on the grown axis that are old channels, by the old channels' order."""
        return old_positions(self.plan, axis, index)

    def new_positions(self, axis: str, index: Index) -> list[int]:
        """Positions on the grown axis that are new channels; in a new layer all of them are."""
        if (axis, index) not in self._new:
            self._new[axis, index] = self._find_new(axis, index)
        return self._new[axis, index]

    @cached_property
    def _new(self) -> dict[tuple[str, Index], list[int]]:
        return {}

    def grown_blocks(self, tensors: Iterable[Stored]) -> Iterator[Block]:
        """The blocks in which these tensors have new channels, but for those that run beyond."""
        for stored in tensors:
            for _, block in stored.blocks(self.plan.target):
                axes = (a for a in block.axes if not a.isdigit() and a not in self.beyond)
                if any(self.new_positions(axis, block.index) for axis in axes):
                    yield block

    def _find_new(self, axis: str, index: Index) -> list[int]:
        past, size = Classes(self.plan), range(self.plan.target.of(axis, index))
        if any(not is_old(past.history(a, index[:at], i)) for at, (a, i) in enumerate(index)):
            return list(size)
        if not any(step.axis == axis for step in self.plan.steps):
            return []
        site = self.plan.target.site(axis, index)
        if site != index:
            return self.new_positions(axis, site)
        return [p for p in size if not is_old(past.history(axis, index, p))]

    @cached_property
    def layer_map(self) -> dict[str, str]:
        """Modules of the small model and their counterparts, in the order in which they run."""
        found = {
            _module(self.before, line, index): _module(self.before, line, self._moved(index))
            for line, index in _stations(self.before)
        }
        return {name: found[name] for name, _ in self.small.named_modules() if name in found}

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The same modules of the large model and those of new layers, in the order in which they run."""
        found = {_module(self.after, line, index) for line, index in _stations(self.after)}
        return tuple(name for name, _ in self.large.named_modules() if name in found)

    @cached_property
    def repeated(self) -> tuple[str, ...]:
        """Those of the large model's modules that are whole layers, in the same order."""
        found = {_module(self.after, line, index) for line, index in _stations(self.after) if index}
        return tuple(name for name in self.layers if name in found)

    def _moved(self, index: Index) -> Index:
        """Where an old layer is now."""
        return tuple((axis, self.old_positions(axis, ())[i]) for axis, i in index)


def _stations(anatomy: Anatomy) -> Iterator[tuple[Line, Index]]:
    """Each line of a model, at each layer that it has."""
    for line in dict.fromkeys(stored.line for stored in anatomy.stored):
        yield from ((line, index) for index in anatomy.sizes.indices(name_axes(line.name)[:1]))


def _module(anatomy: Anatomy, line: Line, index: Index) -> str:
    """The module that holds a line's tensor: the whole layer, where the line is one of a layer's."""
    name = line.name.split("}")[0] + "}" if index else line.name.rpartition(".")[0]
    return ("" if line.slot.head else anatomy.prefix) + name.format(**dict(index))


def pair(
    small: Checkpoint | nn.Module,
    large: Checkpoint | nn.Module,
    plan: Saved | None = None,
    hollow: bool = False,
) -> Pair:
    """Load what is given as a checkpoint, and find the plan by which the large model was grown.

    With `hollow` nothing is loaded: the models of checkpoints have their parameters on the meta device.
    """
    made = _recorded(large) if plan is None else read_plan(plan)
    for given in (small, large):
        if isinstance(given, Checkpoint):
            seen(given)  # whose config and tensors don't fit each other is told before any is loaded
    load = numberless_model if hollow else _model
    models = [model if isinstance(model, nn.Module) else _by_class(model, load) for model in (small, large)]
    before, after = anatomy_of(models[0]), anatomy_of(models[1])
    _check_sizes(before, after, made)
    _check_alike(before, after, made)
    for given, model, anatomy in zip((small, large), models, (before, after), strict=True):
        if isinstance(given, nn.Module):
            check_as_built(model, anatomy, build_of(model))
    made = drawn(made)  # free entries may be anything, and a function that fills them may be unknown here
    files = None if isinstance(small, nn.Module) or isinstance(large, nn.Module) else (small, large)
    configs = (before.config, after.config) if files is None else (files[0].config, files[1].config)
    stored = {} if isinstance(large, nn.Module) else _stored(after, large)
    loads = None if isinstance(large, nn.Module) else _said(large)
    learns_by = plan.learns_by if isinstance(plan, Planned) else None
    return Pair(models[0], models[1], before, after, made, configs, files, stored, loads, learns_by)


def _check_sizes(before: Anatomy, after: Anatomy, made: Plan) -> None:
    """Refuse a plan that starts or ends elsewhere than these models do. A checkpoint may hold more than its
    class: then the plan knows axes that the models lack."""
    sizes = {axis: made.source.values.get(axis) for axis in before.sizes.values}
    if sizes != before.sizes.values:
        raise LawError(
            f"the plan starts at {stated(made.source, before.layout.stacks)}, and the small model has"
            f" {stated(before.sizes, before.layout.stacks)}: give the model that this one was grown from"
        )
    if _shapes(after, after.sizes) != _shapes(after, made.target):
        raise LawError(
            f"the plan ends at {stated(made.target, before.layout.stacks)}, and the large model has"
            f" {stated(after.sizes, before.layout.stacks)}: give the model that was grown by this plan, or"
            " the plan by which this one was"
        )


def _check_alike(before: Anatomy, after: Anatomy, made: Plan) -> None:
    """Refuse models of other families, or with other weights: no growth adds a kind of weight, or takes one
    away."""
    right = "give the model that this one was grown from"
    families = (made.family, before.layout.family, after.layout.family)
    if len(set(families)) > 1:
        raise LawError(
            f"the plan is for {families[0]!r}, the small model is {families[1]!r} and the large one"
            f" {families[2]!r}: {right}"
        )
    for name in sorted(before.slots.keys() ^ after.slots.keys()):
        one, other = ("small", "large") if name in before.slots else ("large", "small")
        raise LawError(
            f"the {one} model has weights of its own for {name}, and the {other} one lacks them: {right}"
        )


def _floats(file: Checkpoint) -> list[torch.dtype]:
    found = (torch_dtype(header.dtype) for header in file.headers.values())
    return [dtype for dtype in found if dtype is not None and dtype.is_floating_point]


def _widest(file: Checkpoint) -> torch.dtype:
    """A dtype that holds every weight of a file as it is stored."""
    return reduce(torch.promote_types, _floats(file) or [torch.float32])


def _said(file: Checkpoint) -> torch.dtype:
    """The dtype in which `from_pretrained` has a checkpoint: the config's, else that of its weights."""
    named = str(file.config.get("dtype") or file.config.get("torch_dtype") or "").removeprefix("torch.")
    return torch_dtype(WORDS.get(named, "")) or _widest(file)


def _stored(after: Anatomy, file: Checkpoint) -> dict[At, torch.dtype]:
    """The dtype in which the file holds each block, those that are tied to another too."""
    found = match(after.layout, file.config, file.headers)
    held = {
        (block.slot, block.index): dtype
        for tensor in found.stored
        if (dtype := torch_dtype(tensor.header.dtype)) is not None
        for _, block in tensor.blocks(found.sizes)
    }
    tied = {
        (block.slot, block.index): held[tensor.line.slot.tied, block.index]
        for tensor in after.stored
        for _, block in tensor.blocks(after.sizes)
        if after.shares(tensor.line.slot) and (tensor.line.slot.tied, block.index) in held
    }
    return {**tied, **held}


def _shapes(anatomy: Anatomy, sizes: Sizes) -> list[tuple[int, ...]]:
    """The shapes of all blocks under these sizes."""
    try:
        return [block.shape(sizes) for stored in anatomy.stored for _, block in stored.blocks(sizes)]
    except KeyError:
        return []


def _recorded(large: Checkpoint | nn.Module) -> Plan:
    """The plan that came with the grown model."""
    if isinstance(large, nn.Module):
        found = plan_of(large)
        if found is None:
            raise LawError("no plan is known for this model: give plan=, or the model that grow returned")
        return found
    return plan_in(large.folder / RECORD, f"no plan is known without it; was {large.name} grown by isogrow?")


def _by_class(file: Checkpoint, load: Callable[[Checkpoint], nn.Module]) -> nn.Module:
    """A checkpoint's model. Raises `CheckpointError` where transformers takes its config or its files for
    wrong, in whatever way."""
    try:
        return load(file)
    except IsogrowError:
        raise
    except Exception as error:  # each class validates in its own way, with its own kind of error
        inner = error.__cause__ or error
        reason = " ".join(str(inner).split()).rstrip(".")
        raise CheckpointError(
            f"transformers does not load {file.name} ({type(inner).__name__}: {reason}), so nothing was"
            " compared: correct its config.json or its files"
        ) from error


def _model(file: Checkpoint) -> nn.Module:
    """A checkpoint's model: by plain transformers, where that knows its files and its config."""
    dtype = _widest(file)
    if file.configured and file.plain and not classless(file.config):
        return loaded(file.folder, dtype)
    config = _config(file)
    with mapped(file) as store:
        state = {name: all_of(store, name) for name in file.headers}
        return _whole(file.name, config, dtype, {"config": config, "state_dict": state}, None)


def _config(file: Checkpoint) -> Any:
    """A checkpoint's config in its class. Raises `CheckpointError` where transformers has none for it."""
    if lack := classless(file.config):
        raise CheckpointError(
            f"{lack}: compare the bytes of both folders (isogrow verify --bytes), or register its class and"
            " give isogrow.verify both models"
        )
    made: Any = transformers.CONFIG_MAPPING[str(file.config["model_type"])]
    return made.from_dict(untagged(file.config))


def numberless_model(file: Checkpoint) -> nn.Module:
    """A checkpoint's model in its own class, with parameters on the meta device and no more than its config
    read."""
    config, name = _config(file), class_name(file.config)
    make: Any = getattr(transformers, name)._from_config if name else transformers.AutoModel.from_config
    with cast(Any, torch.random).fork_rng(devices=[]), quiet(), numberless():
        return make(config, dtype=_widest(file)).eval()


def loaded(folder: str | Path, dtype: torch.dtype | None = None) -> nn.Module:
    """A checkpoint in its own class (and dtype), by plain transformers; refused unless all of it loads."""
    config = transformers.AutoConfig.from_pretrained(folder)
    # Given its config, a class of another model type does not read the file as its own type's.
    return _whole(str(folder), config, dtype, {"config": config}, folder)


def _whole(
    called: str, config: Any, dtype: torch.dtype | None, given: Mapping[str, Any], folder: str | Path | None
) -> nn.Module:
    """A model by its own class, from a folder or from what is given; refused unless all of it loads."""
    name = class_name({"architectures": config.architectures, "model_type": config.model_type})
    kind: Any = getattr(transformers, name) if name else transformers.AutoModel
    with torch.random.fork_rng(devices=[]), quiet():
        model, info = kind.from_pretrained(folder, **given, dtype=dtype or "auto", output_loading_info=True)
    missing = sorted(cast(set[str], info["missing_keys"]) | set(map(str, info["mismatched_keys"])))
    if not name and info["unexpected_keys"]:
        left = sorted(info["unexpected_keys"])[0]
        raise CheckpointError(
            f"the config of {called} {nameless(model, left)}; nothing was compared: name the class in its"
            " architectures"
        )
    if missing:
        raise CheckpointError(
            f"{called} does not load whole: {missing[0]} is missing or of another shape, so transformers"
            " would fill it at random; nothing was compared"
        )
    return model.eval()


def old_positions(plan: Plan, axis: str, index: Index) -> list[int]:
    """Positions on an axis of a grown model that are old channels, by the old channels' order."""
    past = Classes(plan)
    found: dict[int, int] = {}
    for position in range(plan.target.of(axis, index)):
        trail = list(past.past(axis, index, position))
        if is_old(tuple(label for label, _ in trail)):
            found[trail[-1][1] if trail else position] = position
    return [found[old] for old in sorted(found)]
