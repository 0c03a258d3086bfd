"""How fast entries move after a growth: hooks on an optimizer that correct its updates entry by entry.

An update d, weight decay included, becomes r(t) d in the t-th step after the growth, with one r for new
entries and one for old ones (`Policy.rate`). Where r is 0 entries keep their bits, whatever the optimizer.

Old entries, if they are to follow the small run: θ' = a θ + b has gradient g/a, so before a step they are
taken back to the small model's coordinates,

    θ = (θ' - b) / a,   g = a g',   s = a^k s'          (k: the power of the gradient that s holds)

and after it forth again. An optimizer that treats entries one by one then does to them what it would have
done in the small run: for SGD that is a rate a² times the usual, for Adam one of a with ε/a, and decay
towards b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, NAdam, Optimizer, RAdam, RMSprop

from isogrow.errors import StateError
from isogrow.layouts.pattern import View
from isogrow.numbers.arithmetic import blocked
from isogrow.numbers.local import box_of, local_of
from isogrow.optim.moments import Policy, marked
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.boxes import boxes, slices
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import Box, OldBox, pieces
from isogrow.plans.plan import Plan

COUNT = "steps_since_growth"  # in the first group, so that it is saved and loaded with the optimizer
ENTRYWISE = (SGD, Adam, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta)


@dataclass(frozen=True)
class PacedBox:
    """A box of one block of what this process holds of a parameter: new, or old under x -> a x + b."""

    place: Box
    view: View
    box: Box
    new: bool
    a: float = 1.0
    b: float = 0.0

    @property
    def scaled(self) -> bool:
        """Whether these are old entries that are not as they were."""
        return not self.new and (self.a, self.b) != (1.0, 0.0)

    def of(self, x: Tensor) -> Tensor:
        """This region of a tensor of the parameter's shape."""
        return blocked(local_of(x)[slices(self.place)], self.view)[slices(self.box)]


class Pace:
    """Corrects the updates of an optimizer of a grown model; `remove` ends that."""

    def __init__(self, optimizer: Optimizer, regions: Mapping[Tensor, tuple[PacedBox, ...]], policy: Policy):
        self.regions, self.policy = regions, policy
        self.held: list[tuple[Tensor, Tensor, float]] = []
        self.moved: list[tuple[Tensor, PacedBox]] = []
        optimizer.param_groups[0].setdefault(COUNT, 0)
        self.hooks = (
            optimizer.register_step_pre_hook(self.before),
            optimizer.register_step_post_hook(self.after),
        )

    def remove(self) -> None:
        """From the next step on all entries move as the optimizer moves them."""
        for hook in self.hooks:
            hook.remove()

    @torch.no_grad()
    def before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember entries with a rate of their own; take old ones to the small model's coordinates."""
        if any(given is not None for given in (*args[1:], kwargs.get("closure"))):  # wrappers give None
            raise StateError("a step with a closure can't be paced: compute the gradients, then call step()")
        self._take_back_(optimizer)
        first = optimizer.param_groups[0]
        first[COUNT] = first.get(COUNT, 0) + 1
        rates = {new: self.policy.rate(first[COUNT], new) for new in (True, False)}
        for p, region in self._active(optimizer):
            if rates[region.new] != 1.0:
                now = region.of(p.data)
                self.held.append((now, now.clone(), rates[region.new]))
            if region.scaled and self.policy.follow:
                region.of(p.data).sub_(region.b).div_(region.a)
                self._scale_(optimizer, p, region, region.a)
                self.moved.append((p, region))

    @torch.no_grad()
    def after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take old entries to the grown model's coordinates; scale what those with a rate have moved."""
        self._forth_(optimizer)
        for now, was, rate in self.held:
            now.copy_(torch.lerp(was, now, rate) if rate else was)
        self.held = []

    def _forth_(self, optimizer: Optimizer) -> None:
        for p, region in self.moved:
            region.of(p.data).mul_(region.a).add_(region.b)
            self._scale_(optimizer, p, region, 1.0 / region.a)
        self.moved = []

    def _take_back_(self, optimizer: Optimizer) -> None:
        """Of a step that ended in an error, and is made again by the same gradients: it has not been one."""
        if self.held or self.moved:
            self._forth_(optimizer)
            self.held = []
            optimizer.param_groups[0][COUNT] -= 1

    def _active(self, optimizer: Optimizer) -> Iterator[tuple[Tensor, PacedBox]]:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    yield from ((p, region) for region in self.regions.get(p, ()))

    def _scale_(self, optimizer: Optimizer, p: Tensor, region: PacedBox, a: float) -> None:
        """Gradient and state of a region in coordinates in which θ is 1/a of what it was."""
        if p.grad is not None:
            region.of(p.grad).mul_(a)
        state: Mapping[str, Any] = optimizer.state.get(p, {})
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == p.shape and value.dim():
                power = self.policy.power(name, state)
                assert power is not None, f"{name} has no power"
                region.of(value).mul_(a**power)


def is_pace(hook: Callable[..., Any]) -> bool:
    """Whether this hook paces a growth: one that has been grown over ends."""
    return isinstance(getattr(hook, "__self__", None), Pace)


def end_pace_(optimizer: Optimizer) -> None:
    """What paced an optimizer's updates until now ends."""
    for found in _paces(optimizer):
        found.remove()


def hand_on_(optimizer: Optimizer, other: Optimizer, heirs: Mapping[Tensor, Tensor]) -> None:
    """What paces an optimizer goes on, where it is, on another whose parameters are `heirs` of its own."""
    for found in _paces(optimizer):
        other.param_groups[0][COUNT] = optimizer.param_groups[0].get(COUNT, 0)
        regions = {heirs[p]: own for p, own in found.regions.items() if p in heirs}
        Pace(other, regions, found.policy)


def _paces(optimizer: Optimizer) -> list[Pace]:
    hooks: Any = [*optimizer._optimizer_step_pre_hooks.values()]  # pyright: ignore[reportPrivateUsage]
    return [hook.__self__ for hook in hooks if is_pace(hook)]


def check_pace(optimizer: Optimizer, policy: Policy) -> None:
    """Raise `StateError` where old entries are to follow an optimizer that does not treat them one by one."""
    if policy.follow and not isinstance(optimizer, ENTRYWISE):
        known = ", ".join(kind.__name__ for kind in ENTRYWISE)
        raise StateError(
            f"{type(optimizer).__name__} can't follow the small run: its update of an entry depends on"
            f" others, or is not known; follow with one of {known}, or set follow=False"
        )


def pace(optimizer: Optimizer, large: nn.Module, anatomy: Anatomy, plan: Plan, policy: Policy) -> Pace:
    """Pace an optimizer of `large`, which `plan` made and `anatomy` is of; an earlier pace ends.

    Raises as `check_pace` does.
    """
    check_pace(optimizer, policy)
    end_pace_(optimizer)
    named = dict(large.named_parameters(remove_duplicate=False))
    before = marked(plan)
    found: dict[Tensor, tuple[PacedBox, ...]] = {}
    for stored in anatomy.stored:
        if stored.source in named and not is_tied(anatomy, stored):
            held = box_of(named[stored.source])
            paced = (r for r in _regions(before, stored, held) if r.new or r.scaled or policy.old_rate != 1.0)
            found[named[stored.source]] = tuple(paced)
    return Pace(optimizer, found, policy)


def _regions(plan: Plan, stored: Stored, held: Box) -> Iterator[PacedBox]:
    """What is new in what this process holds of a tensor, and what is old."""
    for part in boxes(stored, held, plan.target):
        for piece in pieces(plan, part.block, part.box):
            new = not isinstance(piece.value, OldBox)
            yield PacedBox(part.place, part.view, piece.out, new, piece.a, piece.b)
