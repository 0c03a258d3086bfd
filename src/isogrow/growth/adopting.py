"""Growing in place: a model becomes the grown one, and stays the object that a training run holds.

Trainers, optimizers' owners, wrappers and callbacks keep references to a model. So the grown model's parts
move into the old object; what belongs to the object itself (its hooks, a `forward` that a library put on it,
attributes of the user's) stays.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from isogrow.errors import CheckpointError
from isogrow.optim.pacing import end_pace_

HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)
WITH_HOOKS = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")
PARTS = ("_modules", "_parameters", "_buffers")
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
# Who puts its hooks back on a grown model's parts; those of the others would be lost.
RETURNING = (
    *("transformers.utils.output_capturing", "transformers.modeling_utils"),
    *("transformers.integrations.tensor_parallel", "torch.distributed.tensor"),
    *("torch.distributed.fsdp", "torch.distributed._composable.fsdp", "torch.nn.parallel"),
)
MOVING = ("transformers.integrations.neftune",)  # those whose hooks go over to the grown part of their name
# transformers' notes that it has put hooks on a model's parts; the new parts are without them.
INSTALLED, GRADS = "_output_capturing_hooks_installed", "_require_grads_hooks"


def adopt_(model: nn.Module, large: nn.Module) -> None:
    """`model` becomes `large`: its parts, parameters and config; `large` is not to be used afterwards.

    What stays: the object, its hooks, a `forward` that was put on it, attributes that `large` lacks. Raises
    `CheckpointError` for a part that holds hooks or a `forward` of its own, since its counterpart in `large`
    would be without them.
    """
    assert type(model) is type(large), f"{type(model).__name__} can't become a {type(large).__name__}"
    check_parts(model)
    _move_hooks_(model, large)
    wants_grads = bool(vars(model).get(GRADS))
    kept = {*HOOKS, *WITH_HOOKS, "forward"} & vars(model).keys()
    for name, value in vars(large).items():
        if name not in kept:
            vars(model)[name] = value
    # They are the model's alone from here on, whoever still holds `large`.
    vars(large).update({name: {} for name in PARTS})
    vars(model).pop(INSTALLED, None)
    if wants_grads:
        same: Any = model
        same.enable_input_require_grads()


def adopt_optimizer_(optimizer: Optimizer, grown: Optimizer) -> None:
    """`optimizer` takes the parameters and the state of `grown`; what paced an earlier growth ends.

    Its groups stay the same objects, and so does what is in them beside parameters: a schedule, or a rate in
    a tensor, that somebody holds goes on with them.
    """
    for mine, made in zip(optimizer.param_groups, grown.param_groups, strict=True):
        mine |= {key: made[key] for key in ("params", "param_names") if key in made}
        for gone in mine.keys() - made.keys():
            del mine[gone]
    optimizer.state = grown.state
    end_pace_(optimizer)


def _move_hooks_(model: nn.Module, large: nn.Module) -> None:
    """Hooks that move, with what they read of their part (`neftune_noise_alpha`): in the dict that holds
    them, by which the handles of those who put them there find them."""
    for name, part in model.named_modules():
        hooks: Any = vars(part)["_forward_hooks"]
        moving = {key: hook for key, hook in hooks.items() if _module_of(hook).startswith(MOVING)}
        if name and moving:
            grown = vars(large.get_submodule(name))
            hooks.clear()
            hooks.update({**grown["_forward_hooks"], **moving})
            grown["_forward_hooks"] = hooks
            for attribute, value in vars(part).items():
                grown.setdefault(attribute, value)


def check_parts(model: nn.Module) -> None:
    """Refuse a model on whose parts or parameters somebody put something that would be lost."""
    for name, part in model.named_modules():
        if not name:
            continue
        for what in HOOKS:
            for hook in (vars(part).get(what) or {}).values():
                if not _module_of(hook).startswith((*RETURNING, *MOVING)):
                    raise _held(name, what.strip("_").replace("_", " "))
        if has_own_forward(part):
            raise _held(name, "a forward of its own")
    for name, parameter in model.named_parameters():
        hooks = [hook for kind in PARAMETER_HOOKS for hook in (getattr(parameter, kind) or {}).values()]
        if any(not _module_of(hook).startswith("torch.nn.parallel.") for hook in hooks):
            raise _held(name, "hooks of its own")
        if hasattr(parameter, "_in_backward_optimizers"):
            raise _held(name, "an optimizer that steps in the backward pass")


def has_own_forward(part: nn.Module) -> bool:
    """Whether somebody put a `forward` on a part; what transformers puts there it does again."""
    return "forward" in vars(part) and not _module_of(vars(part)["forward"]).startswith("transformers.")


def _held(name: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{name} has {what}, which the grown model's {name} would lack: remove it, grow, and put it back"
    )


def _module_of(function: Any) -> str:
    return str(getattr(getattr(function, "hook", function), "__module__", ""))
