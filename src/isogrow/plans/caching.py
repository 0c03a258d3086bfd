"""Whether the cached keys and values of old layers stay valid across a growth.

At the growth every old channel carries what it carried before, so an old layer gives the same keys and
values, unless these themselves get more channels or heads: then an old cache lacks those, and where the head
dim grows its keys are scaled by another factor (isogrow.rules.attention). A new layer has no cache: at the
growth it adds nothing, whatever stands there. Training changes keys and values, after a growth as without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from isogrow.layouts.slots import Slot
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.pieces import Block, added, origin
from isogrow.plans.plan import Plan, Step
from isogrow.plans.sizes import key


@dataclass(frozen=True)
class Caches:
    """Whether keys and values that the small model cached are those of the large one, and why (not).

    `layers` says for each stack of layers ("layers", "decoder_layers"), layer by layer of the grown model,
    which old layer's cache it takes; None for a new layer, which has none.
    """

    valid: bool
    why: tuple[str, ...]
    layers: Mapping[str, tuple[int | None, ...]]

    def __str__(self) -> str:
        return f"{'yes' if self.valid else 'no'}: {'; '.join(self.why)}"


def caches_of(anatomy: Anatomy, plan: Plan) -> Caches:
    """What a plan means for the caches of a model; `anatomy` is of it, before the growth or after."""
    slots = list(_slots(anatomy))
    windows = anatomy.layout.windows
    lost = tuple(dict.fromkeys(why for step in plan.steps for why in _lost(step, slots, windows)))
    stacks = {slot.index[0]: slot.name for slot in slots if slot.index}
    layers = {axis: _layers(plan, axis, slot) for axis, slot in stacks.items()}
    kept = ["old layers give the same keys and values, since no step adds to these"]
    if any(None in numbers for numbers in layers.values()):
        kept.append("a new layer has none yet, and adds nothing whatever stands there, until it is trained")
    return Caches(not lost, lost or tuple(kept), layers)


def _slots(anatomy: Anatomy) -> Iterator[Slot]:
    """The slots of keys and of values that this model has; a tower's are not cached."""
    for attention in anatomy.layout.attentions:
        for name in (attention.key, attention.value):
            if name in anatomy.all_slots and name not in anatomy.layout.signalled:
                yield anatomy.all_slots[name]


def _lost(step: Step, slots: Iterable[Slot], windows: Iterable[str]) -> Iterator[str]:
    """Why a step ends a cache's validity, if it does."""
    for slot in slots:
        if step.axis in (*slot.produced, *slot.index[1:], *windows):
            name = key(step.axis, step.site)
            yield f"{name} grows from {step.old} to {step.new}, and what was cached has {step.old}"


def _layers(plan: Plan, axis: str, slot: str) -> tuple[int | None, ...]:
    """The old layer that each layer of the grown model is; None for a new one."""
    blocks = [Block(slot, ((axis, i),), ()) for i in range(plan.target.of(axis))]
    return tuple(None if added(plan, block) else dict(origin(plan, block).index)[axis] for block in blocks)
