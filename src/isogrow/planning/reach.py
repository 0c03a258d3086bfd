"""What each axis of a model can grow to, found by asking the planner: nothing here knows a family."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, cycle, islice
from math import gcd
from typing import Literal

from isogrow.errors import IsogrowError, SizeError
from isogrow.layouts.config import edited
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Index, Layout, Slot
from isogrow.layouts.lines import name_axes
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy, Header, blocks, name_of
from isogrow.plans.expansions import Expansion, Size, expansions
from isogrow.plans.matching import match
from isogrow.plans.sizes import Sizes
from isogrow.plans.words import REQUESTS, named

Together = tuple[int, ...]

LOOKED = 3  # sizes in a row that must do before all of them are taken to
UNSTATED = 2  # channels of an axis that no config states (an image's rows)
SEARCHED = 16  # sizes looked at where some do and some do not

# Small sizes that most families can hold; a family that can't is asked at its own defaults.
SMALL = {
    "hidden": 48, "pooled": 48, "transform": 48, "ffn": 96, "heads": 6, "kv_heads": 2, "group": 3,
    "key_dim": 8, "value_dim": 8, "layers": 4, "encoder_layers": 3, "decoder_layers": 3,
    **dict.fromkeys(("encoder_ffn", "decoder_ffn"), 96),
    **dict.fromkeys(("encoder_heads", "decoder_heads"), 6),
    **dict.fromkeys(("encoder_kv_heads", "decoder_kv_heads"), 2),
    **dict.fromkeys(("encoder_group", "decoder_group"), 3),
    **dict.fromkeys(("encoder_hidden", "decoder_hidden"), 48),
    **dict.fromkeys(("encoder_key_dim", "decoder_key_dim", "encoder_value_dim", "decoder_value_dim"), 8),
    "experts": 4, "expert_ffn": 40, "shared_ffn": 56, "q_rank": 20, "kv_rank": 16, "rope_dim": 4, "shared": 2,
    "state_heads": 2, "state_group": 3, "state_key_dim": 4, "taps": 4, "apart_kv_heads": 2,
    "state_width": 96, "state_dim": 7, "dt_rank": 3,
    "state_value_dim": 16,  # in all twice `hidden`, as by the classes' own defaults
}  # fmt: skip
# Where the code computes kinds from a layer's number, one of each is among so few layers.
BY_NUMBER = {"attn_layer_period": 2, "attn_layer_offset": 1}


@dataclass(frozen=True)
class Reach:
    """What one axis can grow to.

    `grows`: "any" size; in "steps" of `step`; "some" sizes; only "with" a partner; "no".
    `sizes` are the first that do. `partners` says, by partner ("ffn and heads", where it takes both), sizes
    of this axis and of the partner that do.
    `why` is what the planner says of sizes that do not.
    """

    axis: str
    now: int
    grows: Literal["any", "steps", "some", "with", "no"]
    step: int = 0
    sizes: tuple[int, ...] = ()
    partners: Mapping[str, tuple[Together, ...]] = field(default_factory=dict[str, tuple[Together, ...]])
    why: tuple[str, ...] = ()


def reaches(anatomy: Anatomy, sizes: Mapping[str, int]) -> Iterator[Reach]:
    """What each of these axes can grow to, alone or with one other of them."""
    ask = _Asked(anatomy)
    for axis in sizes:
        found = _led(anatomy, axis) or _alone(ask, axis, sizes[axis])
        if found is None and not (axis in ("key_dim", "value_dim") and "head_dim" in sizes):
            found = _together(ask, axis, sizes)
        yield found or Reach(axis, sizes[axis], "no", why=(ask.why({axis: sizes[axis] + 1}),))


def specimen(layout: Layout) -> Anatomy:
    """A model of this family that exists as names and shapes alone, as small as its config allows."""
    small = _small(layout)
    mixed = _mixed(layout) if small else {}
    config = edited({"model_type": (layout.model_types or (layout.family,))[0]}, small | mixed)
    sizes = Sizes(layout.read(config), layout.sites)
    tensors: dict[str, Header] = {}
    made: set[tuple[str, Index]] = set()  # of several bindings the first will do
    for line in layout.lines:
        slot = line.slot
        known = all(a.isdigit() or sizes.has(a) for each in line.slots for a in each.axes)
        asked = slot.required or (slot.head and known and _beside(layout, slot))
        if asked and slot.stored:
            for index in sizes.indices(name_axes(line.name)):
                if not layout.applies(slot, config, index):
                    continue
                held = {(block.slot, block.index) for _, block in blocks(line, index, sizes)}
                if held & made:
                    continue
                made |= held
                shape = line.parsed.shape(lambda a, at=index: sizes.of(a, at) if sizes.has(a) else UNSTATED)
                tensors[name_of(line, layout.prefixes[0], index, sizes)] = Header(shape, "F32")
    return match(layout, config, tensors)


def _beside(layout: Layout, slot: Slot) -> bool:
    """Whether what a head needs is in every model of the family."""
    needed = layout.slots.get(slot.needs)
    return not slot.needs or (needed is not None and needed.required and not needed.head)


def _mixed(layout: Layout) -> dict[str, list[str]]:
    """The config lists that say which layers are of which kind, one of each that a row asks for."""
    found: dict[str, list[str]] = {}
    for listed in layout.per_layer:
        asked = rf"(?<!\w){re.escape(listed.key)}\[{listed.axis}\] == '(\w+)'"
        kinds = dict.fromkeys(kind for slot in layout.table for kind in re.findall(asked, slot.when)[:1])
        if kinds:
            found[listed.key] = list(islice(cycle(kinds), SMALL[listed.axis]))
    return found


def _small(layout: Layout) -> dict[str, int]:
    """The config keys of small sizes; none where the family has other axes, or can't hold them."""
    formulas = [key.size for key in layout.keys if key.size]
    facts = layout.facts({}, SMALL)
    if not all(
        name in facts for name in frozenset[str]().union(*map(names, (*formulas, *layout.constraints)))
    ):
        return {}
    if not all(evaluate(constraint, facts) for constraint in layout.constraints):
        return {}
    turning = (names(a.rope.rotated) for a in layout.attentions if a.rope is not None and a.rope.rotated)
    rotary = dict.fromkeys(frozenset[str]().union(*turning), SMALL["key_dim"] // 2)
    first = {kind.key: 1 for kind in layout.kinds if kind.counts}
    first |= {key.name: BY_NUMBER[key.name] for key in layout.keys if key.name in BY_NUMBER}
    made = layout.written({}, SMALL) | rotary | first
    read = layout.facts(edited({}, made), layout.read(edited({}, made)))  # an axis may be a number
    held = (each for each in layout.constraints if layout.say(each, read))
    return made if all(evaluate(each, read) for each in held) else {}


@dataclass(frozen=True)
class _Asked:
    """Whether sizes can be had."""

    anatomy: Anatomy
    known: dict[tuple[tuple[str, Size], ...], IsogrowError | None] = field(
        default_factory=dict[tuple[tuple[str, Size], ...], "IsogrowError | None"]
    )

    def __call__(self, sizes: Mapping[str, Size]) -> bool:
        return self._error(sizes) is None

    def why(self, sizes: Mapping[str, Size]) -> str:
        """Why they can't, with sizes that would do; "" if they can."""
        if self(sizes):
            return ""
        try:
            plan(self.anatomy, self._wanted(sizes))
        except IsogrowError as error:
            return str(error)
        raise AssertionError(f"{sizes} are refused without advice alone")

    def ruled_out(self, sizes: Mapping[str, Size]) -> bool:
        """Whether these are refused because an axis can't grow at all: then no other one beside it helps."""
        error = self._error(sizes)
        return isinstance(error, SizeError) and error.whatever

    def helping(self, sizes: Mapping[str, Size], others: Sequence[str]) -> Sequence[str]:
        """Which of these axes may help where sizes are refused: where a constraint is not met, those that
        have a part in it."""
        error = self._error(sizes)
        axes = error.axes if isinstance(error, SizeError) else frozenset[str]()
        words = {word for axis in axes for word in _words(axis, self.anatomy.layout.stacks)}
        return [other for other in others if not axes or other in words]

    def _wanted(self, sizes: Mapping[str, Size]) -> tuple[Expansion, ...]:
        return expansions(sizes, own=named(self.anatomy.sizes))

    def _error(self, sizes: Mapping[str, Size]) -> IsogrowError | None:
        request = tuple(sizes.items())
        if request not in self.known:
            try:
                plan(self.anatomy, self._wanted(sizes), advise=False)
                self.known[request] = None
            except IsogrowError as error:
                self.known[request] = error
        return self.known[request]


def _words(axis: str, stacks: Sequence[str]) -> Iterator[str]:
    """What a request may call an axis."""
    stack = next((each for each in stacks if axis.startswith(f"{each}_")), "")
    for own in (axis, axis.removeprefix(f"{stack}_")):
        for word in {own, REQUESTS.get(own, own)}:
            yield from (word, f"{stack}.{word}") if stack else (word,)


def _led(anatomy: Anatomy, axis: str) -> Reach | None:
    """An axis whose size follows from another one grows with it, unasked."""
    values, formula = anatomy.sizes.values, anatomy.layout.follows.get(axis)
    if formula is None:
        return None
    (leader,) = names(formula)
    pairs = tuple((evaluate(formula, {leader: k * values[leader]}), k * values[leader]) for k in (2, 3, 4))
    return Reach(axis, values[axis], "with", partners={leader: pairs}, why=(f"{axis} is {formula}",))


def _alone(ask: _Asked, axis: str, now: int) -> Reach | None:
    """What an axis can grow to if nothing else does: the finest steps that do."""
    step = next((d for d in _divisors(now) if ask({axis: now + d})), None)
    if step is None:
        return None
    sizes = tuple(now + step * k for k in range(1, LOOKED + 1))
    even = all(ask({axis: size}) for size in sizes)
    if even and step == 1:
        return Reach(axis, now, "any", step, sizes)
    if even:
        return Reach(axis, now, "steps", step, sizes, why=(ask.why({axis: now + 1}),))
    looked = (now + step * k for k in range(1, SEARCHED + 1))
    some = tuple(size for size in looked if ask({axis: size}))
    refused = next(size for size in (now + 1, *sizes) if not ask({axis: size}))
    return Reach(axis, now, "some", 0, some[: LOOKED + 1], why=(ask.why({axis: refused}),))


def _together(ask: _Asked, axis: str, sizes: Mapping[str, int]) -> Reach | None:
    """What an axis can grow to if one other (or, where none will do, two) grow by the same factor."""
    now = sizes[axis]
    apart = {"key_dim", "value_dim"} if "head_dim" in sizes else set[str]()
    if ask.ruled_out({axis: 2 * now}):
        return None
    others = {other: n for other, n in sizes.items() if other != axis and other not in apart}
    rest = [other for other, n in others.items() if not ask.ruled_out({other: 2 * n})]
    partners: dict[str, tuple[Together, ...]] = {}
    for count in (1, 2):
        for others in _helping(ask, axis, rest, sizes, count):
            found = _in_step(ask, (axis, *others), sizes)
            if found:
                partners[" and ".join(others)] = found
        if partners:
            break
    if not partners:
        return None
    step = min(pairs[0][0] for pairs in partners.values()) - now
    # A whole multiple alone says why a partner is needed; where the partner leaves only multiples, one
    # more says why.
    why = (ask.why({axis: 2 * now}), *([ask.why({axis: now + 1})] if step == now else []))
    return Reach(axis, now, "with", step, partners=partners, why=why)


def _helping(
    ask: _Asked, axis: str, rest: Sequence[str], sizes: Mapping[str, int], count: int
) -> list[tuple[str, ...]]:
    """One or two of the other axes that may help this one: each has a part in what stands in the way."""
    own = {axis: 2 * sizes[axis]}
    firsts = ask.helping(own, rest)
    if count == 1:
        return [(first,) for first in firsts]
    found = {
        frozenset((first, second))
        for first in firsts
        for second in ask.helping({**own, first: 2 * sizes[first]}, rest)
    }
    return [pair for pair in combinations(rest, 2) if frozenset(pair) in found]


def _in_step(ask: _Asked, axes: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[Together, ...]:
    """The first sizes of these axes together, grown by one factor in the finest steps; () if none do."""
    now = tuple(sizes[axis] for axis in axes)
    if not ask({axis: 2 * size for axis, size in zip(axes, now, strict=True)}):
        return ()
    common = gcd(*now)
    for d in _divisors(common):
        found = tuple(tuple(n + n // common * d * k for n in now) for k in range(1, LOOKED + 1))
        if all(ask(dict(zip(axes, each, strict=True))) for each in found):
            return found
    return ()


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]
