"""State tensors of a sharded model's optimizer, grown on all ranks together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from isogrow.interpreters.sharded.exchanging import Exchange
from isogrow.interpreters.sharded.growing import Target, grow_parts_
from isogrow.numbers.local import local_of
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.moving import Regions
from isogrow.plans.plan import Plan
from isogrow.stores.binding import source_of


@dataclass(frozen=True)
class _Kind:
    """State tensors of one name and one power: what is there of each, and what it is to become."""

    plan: Plan
    old: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    targets: list[Target] = field(default_factory=list[Target])


@dataclass(frozen=True)
class Together:
    """How state tensors are made (`isogrow.optim.law.Make`): without numbers first, and all of them are
    `fill_`ed at a time, since every rank has its part in each.

    `like` are the grown parameters by name, `regions` those that each rank has of them.
    """

    anatomy: Anatomy
    plan: Plan
    like: Mapping[str, Tensor]
    regions: Mapping[str, Regions]
    exchange: Exchange
    kinds: dict[tuple[str, int], _Kind] = field(default_factory=dict[tuple[str, int], _Kind])

    def grown(self, name: str, old: Tensor, stored: Stored, plan: Plan) -> Tensor:
        kind = self.kinds.setdefault((name, id(plan)), _Kind(plan))
        made = torch.empty_like(self.like[stored.name], dtype=old.dtype, requires_grad=False)
        kind.old[source_of(self.anatomy, self.plan, stored)] = local_of(old)
        kind.targets.append(Target(stored, local_of(made), self.regions[stored.name]))
        return made

    def full(self, old: Tensor, stored: Stored, value: float) -> Tensor:
        return torch.full_like(self.like[stored.name], value, dtype=old.dtype, requires_grad=False)

    def fill_(self) -> None:
        """Fill all that was asked for; what goes wrong is noted in the exchange's fault."""
        for kind in self.kinds.values():
            grow_parts_(kind.targets, kind.plan, replace(self.exchange, local=kind.old))
