"""The two laws, checked on every plan before anything is read (docs/laws.md).

    network.py    the grown model with booleans for numbers; building.py builds it from a layout,
                  whose lines walking.py goes through as the model runs them; leaves.py has its entries
    history.py    what became of each position in the steps of a plan
    norms.py      what each norm needs when its axis grows
    clamps.py     no scale passes a clamp
    scales.py     what undoes a changed attention scale; all other old entries are unscaled
    lending.py    layers without keys read those of an old layer
    reading.py    who reads a stack between its layers reads what it did
    leading.py    what is added behind the first layers stays behind them
    windows.py    a causal convolution reads each token at the distance that it did
    positions.py  rotary pairs stay pairs, and turn as before; frequencies.py says how fast
    slopes.py     heads keep their slopes (ALiBi)
    twins.py      new channels differ from each other and from what they copy
    __init__.py   Law 1 (preservation), Law 2 (liveness)

The checks share no code with the rules: they look at what a plan says each entry is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from isogrow.errors import LawError
from isogrow.laws.building import network
from isogrow.laws.clamps import check_clamps
from isogrow.laws.leading import check_leading
from isogrow.laws.lending import check_lending
from isogrow.laws.network import Entry, Network
from isogrow.laws.norms import check_norms
from isogrow.laws.positions import check_positions
from isogrow.laws.reading import check_reading
from isogrow.laws.scales import check_scales
from isogrow.laws.slopes import check_slopes
from isogrow.laws.twins import check_twins
from isogrow.laws.windows import check_windows
from isogrow.layouts.layout import Attention, Index
from isogrow.layouts.slots import bias_of
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import Plan

ROUNDS = 64


@dataclass(frozen=True)
class Life:
    """When one class of new entries first gets gradient: at backward pass `step`, or never (0)."""

    slot: str
    index: Index
    combo: tuple[tuple[str, int], ...]
    step: int


def check(anatomy: Anatomy, plan: Plan, allow_dead: bool = False) -> int:
    """The backward pass by which everything new (and not dead) has had gradient.

    Raises `LawError` if the plan would change the function, or leave a new part dead or a twin.
    """
    net = network(anatomy, plan)
    check_norms(anatomy, plan, net.plain, net.bare)
    ungained = {*net.plain, *net.bare}
    check_clamps(anatomy, plan, ungained)
    check_scales(anatomy, plan, ungained)
    check_positions(anatomy, plan)
    check_slopes(anatomy, plan)
    check_leading(anatomy, plan)
    check_reading(anatomy, plan)
    check_windows(anatomy, plan)
    check_lending(anatomy, plan)
    preserves(net)
    found = lives(anatomy, net)
    if not allow_dead:
        _check_alive(found)
        check_twins(anatomy, plan)
    return _last(found)


def _check_alive(found: Iterable[Life]) -> None:
    slots = ", ".join(dict.fromkeys(life.slot for life in found if life.step == 0))
    if slots:
        raise LawError(
            f"new entries of {slots} would never get gradient (every path to them has two zeros in"
            " series), so they could not learn: grow otherwise, or allow it with allow_dead (--allow-dead)"
        )


def _last(found: Iterable[Life]) -> int:
    return max((life.step for life in found), default=0)


def preserves(net: Network) -> None:
    """Law 1: every contribution of new entries to old channels has a zero factor."""
    net.forward_()
    for path in net.paths:
        if path.entry.new and path.to_old and path.total.value:
            raise LawError(
                f"new entries of {path.entry.slot} at {_at(path.entry)} would reach old channels: the plan"
                " has no zero on that path, so it would change the function"
            )
    for slot, index, met in net.contractions:
        if met.value:
            raise LawError(
                f"new channels of {slot} {dict(index)} meet non-zero queries: no zero on that path"
            )


def lives(anatomy: Anatomy, net: Network) -> list[Life]:
    """Law 2: the backward pass at which each class of new entries first gets gradient (0: never).

    `idle` slots are left out: softmax cancels what is the same for all keys; and layers that nothing reads.
    """
    first: dict[int, int] = {}
    entries = list(net.entries.values())
    for step in range(1, ROUNDS):
        net.forward_()
        net.backward_()
        reached = [e for e in entries if e.node.sensitive and id(e) not in first]
        first.update({id(e): step for e in reached})
        if not reached:
            break
        for entry in reached:
            entry.node.value = True
        for path in net.paths:
            path.total.cancels &= not path.entry.node.sensitive
    skip = idle(anatomy)
    return [
        Life(e.slot, e.index, e.combo, first.get(id(e), 0))
        for e in entries
        if e.new and e.slot not in skip and not net.unread(e.index)
    ]


def idle(anatomy: Anatomy) -> set[str]:
    """Slots that have no gradient, at least in part: biases of keys, and shifts of norms on them, where no
    rotary positions act, on all channels, on some, or in some layers (what is the same for all keys is
    cancelled by the softmax), and those of which the layout says so."""
    still = {a.key for a in anatomy.layout.attentions if a.key in anatomy.slots and not _turns(anatomy, a)}
    gains = {name for name, slot in anatomy.slots.items() if slot.norm and slot.norm.of in still}
    keys = {bias_of(name) for name in still | gains}
    said = {
        name
        for name, slot in anatomy.slots.items()
        if slot.idle and anatomy.layout.holds(slot.idle, anatomy.config)
    }
    return keys | said


def _turns(anatomy: Anatomy, attention: Attention) -> bool:
    """Whether every channel of queries and keys rotates in every layer."""
    ropes, layout, config = attention.ropes, anatomy.layout, anatomy.config
    everywhere = all(rope.everywhere and rope.kind(config) != "proportional" for rope in ropes)
    if not ropes or not everywhere or attention.key not in anatomy.slots:
        return False
    sizes = {anatomy.sizes.of(attention.axis, site) for site in anatomy.sizes.all_sites(attention.axis)}
    return all(layout.rotated(rope, config, size) == size for rope in ropes for size in sizes)


def horizon(anatomy: Anatomy, plan: Plan) -> int:
    """The backward pass by which everything new (and not dead) has had gradient, as `check` says it."""
    return _last(lives(anatomy, network(anatomy, plan)))


def _at(entry: Entry) -> str:
    where = [f"{axis} {i}" for axis, i in (*entry.index, *entry.combo)]
    return ", ".join(where)
