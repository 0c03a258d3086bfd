"""The network of a grown model: its weights walked in the order in which the model runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from isogrow.errors import LawError
from isogrow.laws.leaves import Leaves
from isogrow.laws.network import ONE, Combo, Contribution, Entry, Network, Node, output
from isogrow.laws.reading import unread
from isogrow.laws.walking import Walk
from isogrow.layouts.layout import Attention, Index, Norm, Slot
from isogrow.layouts.slots import Stream, closing
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes


def network(anatomy: Anatomy, plan: Plan) -> Network:
    """The network of the grown model."""
    return _Builder(anatomy, plan).build()


@dataclass
class StreamState:
    """A residual stream so far, and what the last norm before a branch made of it (`plain`: with no gain)."""

    axis: str
    residual: dict[int, Node] = field(default_factory=dict[int, Node])
    normed: dict[int, Node] | None = None
    plain: Norm | None = None

    @property
    def read(self) -> dict[int, Node]:
        """What its readers see."""
        return self.residual if self.normed is None else self.normed


class _Builder:
    """Walks the layout's weights in the order in which the model runs them."""

    def __init__(self, anatomy: Anatomy, plan: Plan) -> None:
        self.anatomy, self.plan, self.layout = anatomy, plan, anatomy.layout
        self.sizes: Sizes = plan.target
        self.net = Network(unread=unread(anatomy, plan))
        self.leaves = Leaves(anatomy, plan, self.net)
        self.streams: dict[str, StreamState] = {}
        self.now: list[StreamState] = []
        self.branch: dict[int, Node] = {}
        self.parts: dict[int, Node] = {}
        self.stems: dict[tuple[str, Index], dict[Combo, Node]] = {}
        self.read: set[tuple[str, Index]] = set()
        self.heads: list[Node] = []
        self.walk = Walk(anatomy, plan)
        self.slots = self.walk.slots
        self.gated = {slot.gates for slot in self.slots}
        self.branches = any(slot.norm and closing(slot.norm) for slot in self.slots)
        self.scaled = {slot.scales for slot in self.slots}
        self.ungained = {slot.norm.of: slot.norm for slot in anatomy.plain_norms if slot.norm is not None}
        attentions = self.layout.attentions
        met = ((a.query, a.key, a.sink, a.bias, *a.factors.split()) for a in attentions)
        # Keys that are values, too, are read as these.
        self.contracted = {slot for slots in met for slot in slots} - {a.value for a in attentions}

    def build(self) -> Network:
        for slot, index in self.walk.order():
            self._act(slot, index)
        unread = [n for key, d in self.stems.items() if self._ends(*key) for n in d.values()]
        self.net.outputs = self.heads + unread
        taken = {stream.name for stream in self.layout.streams if stream.taken}
        for stream in (each for name, each in self.streams.items() if name in taken or not self.heads):
            self.net.outputs += stream.read.values()
            if stream.plain is not None:
                self.net.plain[output(stream.axis)] = stream.plain
            if stream.normed is None:
                self.net.bare.append(output(stream.axis))
        return self.net

    def _ends(self, stem: str, index: Index) -> bool:
        """Whether what a projection gives is an output: nothing reads it, and it does not only choose."""
        slot = self.layout.slots[stem]
        chooses = bool(slot.idle) and self.layout.holds(slot.idle, self.anatomy.config)
        return (stem, index) not in self.read and not chooses

    def _act(self, slot: Slot, index: Index) -> None:
        self.now = self._states(self.layout.streams_of(slot))
        if slot.unit:
            return  # a number times all channels: none of them is zero for it, or reaches another
        if slot.norm is not None:
            self._norm(slot, slot.norm, index)
        elif slot.gain:
            self._gate(slot, index)
        else:
            self._linear(slot, index)

    def _states(self, streams: Iterable[Stream]) -> list[StreamState]:
        return [self.streams.setdefault(stream.name, self._begun(stream)) for stream in streams]

    def _along(self, slot: Slot, axes: tuple[str, ...]) -> list[StreamState]:
        """The residual streams that a slot reads, or writes, along these of its axes."""
        axis = next((axis for axis in axes if axis in self.layout.residuals), "")
        return self._states(self.layout.along(slot, axis)) if axis else self.now

    def _begun(self, stream: Stream) -> StreamState:
        """A stream that no slot has written yet; what is given is never zero."""
        given = self.leaves.classes(stream.axis, ()) if stream.given else ()
        return StreamState(stream.axis, dict.fromkeys(given, ONE))

    def _norm(self, slot: Slot, norm: Norm, index: Index) -> None:
        if norm.where == "inner" and not slot.stored:
            return  # it lets every channel through; what reads behind it is told in _linear
        if not slot.stored:
            self._plain(norm)
            return
        gain, combos = slot.gain, self.leaves.combos(slot.produced, index)
        offset = norm.offset if gain else 0.0
        every = {combo: self.leaves.entry(slot.name, index, combo, offset) for combo in combos}
        if norm.where == "inner":
            self._inner(norm.of, gain, index, every)
            return
        entries = {p: entry for ((_, p),), entry in every.items()}
        nodes = {p: entry.node for p, entry in entries.items()}
        (stream,) = self.now
        if norm.where == "pre":
            stream.normed = self._applied(gain, stream.residual if gain else stream.normed or {}, nodes)
            stream.plain = None
        elif norm.where == "post":
            stream.residual = self._applied(gain, stream.residual, nodes)
        elif norm.where == "part":
            self._part(gain, nodes)
        elif gain:
            self._close(entries, index)
        else:
            self._join(nodes)

    def _plain(self, norm: Norm) -> None:
        """A norm without a gain lets every channel through."""
        for stream in self.now if norm.where == "pre" else ():
            stream.normed, stream.plain = dict(stream.residual), norm

    def _inner(self, stem: str, gain: bool, index: Index, entries: Mapping[Combo, Entry]) -> None:
        """A norm on a projection's output; on that of one head, where the index names a head."""
        own = self.layout.slots[stem].index
        at = tuple((axis, i) for axis, i in index if axis in own)
        heads = {axis: self.leaves.class_of(axis, i) for axis, i in index if axis not in own}
        # One norm for all blocks is the same tensor behind each of them.
        for key in (key for key in self.stems if key[0] == stem and key[1][: len(at)] == at):
            self._behind(self.stems[key], gain, heads, entries)

    def _behind(
        self, nodes: dict[Combo, Node], gain: bool, heads: Mapping[str, int], entries: Mapping[Combo, Entry]
    ) -> None:
        for combo, node in nodes.items():
            at = dict(combo)
            for channels, entry in entries.items():
                if all(at[axis] == p for axis, p in (*heads.items(), *channels)):
                    nodes[combo] = self.net.node("product" if gain else "sum", node, entry.node)

    def _applied(
        self, gain: bool, stream: Mapping[int, Node], entries: Mapping[int, Node]
    ) -> dict[int, Node]:
        kind = "product" if gain else "sum"
        return {p: self.net.node(kind, node, entries[p]) for p, node in stream.items()}

    def _part(self, gain: bool, entries: Mapping[int, Node]) -> None:
        """A part of a branch ends: it is normalised apart, and added to the parts before it."""
        made = self._applied(True, self.branch, entries) if gain else entries
        old = self.parts
        self.parts = {p: self.net.node("sum", old[p], n) if p in old else n for p, n in made.items()}
        self.branch = {}

    def _close(self, gains: Mapping[int, Entry], index: Index) -> None:
        """A branch ends: its gains multiply it, and it joins the residual."""
        for p, node in self.parts.items():
            self.branch[p] = self.net.node("sum", self.branch[p], node) if p in self.branch else node
        self.parts = {}
        made = self._applied(True, self.branch, {p: entry.node for p, entry in gains.items()})
        for p, total in made.items():
            to_old = not self.leaves.classes(self.now[0].axis, index)[p]
            self.net.paths.append(Contribution(gains[p], self.branch[p], total, to_old))
        self._join(made)
        self.branch = {}

    def _join(self, contributions: Mapping[int, Node]) -> None:
        """Add to the residual; what was normalised before does not see it."""
        for stream in self.now:
            stream.normed = stream.plain = None
            for p, node in contributions.items():
                terms = [stream.residual[p], node] if p in stream.residual else [node]
                stream.residual[p] = self.net.node("sum", *terms)

    def _gate(self, slot: Slot, index: Index) -> None:
        """A gain without a norm, on a branch (LayerScale)."""
        (axis,) = slot.produced
        self._close({p: self.leaves.entry(slot.name, index, ((axis, p),), 0.0) for p in self.branch}, index)

    def _linear(self, slot: Slot, index: Index) -> None:
        self.now = self._along(slot, slot.consumed)
        inputs = self._scaled(slot, self._inputs(slot, index), index)
        if self._residual(slot.consumed) and self.now[0].normed is None:
            self.net.bare.append(slot.name)
        if self._residual(slot.consumed) and self.now[0].plain is not None:
            self.net.plain[slot.name] = self.now[0].plain
        behind = [self.ungained[key[0]] for key in self.feeding if key[0] in self.ungained]
        if behind:
            self.net.plain[slot.name] = behind[0]
        made: dict[Combo, Node] = {}
        for out in self.leaves.combos(slot.produced, index):
            terms: list[Node] = []
            to_old = self._to_old(slot, out, index)
            for combo, source in inputs.items():
                entry = self.leaves.entry(slot.name, index, (*out, *combo), 0.0)
                total = self.net.node("product", source, entry.node)
                total.cancels = entry.cancels == "pair" or self._centred(entry, dict(out), index)
                terms.append(total)
                self.net.paths.append(Contribution(entry, source, total, to_old))
            made[out] = self.net.node("sum", *terms)
        self._write(slot, index, made)

    def _centred(self, entry: Entry, out: Mapping[str, int], index: Index) -> bool:
        """Whether an entry gives a new channel of the residual the mean of its old ones."""
        on = self.layout.residuals & out.keys()
        return entry.cancels == "mean" and any(self.leaves.classes(axis, index)[out[axis]] for axis in on)

    def _to_old(self, slot: Slot, out: Combo, index: Index) -> bool:
        """Whether a contribution reaches an old channel; behind a branch's gate the gate is asked."""
        old = all(not self.leaves.classes(axis, index)[p] for axis, p in out)
        reaches = self._residual(slot.produced) and not self._gated(slot, index)
        return old and (reaches or self.leaves.old(index, ()))

    def _gated(self, slot: Slot, index: Index) -> bool:
        """Whether a norm or gain stands on what this slot writes: the next one in its layer, if that is a
        branch's."""
        if slot.stem in self.gated:
            return True
        if not (index and self.branches):
            return False
        norms = (
            each.norm
            for each in self.slots[self.slots.index(slot) + 1 :]
            if each.norm is not None
            and each.norm.where != "inner"
            and self.layout.on_residual(each.normed)
            and self.layout.stream(each) == self.layout.stream(slot)
            and each.index[:1] == slot.index[:1]
            and self.walk.there(each, index[: len(each.index)])
        )
        return next((closing(norm) for norm in norms), False)

    def _residual(self, axes: tuple[str, ...]) -> bool:
        return self.layout.on_residual(axes)

    def _write(self, slot: Slot, index: Index, made: dict[Combo, Node]) -> None:
        self.now = self._along(slot, slot.produced)
        if self._residual(slot.produced):
            contributions: dict[int, Node] = {}
            for combo, node in made.items():
                contributions[dict(combo)[self.now[0].axis]] = node
            if self._gated(slot, index):
                for p, node in contributions.items():
                    self.branch[p] = self.net.node("sum", self.branch[p], node) if p in self.branch else node
            else:
                self._join(contributions)
        elif slot.head and not self._normed(slot) and all(map(self._shown, slot.produced)):
            self.heads += made.values()
        else:
            stem = slot.stem
            nodes = self.stems.setdefault((stem, index), {})
            if stem == slot.name or not nodes:
                nodes.clear()
                nodes.update(made)
                self.read.discard((stem, index))
            else:
                for combo, node in made.items():
                    nodes[combo] = self.net.node("sum", nodes[combo], node)

    def _normed(self, slot: Slot) -> bool:
        """Whether a norm runs over what this slot makes, so that something reads it."""
        return any(each.norm and each.norm.of == slot.stem for each in self.slots)

    def _shown(self, axis: str) -> bool:
        """Whether an axis of a head is an output's: nothing consumes it."""
        return axis in self.layout.fixed or not any(axis in slot.consumed for slot in self.slots)

    def _inputs(self, slot: Slot, index: Index) -> dict[Combo, Node]:
        """The nodes that a weight reads, by combination of its consumed axes."""
        consumed = slot.consumed
        self.feeding: list[tuple[str, Index]] = []
        if not consumed or all(axis in self.layout.fixed or axis.isdigit() for axis in consumed):
            return (
                {combo: ONE for combo in self.leaves.combos(consumed, index)[:1]} if consumed else {(): ONE}
            )
        if self._residual(consumed):
            combos, axis = self.leaves.combos(consumed, index), self.now[0].axis
            return {combo: self._heard(slot, dict(combo)[axis]) for combo in combos}
        asking = (a for a in self.layout.attentions if (a.query, index) in self.stems)
        met = [a for a in asking if self._lender(a.key, index) in self.stems]
        lent = {self._lender(attention.value, index) for attention in met}
        own = [key for key in self.stems if key[1] == index or key in lent]
        feeding = [key for key in own if self._feeds(key, consumed)]
        self.read.update(feeding)
        self.feeding = feeding
        patterns = [a for a in met if self._lender(a.value, index) in feeding]
        return {
            combo: self.net.node("product", *self._factors(feeding, patterns, dict(combo), index))
            for combo in self.leaves.combos(consumed, index)
        }

    def _heard(self, slot: Slot, p: int) -> Node:
        """What a reader of several streams sees."""
        if any(p not in stream.read for stream in self.now):
            raise LawError(
                f"{slot.name} reads the residual before any row writes to it: put the layout's rows in the"
                ' order of the forward pass, or say that no row does so (Stream("…", given=True))'
            )
        heard = [stream.read[p] for stream in self.now]
        return heard[0] if len(heard) == 1 else self.net.node("sum", *heard)

    def _scaled(self, slot: Slot, inputs: dict[Combo, Node], index: Index) -> dict[Combo, Node]:
        """What a slot reads, times what scales its output (a router's weight, a gate): that is never zero,
        but depends on all that it is computed from."""
        if slot.stem not in self.scaled:
            return inputs
        scaling = {each.name for each in self.slots if each.scales == slot.stem} - self.contracted
        keys = [key for key in self.stems if key[0] in scaling and key[1] == index[: len(key[1])]]
        self.read.update(keys)
        found: dict[Combo, Node] = {}
        for combo, source in inputs.items():
            factors = [self.net.node("always", self._matching(self.stems[key], combo)) for key in keys]
            found[combo] = self.net.node("product", source, *factors) if factors else source
        return found

    def _matching(self, nodes: Mapping[Combo, Node], combo: Combo) -> Node:
        """The sum of the nodes that agree with a combination on the axes that both have."""
        at = dict(combo)
        terms = [node for own, node in nodes.items() if all(at.get(axis, p) == p for axis, p in own)]
        return self.net.node("sum", *terms)

    def _feeds(self, key: tuple[str, Index], consumed: tuple[str, ...]) -> bool:
        """Whether a projection's output is (a factor of) what is consumed."""
        combos = self.stems[key]
        own = {axis for combo in combos for axis, _ in combo if not axis.isdigit()}
        axes = own - (self.layout.fixed - set(consumed))  # a convolution's taps are summed over
        return key[0] not in self.contracted and bool(axes) and axes <= set(consumed)

    def _factors(
        self,
        feeding: list[tuple[str, Index]],
        patterns: list[Attention],
        combo: dict[str, int],
        index: Index,
    ) -> Iterator[Node]:
        for key in feeding:
            for own, node in self.stems[key].items():
                if all(combo.get(axis, p) == p for axis, p in own if not axis.isdigit()):
                    yield node
        for attention in patterns:
            yield self._pattern(attention, combo, index)

    def _pattern(self, attention: Attention, combo: dict[str, int], index: Index) -> Node:
        """The softmax of q · k for one combination of heads: never zero, but it depends on both."""
        keys = self._lender(attention.key, index)
        self.read.update({(attention.query, index), keys})
        terms: list[Node] = []
        for own, q in self.stems[attention.query, index].items():
            if any(combo.get(axis, p) != p for axis, p in own):
                continue
            for other, k in self.stems[keys].items():
                if all(dict(own).get(axis, p) == p for axis, p in other):
                    pace = self._paced(attention, {**combo, **dict(own)}, index)
                    met = self.net.node("product", q, k, *pace)
                    terms.append(met)
                    rest = self._without(own, attention.axis)
                    if not self.leaves.old(index, own) and self.leaves.old(index, rest):
                        self.net.contractions.append((attention.key, index, met))
        beside = [
            key for key in self.stems if key[0] in (attention.sink, attention.bias) and key[1] in ((), index)
        ]
        self.read.update(beside)
        terms += (self._matching(self.stems[key], tuple(combo.items())) for key in beside)
        return self.net.node("always", self.net.node("sum", *terms))

    def _paced(self, attention: Attention, at: dict[str, int], index: Index) -> Iterator[Node]:
        """What a term of a contraction is multiplied by: never zero."""
        for key in ((name, index) for name in attention.factors.split()):
            self.read.add(key)
            yield self.net.node("always", self._matching(self.stems[key], tuple(at.items())))

    def _lender(self, stem: str, index: Index) -> tuple[str, Index]:
        """Where keys or values are read: in this block, or in the last before it that has them."""
        axes = tuple(axis for axis, _ in index)
        own = (slot for slot in self.slots if slot.name == stem and slot.index == axes)
        if any(self.walk.there(slot, index) for slot in own):
            return stem, index
        return next((key for key in reversed(self.stems) if key[0] == stem), (stem, index))

    def _without(self, combo: Combo, axis: str) -> Combo:
        return tuple((name, p) for name, p in combo if name != axis)
