"""Models in memory: how each is seen through a layout, how it is built anew, what it was grown from."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from isogrow.errors import FamilyError
from isogrow.families import layout_of
from isogrow.families import register as register_layout
from isogrow.families.paper import PAPER
from isogrow.interpreters.module import Build, headers, own_class
from isogrow.layouts.config import Config
from isogrow.layouts.layout import Index, Layout
from isogrow.paper import Transformer
from isogrow.paper import build as build_reference
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.matching import match
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes

# Where wrappers have their model: torch.compile; data parallel ones and torch's AveragedModel.
WRAPPED = ("_orig_mod", "module")
# Parts of the names of what is in a wrapper within a model, and what does the same without one.
RENAMED: Mapping[str, str] = {
    "_orig_mod": "compile the part where it stands (part.compile())",
    "_checkpoint_wrapped_module": "recompute activations by model.gradient_checkpointing_enable()",
}


@dataclass(frozen=True)
class Registration:
    """A model class of one's own: its layout, how to build it from a config, how to read its config."""

    layout: Layout
    build: Build
    config: Callable[[nn.Module], Config]


_REGISTERED: dict[type[nn.Module], Registration] = {}
_PLANS: weakref.WeakKeyDictionary[nn.Module, tuple[Anatomy, Plan]] = weakref.WeakKeyDictionary()


def register(
    layout: Layout,
    module: type[nn.Module] | None = None,
    build: Build | None = None,
    config: Callable[[nn.Module], Config] | None = None,
) -> None:
    """Make a family known; with `module`, also how models of that class are built.

    `build(config, sizes)` makes a model from the grown config (a mapping) and sizes. `config` reads one
    from a model: by default its `config` attribute, a mapping, a dataclass or an object with `to_dict()`.
    """
    register_layout(layout)
    if module is not None:
        if build is None:
            raise FamilyError(
                f"registering {module.__name__} needs build=, a function (config, sizes) -> model"
            )
        _REGISTERED[module] = Registration(layout, build, config or _config_of)


def remember(large: nn.Module, anatomy: Anatomy, plan: Plan) -> None:
    """Keep what a model was grown from for as long as the model lives."""
    _PLANS[large] = (anatomy, plan)


def lineage_of(large: nn.Module) -> tuple[Anatomy, Plan] | None:
    """What a model was grown from and by which plan, if `grow` made it in this process."""
    return _PLANS.get(large)


def plan_of(large: nn.Module) -> Plan | None:
    """The plan by which `grow` or `grow_` last made this model in this process; None if they did not.

    >>> plan_of(nn.Linear(2, 3)) is None
    True
    """
    if not isinstance(large, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FamilyError(
            f"{large!r:.60} is no model in memory: a grown folder's plan is its isogrow.json, which plan="
            " and isogrow.new_entries(folder) read"
        )
    found = lineage_of(large)
    return None if found is None else found[1]


def anatomy_of(model: nn.Module) -> Anatomy:
    """A model seen through its family's layout."""
    _check_tensors(model)
    kind = own_class(model)
    registered = _REGISTERED.get(kind)
    children = [name for name, _ in model.named_children()]
    if registered is None and len(children) == 1 and children[0] in WRAPPED:
        raise FamilyError(
            f"{kind.__name__} is a wrapper around a model: give the model itself, its .{children[0]}"
        )
    _check_names(model)
    if registered is not None:
        return _apart(
            model, match(registered.layout, registered.config(model), headers(model), where="model")
        )
    config = _config_of(model)
    if "model_type" not in config:
        raise FamilyError(
            f"{kind.__name__} has no config with a model_type: write a layout and call"
            " isogrow.register(layout, module=..., build=...) (docs/add-a-family.md)"
        )
    return _apart(model, match(layout_of(config), config, headers(model), kind.__name__, "model"))


def _check_names(model: nn.Module) -> None:
    """Refuse parts in wrappers that give other names to what is in them."""
    for name, _ in model.named_parameters():
        around = name.split(".")
        wrapper = next((each for each in around if each in RENAMED), None)
        if wrapper is not None:
            raise FamilyError(
                f"{name} is within a wrapper that changes its name: {RENAMED[wrapper]}, which keeps names,"
                " then grow"
            )


def _check_tensors(model: nn.Module) -> None:
    """Refuse a state with more than tensors in it: what torch's own quantization packs, say."""
    for name, value in cast("dict[str, object]", model.state_dict()).items():
        if not isinstance(value, Tensor):
            raise FamilyError(
                f"{name} in the model's state is a {type(value).__name__} and no tensor, as in models that"
                " torch has quantized, and no law says how that grows: grow the model before it is quantized"
            )


def _apart(model: nn.Module, anatomy: Anatomy) -> Anatomy:
    """Refuse parameters that are one where the family has two: in the grown model they would be two."""
    at = {stored.name: stored for stored in anatomy.stored}
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        other = first.setdefault(id(parameter), name)
        if other == name or name not in at or other not in at:
            continue
        if _home(anatomy, at[other]) != _home(anatomy, at[name]):
            raise FamilyError(
                f"{other} and {name} are one parameter, and by the config they are two, which would come"
                f" apart: give each its own ({name.rpartition('.')[0]} = copy.deepcopy(…)), or have the"
                " config tie them, before the model grows"
            )
    return anatomy


def _home(anatomy: Anatomy, stored: Stored) -> tuple[str, Index]:
    """The slot whose entries a tensor has, and where."""
    slot = stored.line.slot
    return slot.tied if anatomy.shares(slot) else slot.name, stored.index


def build_of(model: nn.Module) -> Build | None:
    """How a registered class is built from a config and sizes; None for a Hugging Face class."""
    registered = _REGISTERED.get(own_class(model))
    if registered is None:
        return None

    def build(config: Config, sizes: Sizes) -> nn.Module:
        with torch.random.fork_rng():
            return registered.build(config, sizes)

    return build


def _config_of(model: nn.Module) -> Config:
    config: Any = getattr(model, "config", None)
    if isinstance(config, Mapping):
        return dict(config)
    if hasattr(config, "to_dict"):
        return config.to_dict()
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    return {}


_REGISTERED[Transformer] = Registration(PAPER, build_reference, _config_of)
