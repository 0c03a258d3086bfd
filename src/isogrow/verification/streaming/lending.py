"""Models whose parameters have no numbers, lent them call by call.

A model on the meta device costs no memory, and its own code says which weight is used where. So no family
needs a function of its own: whatever torch function is given such a parameter gets real entries in its place,
for as long as the call takes. Of an embedding those are the rows that are looked up, of a stack of experts
the experts that have tokens, and a large matrix is multiplied some rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from isogrow.plans.pieces import Box, whole

Fetch = Callable[[str, Box], Tensor]  # real entries of a region of a parameter, by its name
Arguments = tuple[Any, ...]
Keywords = dict[str, Any]

# Of a matrix or of a table that are here at a time: few enough that they stay in the cache that cores share,
# from when they are made until they are multiplied with, and that memory which is let go of is used again.
ENTRIES = 1 << 20


def _getter(name: str) -> Callable[..., Any]:
    return getattr(Tensor, name).__get__


# What is asked of a tensor without looking at its entries.
FACTS = frozenset({
    *map(_getter, ("dtype", "shape", "ndim", "layout", "requires_grad", "is_leaf", "is_meta", "grad_fn")),
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_floating_point, Tensor.is_complex, Tensor.__len__,
})  # fmt: skip
DEVICE = _getter("device")


@contextmanager
def lent(model: nn.Module, fetch: Fetch) -> Generator[None]:
    """Within it this thread may run `model`, whose parameters on the meta device get their entries from
    `fetch(name, region)`: a tensor of the region's shape, in the parameter's dtype.

    >>> with torch.device("meta"):
    ...     model = nn.Linear(3, 2, bias=False)
    >>> with lent(model, lambda name, region: torch.ones([len(r) for r in region])):
    ...     model(torch.ones(1, 3))
    tensor([[3., 3.]])
    """
    with _Lending(lacking(model), fetch):
        yield


def lacking(model: nn.Module) -> dict[int, str]:
    """The first name of each parameter without numbers, by the parameter's id: tied ones are one."""
    return {id(value): name for name, value in model.named_parameters() if value.is_meta}


class _Lending(TorchFunctionMode):
    """Puts real entries in the place of parameters among the arguments of each torch function."""

    def __init__(self, names: Mapping[int, str], fetch: Fetch) -> None:
        super().__init__()
        self.names, self.fetch = names, fetch

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Arguments = (),
        kwargs: Keywords | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in FACTS or not any(map(self._lacks, (*args, *kwargs.values()))):
            return func(*args, **kwargs)
        if func == DEVICE:  # no two of a getter's wrappers are one object
            return torch.device("cpu")
        sparing = _SPARING.get(func)
        found = sparing(self, *args, **kwargs) if sparing is not None else None
        if found is not None:
            return found
        return func(*map(self._filled, args), **{name: self._filled(value) for name, value in kwargs.items()})

    def _lacks(self, value: Any) -> bool:
        if isinstance(value, list | tuple):
            return any(map(self._lacks, cast("Sequence[Any]", value)))
        return isinstance(value, Tensor) and id(value) in self.names

    def _filled(self, value: Any) -> Any:
        """A value with all entries of what it lacks."""
        if not self._lacks(value):
            return value
        if isinstance(value, Tensor):
            return self.region(value, whole(tuple(value.shape)))
        return type(value)(map(self._filled, value))

    def region(self, parameter: Tensor, region: Box) -> Tensor:
        return self.fetch(self.names[id(parameter)], region)

    def item(self, x: Tensor, at: Any) -> Tensor | None:
        """x[at], where that is one position."""
        number = at.item() if isinstance(at, Tensor) and at.dim() == 0 and at.dtype == torch.long else at
        if not self._lacks(x) or type(number) is not int:
            return None
        number = number % x.shape[0]
        rest = whole(tuple(x.shape))[1:]
        return self.region(x, (range(number, number + 1), *rest)).squeeze(0)

    def looked_up(self, ids: Tensor, table: Tensor, *_: Any, **__: Any) -> Tensor | None:
        """Rows of a large table; how a table is trained (padding, sparse gradients) changes none of them."""
        if not self._lacks(table) or table.numel() <= ENTRIES:
            return None
        wanted, places = ids.unique(return_inverse=True)
        columns = range(table.shape[1])
        rows = [self.region(table, (run, columns)) for run in _runs(wanted.tolist())]
        return torch.cat(rows)[places]

    def multiplied(self, x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor | None:
        """x @ matrix.T + bias, some rows of a large matrix at a time."""
        if not self._lacks(matrix) or matrix.numel() <= ENTRIES:
            return None
        count, columns = matrix.shape
        rows = max(1, ENTRIES // columns)
        bias = self._filled(bias)
        return torch.cat(
            [
                functional.linear(
                    x,
                    self.region(matrix, (part, range(columns))),
                    None if bias is None else bias[part.start : part.stop],
                )
                for first in range(0, count, rows)
                for part in [range(first, min(first + rows, count))]
            ],
            dim=-1,
        )


# Functions that look at a part of a weight at a time; None from them: at all of it.
_SPARING: Mapping[Callable[..., Any], Callable[..., Tensor | None]] = {
    Tensor.__getitem__: _Lending.item,
    functional.embedding: _Lending.looked_up,
    functional.linear: _Lending.multiplied,
}


def _runs(numbers: Sequence[int]) -> Iterator[range]:
    """Ascending numbers as ranges of neighbours."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield range(first, last + 1)
            first = number
        last = number
    yield range(first, last + 1)
