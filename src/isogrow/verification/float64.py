"""Models built and run in float64 throughout, whatever their own code casts to.

Model classes fall back to float32 in many places even when their weights are float64: norms,
softmax, rotary tables. An exact growth is proven to 1e-12, so none of these may stay. `float64()`
widens every cast while a model is built and run; `build` makes a model of given weights under it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from isogrow.errors import CheckpointError
from isogrow.quiet import as_given, numberless, quiet

Arguments = tuple[Any, ...]
EXACT = 1e-12  # relative error in float64: the proof of a rule

# Config switches that choose where float32 is used, and what they are set to where nothing is float32.
PRECISION = {"reorder_and_upcast_attn": False}


@contextmanager
def float64() -> Generator[None]:
    """Make every cast to a float float64 (complex: complex128) and float64 the default dtype.

    Covers `dtype=` of every torch function, `.to`, `.type`, `.type_as`, `.float()` and its like;
    `torch.FloatTensor(...)`, by which some classes still make parameters, too; autocast is off. A
    reinterpretation of bits (`.view(dtype)`) is no cast and stays. Not reached: TorchScript, and arrays of
    numpy, whose values arrive as they are. The mode holds for the thread that entered it; the default dtype
    and `torch.FloatTensor` are the whole process's.
    On leaving, also by an exception, everything is as it was.

    >>> with float64():
    ...     torch.ones(2).half().dtype
    torch.float64
    """
    before, library = torch.get_default_dtype(), cast(Any, torch)
    legacy = library.FloatTensor
    torch.set_default_dtype(torch.float64)
    library.FloatTensor = library.DoubleTensor
    try:
        with widening():
            yield
    finally:
        torch.set_default_dtype(before)
        library.FloatTensor = legacy


@contextmanager
def widening() -> Generator[None]:
    """The part of `float64` that is this thread's alone: every cast, and not the default dtype."""
    with ExitStack() as stack:
        for device in _autocast_devices():
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_Widening())
        yield


def build(
    model_class: type[nn.Module],
    config: transformers.PreTrainedConfig,
    state_dict: Mapping[str, Tensor],
    *,
    attention: str = "eager",
) -> nn.Module:
    """A Hugging Face model of these weights in float64, in eval mode; nothing given is changed.

    `state_dict` may bear the names of a checkpoint or of the model, with the base model's prefix
    or without; the weights are copied. Tensors that the class has no use for are left out, as
    `from_pretrained` does. Run the result under `float64()` too.

    Raises `CheckpointError` if a parameter got no weight (one tied to a loaded one has), or one of
    another shape.

    >>> config = transformers.GPT2Config(n_embd=6, n_head=2, n_layer=1, vocab_size=11)
    >>> weights = transformers.GPT2LMHeadModel(config).state_dict()
    >>> build(transformers.GPT2LMHeadModel, config, weights).dtype
    torch.float64
    """
    # Loading initializes what it misses before it says so: the caller's random state is not ours.
    fork_rng = cast(Any, torch.random).fork_rng
    with float64(), fork_rng(devices=[]), quiet(), as_given():
        # Copies, because loading keeps a tensor that needs no cast and would share its storage.
        model, report = cast(Any, model_class).from_pretrained(
            None,
            config=_unhurried(config),
            state_dict=widened(state_dict),
            dtype=torch.float64,
            attn_implementation=attention,
            experts_implementation="eager",  # grouped kernels know no float64
            ignore_mismatched_sizes=True,  # so that they are reported, and refused here
            output_loading_info=True,
        )
    report["missing_keys"] |= _hidden(model, state_dict)
    _refuse_unloaded(model, report)
    _assert_float64(model)
    return model


def rebuilt(model: nn.Module, *, attention: str = "eager") -> nn.Module:
    """The same model in float64 and eval mode, as a copy; `model` is not changed.

    A Hugging Face model is built anew (see `build`), so its tables are float64 as well. Any other
    module is copied and cast: a table that it computed at construction keeps its rounding, alike
    in both models of a comparison.

    >>> rebuilt(nn.Linear(2, 3)).weight.dtype
    torch.float64
    """
    if isinstance(model, transformers.PreTrainedModel):
        return build(type(model), model.config, model.state_dict(), attention=attention)
    return copy.deepcopy(model).double().eval()


def hollow(model: nn.Module, *, attention: str = "eager") -> nn.Module:
    """What `rebuilt` makes of a Hugging Face model, without numbers: its parameters are on the meta device.

    >>> config = transformers.GPT2Config(n_embd=6, n_head=2, n_layer=1, vocab_size=11)
    >>> hollow(transformers.GPT2LMHeadModel(config)).lm_head.weight.device.type
    'meta'
    """
    known: Any = model
    with float64(), cast(Any, torch.random).fork_rng(devices=[]), quiet(), numberless():
        made = type(known)._from_config(
            _unhurried(known.config),
            dtype=torch.float64,
            attn_implementation=attention,
            experts_implementation="eager",
        )
    _assert_float64(made)
    return made.eval()


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors, each float in float64 (complex in complex128), others in their dtype.

    >>> widened({"pixel_values": torch.ones(2)})["pixel_values"].dtype
    torch.float64
    """
    return {name: value.detach().to(dtype=_wide(value.dtype), copy=True) for name, value in tensors.items()}


class _Widening(TorchFunctionMode):
    """Rewrites the dtype arguments of each torch function that is called under it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Arguments = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.view:
            return func(*args, **kwargs)
        if func is Tensor.type:
            args, kwargs = _wide_names(args, kwargs)
        if func in (Tensor.to, Tensor.type_as):
            args, kwargs = _wide_others(args, kwargs)
        wide = tuple(_wide(value) for value in args)
        return _WIDE_METHODS.get(func, func)(*wide, **{key: _wide(value) for key, value in kwargs.items()})


_WIDE_METHODS: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(Tensor, narrow): getattr(Tensor, wide)
    for wide, narrows in (
        ("double", ("float", "half", "bfloat16")),
        ("cdouble", ("cfloat", "chalf")),
    )
    for narrow in narrows
}


def _wide(value: Any) -> Any:
    if not isinstance(value, torch.dtype):
        return value
    if value.is_complex:
        return torch.complex128
    return torch.float64 if value.is_floating_point else value


def _wide_names(args: Arguments, kwargs: dict[str, Any]) -> tuple[Arguments, dict[str, Any]]:
    """`Tensor.type` also takes a name ("torch.FloatTensor") or a legacy tensor class."""
    return (
        (args[0], *map(_wide_name, args[1:])),
        {key: _wide_name(value) for key, value in kwargs.items()},
    )


def _wide_name(value: Any) -> Any:
    name = torch.typename(value) if isinstance(value, type) else value
    if not isinstance(name, str):
        return value
    return re.sub(r"\b(Float|Half|BFloat16)Tensor$", "DoubleTensor", name)


def _wide_others(args: Arguments, kwargs: dict[str, Any]) -> tuple[Arguments, dict[str, Any]]:
    """`Tensor.to(other)` and `Tensor.type_as(other)` take their dtype from another tensor."""
    return (
        (args[0], *map(_wide_other, args[1:])),
        {key: _wide_other(value) for key, value in kwargs.items()},
    )


def _wide_other(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.empty(0, dtype=_wide(value.dtype), device=value.device)


def _autocast_devices() -> list[str]:
    accelerator = torch.accelerator.current_accelerator()
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]


def _refuse_unloaded(model: nn.Module, report: Mapping[str, Any]) -> None:
    kind = type(model).__name__
    for name, found, expected in sorted(report["mismatched_keys"]):
        raise CheckpointError(
            f"'{name}' has shape {tuple(found)} where {kind} expects {tuple(expected)}: "
            "give weights and a config.json that belong together"
        )
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"{kind} got no weight for '{missing[0]}'"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + ": give the whole state dict, or load a class that has no such parameter"
        )


def _hidden(model: nn.Module, state_dict: Mapping[str, Tensor]) -> set[str]:
    """Parameters without a weight that the class leaves out of its loading report."""
    patterns = cast("set[str]", getattr(model, "_keys_to_ignore_on_load_missing", None) or set())
    return {
        name
        for name, _ in model.named_parameters()
        if any(re.search(pattern, name) for pattern in patterns)
        and not any(f".{key}".endswith(f".{name}") for key in state_dict)
    }


def _unhurried(config: Any) -> Any:
    """The config without the switches that ask for float32 at some place, and for nothing else."""
    found = copy.deepcopy(config)
    for name, value in PRECISION.items():
        if hasattr(found, name):
            setattr(found, name, value)
    return found


def _assert_float64(model: nn.Module) -> None:
    for tensors in (model.named_parameters(), model.named_buffers()):
        for name, tensor in tensors:
            assert tensor.dtype == _wide(tensor.dtype), f"{name} is {tensor.dtype}"
