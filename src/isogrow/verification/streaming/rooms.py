"""Memory that layers which are trained one after the other take over from each other.

Fresh memory is what such a training would spend most of its time on: the system clears each page of it, for
the weights of each layer and for their gradients at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Rooms = Mapping[int, Tensor]  # where the gradient of a matrix is made, by the matrix's id


@dataclass
class LayerRoom:
    """Room for a layer's weights, and for the gradients of its matrices, in float64; both are uninitialized,
    and end when the next layer asks."""

    held: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def weights(self, shapes: Iterable[tuple[int, ...]]) -> list[Tensor]:
        """Room for tensors of these shapes."""
        return list(self._cut("weights", tuple(shapes)))

    def gradients(self, layer: nn.Module) -> Rooms:
        """Room for the gradients of those weights that are multiplied with as `nn.Linear` does it."""
        found = [each.weight for each in layer.modules() if isinstance(each, nn.Linear)]
        return dict(zip(map(id, found), self._cut("gradients", [tuple(x.shape) for x in found]), strict=True))

    def _cut(self, what: str, shapes: Sequence[tuple[int, ...]]) -> Iterator[Tensor]:
        count, start = sum(map(prod, shapes)), 0
        if what not in self.held or self.held[what].numel() < count:
            self.held.pop(what, None)  # first, so that not both are here at once
            self.held[what] = torch.empty(count, dtype=torch.float64)
        for shape in shapes:
            yield self.held[what][start : start + prod(shape)].view(shape)
            start += prod(shape)


@contextmanager
def roomy(rooms: Rooms) -> Generator[None]:
    """Within it the gradients of matrices that have a room will be made there; otherwise all is as it was.

    >>> layer = nn.Linear(3, 2, bias=False).double()
    >>> room = torch.empty(2, 3, dtype=torch.float64)
    >>> with roomy({id(layer.weight): room}):
    ...     layer(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    >>> layer.weight.grad is room, room.tolist()
    (True, [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    """
    with _Making(rooms):
        yield


class _Making(TorchFunctionMode):
    def __init__(self, rooms: Rooms) -> None:
        super().__init__()
        self.rooms = rooms

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not functional.linear or kwargs or id(args[1]) not in self.rooms:
            return func(*args, **(kwargs or {}))
        x, weight, bias = (*args, None)[:3]
        made: Any = _Product.apply(x, weight, self.rooms[id(weight)])
        return made if bias is None else made + bias


class _Product(torch.autograd.Function):
    """x @ weight.T, with the weight's gradient made in a room."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, room: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.weight, ctx.room = weight, room
        return functional.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, *given: Any) -> tuple[Tensor | None, None, None]:
        (x,), (gradient,), weight = ctx.saved_tensors, given, ctx.weight
        flat, inputs = gradient.reshape(-1, gradient.shape[-1]), x.reshape(-1, x.shape[-1])
        if weight.grad is None:
            weight.grad = torch.mm(flat.t(), inputs, out=ctx.room)
        else:  # a matrix that is multiplied with twice
            weight.grad.addmm_(flat.t(), inputs)
        return gradient @ weight if ctx.needs_input_grad[0] else None, None, None
