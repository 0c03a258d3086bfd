"""One forward pass, seen: what every module with a role of its own read and wrote, and what attentions got.

Who reads whom is said by the numbers alone: in float64, with random weights, two tensors have the same
numbers only where one was made of the other by reshaping. No module's code is asked.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from isogrow.drafting.inputs import inputs, run
from isogrow.layouts.config import Config
from isogrow.verification.float64 import float64

EAGER = "eager_attention_forward"
ROWS, TOKENS = 2, 12


@dataclass(frozen=True)
class Call:
    """One call of a module: the first tensor that it got, and the first that it gave."""

    path: str
    module: nn.Module
    given: Tensor
    made: Tensor


@dataclass(frozen=True)
class Attended:
    """One attention: queries, keys, values as they meet (rows × heads × tokens × dim), and what it made."""

    path: str
    query: Tensor
    key: Tensor
    value: Tensor
    made: Tensor
    scale: float | None
    said: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Trace:
    """A forward pass of a model, in the order in which its modules were left. `ids` are what it was given:
    None where it takes no ids."""

    model: nn.Module
    ids: Tensor | None
    calls: tuple[Call, ...]
    attended: tuple[Attended, ...]
    layers: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def within(self, layer: int) -> Iterator[Call]:
        """The calls of one layer."""
        return (call for call in self.calls if call.path.startswith(f"{self.layers}.{layer}."))

    def attention(self, layer: int) -> tuple[Attended, ...]:
        """The attentions of one layer."""
        return tuple(each for each in self.attended if each.path.startswith(f"{self.layers}.{layer}."))

    def outside(self) -> Iterator[Call]:
        """The calls outside of the layers."""
        return (call for call in self.calls if not call.path.startswith(f"{self.layers}."))


def mark(tensor: Tensor) -> str:
    """A mark that all tensors of these numbers have, in whatever shape and order."""
    numbers = tensor.detach().double().flatten().sort().values
    return hashlib.sha1(numbers.numpy().tobytes()).hexdigest()


def traced(model: nn.Module, depth: int, config: Config) -> Trace:
    """A forward pass of a tiny float64 model whose list of layers is `depth` long."""
    given = inputs(model, config, (ROWS, TOKENS), 0)
    lists = lists_of(model, depth)
    calls: list[Call] = []
    attended: list[Attended] = []
    passed: list[Call] = []
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(float64())
        for path, module in model.named_modules():
            if path.rpartition(".")[0] in lists:
                stack.callback(_hooked(path, module, passed.append).remove)
            elif _counts(module):
                stack.callback(_hooked(path, module, calls.append).remove)
        stack.enter_context(_watched(model, attended))
        run(model, given)
    ran = {call.path: call for call in passed}
    layers = next((each for each in lists if all(f"{each}.{i}" in ran for i in range(depth))), "")
    order = [ran[f"{layers}.{i}"] for i in range(depth) if f"{layers}.{i}" in ran]
    return Trace(
        model, given.get("input_ids"), tuple(calls), tuple(attended), layers,
        tuple(call.given for call in order), tuple(call.made for call in order),
    )  # fmt: skip


def lists_of(model: nn.Module, depth: int) -> list[str]:
    """The paths of what may be the list of layers: all lists of this length, the outermost first."""
    found = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    return sorted(found, key=_depth)


def _depth(path: str) -> int:
    return path.count(".")


def _counts(module: nn.Module) -> bool:
    """Whether a module is seen: one that holds parameters itself, or a norm that has none."""
    own = any(True for _ in module.parameters(recurse=False))
    return own or "Norm" in type(module).__name__


def _hooked(path: str, module: nn.Module, found: Any) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> None:
        given = _first((*args, *kwargs.values()))
        output = _first(tuple(cast(Any, made)) if isinstance(made, tuple | list) else (made,))
        if given is not None and output is not None:
            found(Call(path, module, given.detach().clone(), output.detach().clone()))

    return module.register_forward_hook(hook, with_kwargs=True)


def _first(values: tuple[Any, ...]) -> Tensor | None:
    return next((each for each in values if isinstance(each, Tensor)), None)


@contextmanager
def _watched(model: nn.Module, found: list[Attended]) -> Generator[None]:
    """Sees what the attentions of a model's own file are given, while the context lasts."""
    paths = {module: path for path, module in model.named_modules()}
    files = {sys.modules[type(module).__module__] for module in model.modules()}
    before = {file: getattr(file, EAGER) for file in files if hasattr(file, EAGER)}

    def watching(own: Any) -> Any:
        def attend(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **said: Any
        ) -> Any:
            made = own(module, query, key, value, *rest, **said)
            scale = said.get("scaling", rest[1] if len(rest) > 1 else None)
            q, k, v, out = (tensor.detach().clone() for tensor in (query, key, value, made[0]))
            found.append(Attended(paths.get(module, ""), q, k, v, out, _number(scale), said))
            return made

        return attend

    for file, own in before.items():
        setattr(file, EAGER, watching(own))
    try:
        yield
    finally:
        for file, own in before.items():
            setattr(file, EAGER, own)


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 else None
    return float(cast(Any, value)) if isinstance(value, int | float) else None
