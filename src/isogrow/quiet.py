"""Building models by transformers: silently, one at a time, on the CPU, as given, or without numbers."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

_BUILDING = threading.RLock()


@contextmanager
def alone() -> Generator[None]:
    """Let one thread of ours at a time build a model.

    While transformers loads a model it replaces functions of its own classes (`tie_weights`), and puts back
    what it found there. Two loads at once put back each other's, and from then on no model of the process is
    tied (seen in transformers 5.23.0: findings/two_loads_untie.sh).
    """
    with _BUILDING:
        yield


@contextmanager
def on_cpu() -> Generator[None]:
    """Let tensors that name no device be made on the CPU, where new entries are, whatever a caller's default
    device is (`with torch.device("meta")`, `torch.set_default_device`)."""
    with nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu"):
        yield


@contextmanager
def quiet() -> Generator[None]:
    """Keep transformers from printing its progress bar and its table of missing weights, `alone`: what it
    prints is set for the process."""
    import transformers  # whoever only builds in a thread of their own needs none of it

    logging = cast(Any, transformers.utils.logging)
    with alone():
        level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()


@contextmanager
def as_given() -> Generator[None]:
    """Let `from_pretrained` leave the numbers that it is given as they are, `alone`.

    A class's initializer is told of a loaded tensor by a mark on it, which a part of it (`weight.data[row]`)
    has not: Youtu's sets its padding row to zero whenever weights are loaded (transformers 5.23.0:
    findings/padding_row_is_zeroed.sh). A module all of whose tensors are given is
    not initialized here, as transformers has it for code that comes with a model.
    """
    import transformers

    kind: Any = transformers.PreTrainedModel
    with alone():
        usual = kind._initialize_weights

        def lean(model: nn.Module, module: nn.Module, is_custom_code: bool = False) -> None:
            usual(model, module, is_custom_code or _given_whole(module))

        kind._initialize_weights = lean
        try:
            yield
        finally:
            kind._initialize_weights = usual


def _given_whole(module: nn.Module) -> bool:
    """Whether a module has parameters, and they and all buffers in it are marked as loaded."""
    own = list(module.parameters(recurse=False))
    return bool(own) and all(
        getattr(tensor, "_is_hf_initialized", False) for tensor in (*own, *module.buffers())
    )


@contextmanager
def numberless() -> Generator[None]:
    """Let modules that this thread builds have parameters without numbers, on the meta device, `alone`; their
    buffers are made as they are (a table of rotary angles is computed once, when a module is made)."""
    mine = threading.get_ident()

    def emptied(part: nn.Module, name: str, given: nn.Parameter) -> nn.Parameter | None:
        """The parameter that a part gets in place of the given one; None: that one, so that ties are kept."""
        if threading.get_ident() != mine or given.is_meta:
            return None
        return nn.Parameter(given.detach().to("meta"), given.requires_grad)

    with alone():
        hook = register_module_parameter_registration_hook(cast(Any, emptied))
        try:
            yield
        finally:
            hook.remove()
