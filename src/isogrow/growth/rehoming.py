"""FSDP2 around a model that grows in place: the model stays, and runs what the grown one is sharded by.

`fully_shard` keeps sizes in a state that belongs to one module, and has no way to take others. The grown
model is therefore sharded anew, and its root's state is handed to the old root. Torch's own private names are
used (those of torch 2.13); a model whose state lacks one of them is refused before anything grows.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn
from torch.distributed import _composable_state

from isogrow.errors import StateError
from isogrow.growth.adopting import adopt_
from isogrow.growth.shardable import is_fully_sharded
from isogrow.growth.sharding import Shard

HOOKED = ("_pre_forward_hook_handle", "_post_forward_hook_handle")
NEEDED = (*HOOKED, "_pre_forward", "_post_forward", "_modules", "_fsdp_param_groups")
MAPPING = "_module_state_mapping"


def check_rehomed(model: nn.Module) -> None:
    """Raises `StateError` for a model whose root's state can't be given to another module."""
    if not is_fully_sharded(model):
        return
    state, states = _state_of(model), getattr(_composable_state, MAPPING, {})
    lost = [name for name in NEEDED if not hasattr(state, name)]
    if model not in states:
        lost.append("a place among the states of modules")
    elif not lost and len(state._modules) > 1:
        lost.append("a root of its own")
    if lost:
        raise StateError(
            f"{type(model).__name__} can't grow where it stands, since its state of fully_shard has no"
            f" {lost[0]}: call isogrow.grow_training(model, optimizer=…, shard=…), and go on with what it"
            " returns"
        )


def as_root(model: nn.Module, shard: Shard) -> Shard:
    """The same function, which refuses to shard the grown model otherwise than `model` is as a whole."""

    def sharded(large: nn.Module) -> Any:
        made = shard(large)
        root = made if isinstance(made, nn.Module) else large
        if is_fully_sharded(root) != is_fully_sharded(model):
            does, was = ("shards", "was not") if is_fully_sharded(root) else ("does not shard", "was")
            raise StateError(
                f"shard= {does} the model itself (fully_shard(model)), as the one that is to grow {was}: give"
                " the function that sharded it"
            )
        return made

    return sharded


def rehome_(model: nn.Module, large: nn.Module) -> None:
    """`model` becomes `large`, which has been sharded and has not run yet; see `adopt_`."""
    if not is_fully_sharded(model):
        adopt_(model, large)
        return
    old, new = _state_of(model), _state_of(large)
    for handle in (getattr(state, name) for state in (old, new) for name in HOOKED):
        handle.remove()
    adopt_(model, large)
    getattr(_composable_state, MAPPING)[model] = weakref.ref(new)
    new._modules = (model,)
    for group in new._fsdp_param_groups:
        group.modules = tuple(model if part is large else part for part in group.modules)
        for each in group.fsdp_params:
            _give_(each._module_info, large, model)
    new._pre_forward_hook_handle = model.register_forward_pre_hook(
        new._pre_forward, prepend=True, with_kwargs=True
    )
    new._post_forward_hook_handle = model.register_forward_hook(new._post_forward, prepend=False)


def _give_(info: Any, large: nn.Module, model: nn.Module) -> None:
    """A parameter that is the root's own is the old root's from here on."""
    if info.module is large:
        info.module = model
    info.shared_modules = [model if part is large else part for part in info.shared_modules]


def _state_of(model: nn.Module) -> Any:
    own: Any = model
    return own._get_fsdp_state()
