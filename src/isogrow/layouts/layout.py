"""Layouts: one model family as data.

A layout lists a family's weights in the order in which the model runs them, one row each: what a weight is
(its slot, its axes and who produces and consumes them), and the name template under which it is stored; where
else the same slots may lie, further bindings say. Beside them stand the norms, the attentions and their
position scheme, and how sizes are read from and written to config.json. There is no code per family.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any, Literal

from isogrow.errors import FormulaError, LayoutError
from isogrow.layouts.config import Config, Defaults, Each, get
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.keys import Key as Key
from isogrow.layouts.keys import Kinds as Kinds
from isogrow.layouts.keys import PerLayer as PerLayer
from isogrow.layouts.keys import Readout as Readout
from isogrow.layouts.lines import Bias as Bias
from isogrow.layouts.lines import Binding as Binding
from isogrow.layouts.lines import Line as Line
from isogrow.layouts.lines import Weight as Weight
from isogrow.layouts.rotary import Rope as Rope
from isogrow.layouts.slots import Norm as Norm
from isogrow.layouts.slots import Slot as Slot
from isogrow.layouts.slots import Stream as Stream
from isogrow.layouts.slots import closing

Index = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Alibi:
    """Positions as a bias on the logits, steeper from head to head (ALiBi, arXiv 2108.12409).

    Head j of n adds -m(j, n) · distance, with slopes m that `isogrow.rules.alibi` states; the least is
    2^-most, and `most` a formula over config keys. `inside` is true where the attention scale multiplies the
    bias too. `when` is a formula over config keys: there are no biases where it is false.
    """

    most: str = "8"
    inside: bool = False
    when: str = ""


@dataclass(frozen=True)
class Attention:
    """Two slots that are contracted with each other along `axis`; `key` is the side that is switched.

    `sink` names a slot with one more logit for each head, beside those of the keys; `bias` one whose entries
    for each head are added to the logits (relative positions), of the same block or of a whole stack.
    `scale` is a formula over sizes, config keys and `layer`; "" where the model has none. `factors`
    names slots by functions of which, never zero, each term is multiplied (how fast a state fades).
    A layer that has queries and no keys (values) reads those of the last layer before it that has.
    """

    query: str = "attn.q"
    key: str = "attn.k"
    value: str = "attn.v"
    axis: str = "key_dim"
    scale: str = "key_dim ** -0.5"
    rope: Rope | None = None
    alibi: Alibi | None = None
    sink: str = ""
    bias: str = ""
    factors: str = ""

    @property
    def ropes(self) -> tuple[Rope, ...]:
        """The tables of all kinds of layers."""
        return () if self.rope is None else (self.rope, *self.rope.others)


@dataclass(frozen=True)
class Rename:
    """An old name for what the class calls otherwise today: `new` for `old`, where a name begins, or ends.

    With `beside`, only in a model that has a name which begins with it.
    """

    old: str
    new: str
    where: Literal["start", "end"] = "start"
    beside: str = ""

    def applied(self, name: str) -> str:
        """The name of today; another name stays as it is."""
        return _replaced(name, self.old, self.new, self.where)

    def undone(self, name: str) -> str:
        """The old name for a name of today."""
        return _replaced(name, self.new, self.old, self.where)


def _whole(size: Any, formula: str) -> int:
    if isinstance(size, int | float) and isfinite(size):
        return int(size)
    raise FormulaError(f"the config says {formula} is {size!r}, and a size is a whole number: correct it")


def _replaced(name: str, old: str, new: str, where: str) -> str:
    if where == "start" and name.startswith(old):
        return new + name[len(old) :]
    return name[: -len(old)] + new if where == "end" and name.endswith(old) else name


@dataclass(frozen=True)
class Layout:
    """A family: see the module's docstring and docs/add-a-family.md.

    `foreign` says of tensors that no line names, by regular expression, why such a model can't be grown.
    `stacks` are the names before an axis of which each stack has its own (`encoder_layers`); why a name is
    none here, `apart` says. `streams` are the residual streams, the first of them that of slots which name
    none. Tensors whose names begin with one of `carried` are no lines' (a tower of another kind): they stay
    what they are, whatever grows. `kept` are keys of an ε that something beside the residual's norms reads
    too, so that no growth may edit them. `leading` is a formula over sizes and config keys: so many first
    layers stay the first, since (`led`) something counts on their numbers. Where the formula over config keys
    that `lifted` has for an axis is true, its refusal does not hold. `signalled` are slots that images or
    sound alone reach. `windows` are axes along which a causal convolution sums, whose last position is the
    newest token's.
    """

    family: str
    weights: tuple[Weight, ...]
    axes: Mapping[str, str]
    keys: tuple[Key, ...] = ()
    model_types: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    attentions: tuple[Attention, ...] = ()
    per_layer: tuple[PerLayer, ...] = ()
    kinds: tuple[Kinds, ...] = ()
    readouts: tuple[Readout, ...] = ()
    follows: Mapping[str, str] = field(default_factory=dict[str, str])
    constraints: tuple[str, ...] = ()
    sites: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    derived: tuple[str, ...] = ()
    renames: tuple[Rename, ...] = ()
    fixed: frozenset[str] = frozenset({"vocab", "positions"})
    streams: tuple[Stream, ...] = (Stream(),)
    refusals: Mapping[str, str] = field(default_factory=dict[str, str])
    lifted: Mapping[str, str] = field(default_factory=dict[str, str])
    foreign: Mapping[str, str] = field(default_factory=dict[str, str])
    stacks: tuple[str, ...] = ()
    apart: Mapping[str, str] = field(default_factory=dict[str, str])
    bindings: tuple[Binding, ...] = ()
    carried: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    leading: str = ""
    led: str = "features of images are added behind them, by their number"
    signalled: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for attention in self.attentions:
            for name in (attention.query, attention.key, attention.value):
                if name not in self.slots:
                    raise LayoutError(f"{self.family}: attention slot {name!r} is no weight's slot")
        known = {stream.name for stream in self.streams}
        for slot in (slot for slot in self.table if not known.issuperset(slot.stream.split())):
            raise LayoutError(
                f"{self.family}: {slot.name} is of the stream {slot.stream!r}, and streams has"
                f" {', '.join(map(repr, known))}: name it there"
            )
        for slot in (slot for slot in self.table if not slot.stored):
            if slot.norm is None or closing(slot.norm):
                raise LayoutError(
                    f"{self.family}: {slot.name} has no tensor, and is no norm before a branch, on the"
                    " residual or on another weight's output: give it one of those, or leave it out"
                )

    @cached_property
    def residuals(self) -> frozenset[str]:
        """The axes of the residual streams."""
        return frozenset(stream.axis for stream in self.streams)

    @cached_property
    def residual(self) -> str:
        """The axis of the first stream, which is the model's width."""
        return self.streams[0].axis

    def streams_of(self, slot: Slot) -> tuple[Stream, ...]:
        """The residual streams that a slot is of."""
        return tuple(self._named[name] for name in slot.stream.split()) or self.streams[:1]

    @cached_property
    def _named(self) -> dict[str, Stream]:
        return {stream.name: stream for stream in self.streams}

    def stream(self, slot: Slot) -> str:
        """The name of the (first) stream that a slot is of."""
        return self.streams_of(slot)[0].name

    def along(self, slot: Slot, axis: str) -> tuple[Stream, ...]:
        """The residual streams along an axis that a slot reads or writes: those that it is of, or, where it
        reads one and writes another, the other one."""
        own = tuple(stream for stream in self.streams_of(slot) if stream.axis == axis)
        return own or tuple(stream for stream in self.streams if stream.axis == axis)

    def on_residual(self, axes: Iterable[str]) -> bool:
        """Whether one of these axes is a residual stream's."""
        return not self.residuals.isdisjoint(axes)

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Where slots lie, in every binding: the table's own first."""
        own = (line for weight in self.weights for line in weight.lines())
        others = (line for binding in self.bindings for line in binding.lines(self.weights))
        return (*own, *others)

    @cached_property
    def table(self) -> tuple[Slot, ...]:
        """Every slot, in the order in which the model runs them, in all its variants."""
        return tuple(dict.fromkeys(slot for w in self.weights for line in w.lines() for slot in line.slots))

    @cached_property
    def slots(self) -> dict[str, Slot]:
        """name -> slot; of several variants, the first."""
        found: dict[str, Slot] = {}
        for slot in self.table:
            found.setdefault(slot.name, slot)
        return found

    @cached_property
    def homes(self) -> dict[str, tuple[Line, ...]]:
        """name -> the lines that hold the slot of this name."""
        found: dict[str, list[Line]] = {}
        for line in self.lines:
            for slot in line.slots:
                found.setdefault(slot.name, []).append(line)
        return {name: tuple(lines) for name, lines in found.items()}

    def applies(self, slot: Slot, config: Config, index: Index) -> bool:
        """Whether a model of this config has this slot at this index."""
        return self.holds(slot.when, config, index)

    def beside(self, slot: Slot, names: Iterable[str]) -> bool:
        """Whether what a slot needs is among tensors of these names."""
        ends = tuple(line.name for line in self.homes.get(slot.needs, ()))
        return not slot.needs or any(name.endswith(ends) for name in names)

    def holds(self, formula: str, config: Config, index: Index = ()) -> bool:
        """Whether a formula over config keys (and the numbers of an index) is true; an empty one is."""
        return not formula or bool(evaluate(formula, self.defaults(config).over(dict(index))))

    def far_heads(self, config: Config, slots: Iterable[Slot]) -> tuple[Slot, ...]:
        """The heads that share another weight's entries, and read what one of these slots makes of the
        residual."""
        made = {axis for slot in slots for axis in slot.produced}
        far = (slot for slot in self.table if slot.tied and slot.head and not self.on_residual(slot.consumed))
        there = (slot for slot in far if {*slot.consumed} <= made and self.holds(slot.when, config))
        return tuple(
            slot for slot in there if slot.consumed and self.holds(self.streams_of(slot)[0].tie, config)
        )

    def met(self, slots: Container[str]) -> tuple[Attention, ...]:
        """The contractions of which a model with these slots has both sides."""
        return tuple(a for a in self.attentions if a.query in slots and a.key in slots)

    def biased(self, attention: Attention, config: Config) -> Alibi | None:
        """The position biases of an attention, where this config has any."""
        alibi = attention.alibi
        return alibi if alibi is not None and self.holds(alibi.when, config) else None

    def leads(self, config: Config, sizes: Mapping[str, int]) -> int:
        """Behind how many of the first layers something is added that is no part of them."""
        facts = self.facts(config, sizes)
        return int(evaluate(self.leading, facts)) if self.say(self.leading, facts) else 0

    def path(self, name: str, config: Config) -> str:
        """The path under which a config has a key: its alias, where that is given."""
        aliases = (key.alias for key in self._aliased if key.name == name)
        return next((alias for alias in aliases if get(config, alias) is not None), name)

    def called(self, name: str, config: Config | None = None) -> tuple[str, ...]:
        """What a key may be called; given a config, the names under which that has it (or would)."""
        both = (name, *(key.alias for key in self._aliased if key.name == name))
        there = both if config is None else tuple(each for each in both if get(config, each) is not None)
        return there or (name,)

    def reads(self, config: Config, sizes: Mapping[str, int]) -> dict[str, int]:
        """Of stacks that nothing reads at their ends, the axis that numbers their layers, and behind how many
        of these they are read last."""
        view = self.defaults(config)
        found: dict[str, int] = {}
        for read in self.readouts:
            if read.only and read.key in view and read.axis in sizes:
                found[read.axis] = max(
                    (found.get(read.axis, 0), *read.past(view[read.key], sizes[read.axis]))
                )
        return found

    def refused(self, axis: str, config: Config) -> str | None:
        """Why an axis can't grow, whatever its size; None where no reason is said, or it does not hold."""
        lifted = self.lifted.get(axis, "")
        return None if lifted and self.holds(lifted, config) else self.refusals.get(axis)

    def clamps(self, slot: Slot, config: Config) -> bool:
        """Whether a model of this config clamps what this slot gives."""
        return bool(slot.clamp) and self.holds(slot.clamp, config)

    def rotated(self, rope: Rope, config: Config, size: int) -> int:
        """How many channels of a head of this size rotate."""
        if not self.holds(rope.when, config):
            return 0
        if rope.rotated:
            return min(size, int(evaluate(rope.rotated, self.defaults(config)) or size))
        # This kind turns the rest of the pairs, too, by an angle of zero.
        return size if rope.kind(config) == "proportional" else int(size * rope.part(config))

    def held(self, config: Config) -> tuple[Key, ...]:
        """The keys that hold sizes in this config."""
        return tuple(key for key in self.keys if key.size and self.holds(key.when, config))

    def written(self, config: Config, sizes: Mapping[str, int]) -> dict[str, int]:
        """What those keys, under the names that the config has for them, must say for these sizes."""
        found: dict[str, Any] = {}
        facts = self.facts(config, sizes)
        for key in self.held(config):
            if self.say(key.size, facts):
                found |= dict.fromkeys(self.called(key.name, config), evaluate(key.size, facts))
        return found

    def defaults(self, config: Config) -> Defaults:
        """`config` with the class's defaults for what it leaves out."""
        said = {key.name: get(config, key.alias) for key in self._aliased}
        given = {name: value for name, value in said.items() if value is not None}
        meant = {key.name: key.meant(config) for key in self._nullable}
        known = {name: value for name, value in meant.items() if value is not None}
        return Defaults({**config, **given}, {**self._meant, **known})

    @cached_property
    def _aliased(self) -> tuple[Key, ...]:
        return tuple(key for key in self.keys if key.alias)

    @cached_property
    def _nullable(self) -> tuple[Key, ...]:
        """The keys whose default depends on what a config says."""
        return tuple(key for key in {key.name: key for key in self.keys}.values() if key.null is not None)

    @cached_property
    def _meant(self) -> dict[str, Any]:
        """The defaults that are the same whatever a config says."""
        meant = self._listed | {key.name: key.default for key in self.keys}
        return {name: value for name, value in meant.items() if value is not None}

    @cached_property
    def _listed(self) -> dict[str, Any]:
        """The lists by layer that the class computes where a config leaves them out."""
        return {each.key: Each(each.default) for each in self.per_layer if each.default and not each.runs}

    def facts(self, config: Config, sizes: Mapping[str, Any]) -> Defaults:
        """What formulas may ask: sizes, config keys with their defaults, and the kind of the first rotary
        scaling, `rope_type`."""
        kinds = [rope.kind(config) for attention in self.attentions for rope in attention.ropes]
        return self.defaults(config).over({"rope_type": kinds[0] if kinds else "", **sizes})

    def usual(self, config: Config, sizes: Mapping[str, int]) -> dict[str, str]:
        """The keys that are what they are by convention, and their formulas."""
        facts = self.facts(config, sizes)
        said = {key.name: key.usual for key in self.keys if key.usual and self.say(key.usual, facts)}
        return {name: usual for name, usual in said.items() if facts[name] == evaluate(usual, facts)}

    def say(self, formula: str, facts: Mapping[str, Any]) -> bool:
        """Whether a formula has a value: a model that lacks a part lacks its axes."""
        return bool(formula) and all(name in facts for name in names(formula))

    def read(self, config: Config) -> dict[str, int]:
        """The size of every axis that this config states."""
        view = self.defaults(config)
        sizes = {axis: evaluate(formula, view) for axis, formula in self.axes.items()}
        return {axis: _whole(size, self.axes[axis]) for axis, size in sizes.items() if size is not None}
