"""Whether new parameters learn: which entries get gradient by which training step.

An exact growth can be dead (two zeros in series on a path), or alive but made of copies that stay
copies. Both show only when the model trains, so a copy of it is trained for a few steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from isogrow.errors import IsogrowError
from isogrow.numbers.arithmetic import storage_order
from isogrow.verification.float64 import float64, rebuilt, widened
from isogrow.verification.runs import Batch, Outputs, called, main_outputs

Loss = Callable[[Outputs, int], Tensor]


@dataclass(frozen=True)
class Pass:
    """One training step of `training`, after its update.

    `loss` is the mean over the batches before the update. `seen` marks, per parameter, the entries
    that had gradient in this pass or an earlier one, `now` those that had it in this one. `values` are
    the parameters after the update; the next step changes them in place, so clone what you keep. Tied
    parameters appear under each of their names.
    """

    loss: float
    seen: Marks
    now: Marks
    values: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Bits:
    """A bool tensor in an eighth of its room; `order` is that of its dims in storage, as which it is kept."""

    bits: NDArray[np.uint8]
    laid: tuple[int, ...]
    order: tuple[int, ...]
    device: torch.device

    @classmethod
    def of(cls, x: Tensor) -> _Bits:
        order = storage_order(x)
        laid = x.permute(order)
        return cls(np.packbits(laid.cpu().numpy()), tuple(laid.shape), order, x.device)

    def __or__(self, other: _Bits) -> _Bits:
        if (self.laid, self.order) != (other.laid, other.order):
            return _Bits.of(self.unpacked() | other.unpacked())
        return replace(self, bits=self.bits | other.bits)

    def unpacked(self) -> Tensor:
        flat = torch.from_numpy(np.unpackbits(self.bits, count=prod(self.laid)).view(bool))
        back = [self.order.index(dim) for dim in range(len(self.order))]
        return flat.to(self.device).view(self.laid).permute(back)


@dataclass(frozen=True, eq=False)
class Marks(Mapping[str, Tensor]):
    """Bool tensors by name, in an eighth of their room: each is made when it is looked at, and the last one
    is kept."""

    bits: Mapping[str, _Bits]
    last: dict[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.last:
            self.last.clear()
            self.last[name] = self.bits[name].unpacked()
        return self.last[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.bits)

    def __len__(self) -> int:
        return len(self.bits)

    def count(self) -> int:
        """How many entries are marked."""
        return sum(int(np.unpackbits(each.bits).sum(dtype=np.int64)) for each in self.bits.values())

    def renamed(self, called: Callable[[str], str]) -> Marks:
        """The same under other names."""
        return Marks({called(name): each for name, each in self.bits.items()})


def generic_loss(outputs: Outputs, index: int) -> Tensor:
    """A loss that no entry of any output escapes, the same at each step for batch `index`.

    Cross-entropy against random labels for each output named `…logits` with more than one class,
    mean squared error against standard normal targets for each other one, summed.
    """
    generator = torch.Generator().manual_seed(index)
    terms = [
        _term(name, outputs[name], generator)
        for name in sorted(outputs)
        if outputs[name].is_floating_point() and outputs[name].dim()
    ]
    return torch.stack(terms).sum()


def gradients(
    model: nn.Module,
    batches: Sequence[Batch],
    loss: Loss = generic_loss,
    steps: int = 3,
    lr: float = 1e-3,
    floor: float = 0.0,
) -> list[dict[str, Tensor]]:
    """For each step, which entries of each parameter have had gradient so far (see `training`).

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    >>> _ = nn.init.zeros_(model[1].weight)
    >>> batch = {"input": torch.ones(4, 2)}
    >>> [bool(seen["0.weight"].all()) for seen in gradients(model, [batch], steps=2)]
    [False, True]
    """
    return [dict(each.seen) for each in training(model, batches, loss, steps, lr, floor)]


def training(
    model: nn.Module,
    batches: Sequence[Batch],
    loss: Loss = generic_loss,
    steps: int = 3,
    lr: float = 1e-3,
    floor: float = 0.0,
    copied: bool = True,
) -> Generator[Pass]:
    """Train a float64 copy of `model`, without dropout, and tell of each step.

    A step sums the gradients of all batches, which should together hold many tokens and every
    position, and then follows plain gradient descent, θ ← θ − lr · g / max|g| with the maximum
    over all parameters: it moves no entry by more than `lr` whatever the loss's scale, leaves an
    entry without gradient where it is, and keeps copies copies, which an optimizer that divides
    by each entry's own gradient does only until rounding tells them apart.

    An entry has gradient if |g| > floor · max|g|: with no floor, if g is not exactly 0. What the
    laws call dead is exactly 0. But a parameter that the function does not depend on, such as a
    key bias without rotary positions (it shifts each softmax by a constant), gets the rounding of
    a sum that is 0, on some entries and not on others: 1e-16 or so, which a floor leaves out.

    `loss` is given the outputs by name and the batch's index. Frozen parameters are trained too.
    Without `copied` the model itself is trained, which has to be in float64.

    Raises if a gradient is not finite, or if nothing at all gets any.
    """
    student = (rebuilt(model) if copied else model).requires_grad_()
    given = [widened(batch) for batch in batches]
    named = dict(student.named_parameters(remove_duplicate=False))
    before = dict[int, _Bits]()
    for step in range(1, steps + 1):
        with float64(), torch.enable_grad():
            value = _backward(student, given, loss)
        largest = _largest(student, step)
        moved = _descend_(student, lr / largest, floor * largest)
        before = {at: each | before[at] if before else each for at, each in moved.items()}
        seen, now = (
            Marks({name: found[id(each)] for name, each in named.items()}) for found in (before, moved)
        )
        yield Pass(value, seen, now, {name: each.detach() for name, each in named.items()})
        del moved, seen, now  # the next step's gradients take their place


def distinct(values: Tensor, dim: int, tolerance: float = 1e-12) -> Tensor:
    """For each of the n channels along `dim`, whether it differs from every other: bool, (n,).

    Two channels differ if some entry of theirs does by more than `tolerance` · max|values|; the
    default lies above what reordered sums do to copies in float64.

    A unit that several tensors make up differs as soon as one of them does: give `distinct` their
    slices concatenated.

    >>> distinct(torch.tensor([[1.0, 2.0, 1.0], [3.0, 3.0, 3.0]]), dim=1)
    tensor([False,  True, False])
    """
    rows = values.detach().double().movedim(dim, 0).reshape(values.shape[dim], -1)
    limit = tolerance * rows.abs().max().item()
    answer = torch.ones(len(rows), dtype=torch.bool, device=values.device)
    for run in _alike(rows, limit):
        while len(run) > 1:
            close = (rows[run] - rows[run[0]]).abs().amax(-1) <= limit
            answer[run[close]] = close.sum().item() == 1
            run = run[~close]
    return answer


def _term(name: str, output: Tensor, generator: torch.Generator) -> Tensor:
    classes = output.shape[-1]
    if name.endswith("logits") and classes > 1:
        labels = torch.randint(classes, output.shape[:-1], generator=generator)
        flat = output.reshape(-1, classes)
        return functional.cross_entropy(flat, labels.flatten().to(output.device))
    target = torch.randn(output.shape, generator=generator, dtype=output.dtype)
    return functional.mse_loss(output, target.to(output.device))


def _backward(student: nn.Module, batches: Sequence[Batch], loss: Loss) -> float:
    """Leave the gradients of all batches summed on the parameters; the mean loss."""
    student.zero_grad()
    total = 0.0
    for index, batch in enumerate(batches):
        value = loss(main_outputs(called(student, batch)), index)
        cast(Any, value).backward()
        total += value.item()
    return total / len(batches)


def _largest(student: nn.Module, step: int) -> float:
    """max|g| over all parameters."""
    found = [each.grad for each in student.parameters() if each.grad is not None]
    # As it lies in memory: of a gradient that lies otherwise torch would make a copy.
    ends = [end for each in found for end in each.permute(storage_order(each)).aminmax()]
    # torch's max, unlike Python's, lets no NaN slip.
    largest = torch.stack(ends).abs().max().item() if ends else 0.0
    if not 0 < largest < math.inf:
        raise IsogrowError(
            f"at training step {step} the largest gradient is {largest}, so liveness can't be "
            "told: give a finite loss that depends on the model's outputs, and a smaller lr"
        )
    return largest


def _descend_(student: nn.Module, rate: float, limit: float) -> dict[int, _Bits]:
    """Follow the gradients, which are let go of one by one: which entries had more than `limit`, by the
    parameter's id. Nothing as large as a gradient is made beside them."""
    moved: dict[int, _Bits] = {}
    with torch.no_grad():
        for each in student.parameters():
            gradient, each.grad = each.grad, None
            if gradient is None:
                moved[id(each)] = _Bits.of(torch.zeros_like(each, dtype=torch.bool))
                continue
            some = (gradient > limit).logical_or_(gradient < -limit) if limit else gradient != 0
            moved[id(each)] = _Bits.of(some)
            del some
            each.add_(gradient, alpha=-rate)
    return moved


def _alike(rows: Tensor, limit: float) -> Iterable[Tensor]:
    """Indices of rows in runs such that two rows within `limit` of each other share a run.

    Rows that close have projections on one random direction that are close too, and in sorted
    order these are neighbours, so that few pairs need comparing.
    """
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64)
    places, order = (rows @ direction.to(rows.device)).sort()
    # The second term bounds the rounding of the projections: with no tolerance, copies still meet.
    slack = rows.shape[1] * torch.finfo(torch.float64).eps * rows.abs().max().item()
    reach = (limit + slack) * direction.abs().sum().item()
    edges = (places.diff() > reach).nonzero().flatten() + 1
    return order.tensor_split(edges.cpu())
