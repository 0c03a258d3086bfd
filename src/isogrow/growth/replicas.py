"""DistributedDataParallel around a model that grows in place: it stays, and reduces the new gradients.

DDP has no way to take new parameters, so its reducer is made again as its constructor makes it, with every
option that the wrapper was given. Torch's own private steps are used (those of torch 2.13); a wrapper
that lacks one of them is refused before anything grows.
"""

from __future__ import annotations

from typing import Any

from torch.distributed.utils import (
    _sync_module_states,  # pyright: ignore[reportPrivateUsage]
    _verify_param_shape_across_processes,  # pyright: ignore[reportPrivateUsage]
)
from torch.nn.parallel import DistributedDataParallel

from isogrow.errors import StateError

STEPS = (
    *("_build_params_for_reducer", "_build_debug_param_to_name_mapping", "_ddp_init_helper"),
    *("_set_static_graph", "register_comm_hook", "parameters_to_ignore", "_comm_hooks"),
)
OPTIONS = {
    "mixed_precision": "mixed_precision",
    "_delay_all_reduce_params": "delay_all_reduce_named_params",
}


def check_renewed(wrapper: DistributedDataParallel) -> None:
    """Raises `StateError` for a wrapper whose reducer can't be made again as it was."""
    lost = [option for name, option in OPTIONS.items() if getattr(wrapper, name, None)]
    lost += [name for name in STEPS if not hasattr(wrapper, name)]
    own: Any = wrapper
    if not lost and own._get_ddp_logging_data().get("comm_hook") and not own._comm_hooks:
        lost.append("a built-in communication hook")
    if lost:
        raise StateError(
            f"the model is held by a DistributedDataParallel with {lost[0]}, which can't be given the grown"
            " parameters: delete the wrapper, grow the model it held on every process alike (same request,"
            " same seed), and wrap it again"
        )


def renew_(wrapper: DistributedDataParallel) -> None:
    """Make the wrapper's reducer for the parameters that its model has now: to be called on every process.

    Parameters and buffers are taken from the first process, as DDP does when it is made.
    """
    own: Any = wrapper
    hooks, static = own._comm_hooks, own.static_graph
    own.logger = own.reducer = None  # the old one takes its hooks off the parameters that stay
    own._module_parameters = [
        p for n, p in own.module.named_parameters() if n not in own.parameters_to_ignore
    ]
    parameters, sparse = own._build_params_for_reducer()
    _verify_param_shape_across_processes(own.process_group, parameters)
    _sync_module_states(
        own.module,
        own.process_group,
        own.broadcast_bucket_size,
        src=0,
        params_and_buffers_to_ignore=own.parameters_to_ignore,
        broadcast_buffers=getattr(own, "forward_sync_buffers", getattr(own, "broadcast_buffers", True)),
    )
    names = own._build_debug_param_to_name_mapping(parameters)
    own._ddp_init_helper(parameters, sparse, names, static)
    own._has_rebuilt_buckets = own._lazy_init_ran = own.static_graph = False
    if static:
        own._set_static_graph()
    own._comm_hooks = []
    for hook, state in hooks:
        own.register_comm_hook(state, hook)
