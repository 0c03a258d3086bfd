"""Law 2 on real model classes: each new entry gets gradient by the step that the plan predicts, and new units
part from each other and from what they copy."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import cycle, product

import families as F
import pytest
import torch
from family import VOCAB
from living import members
from sweeping import DIVERSE, swept, turns
from torch import Tensor

from isogrow.errors import LawError
from isogrow.laws import check, lives
from isogrow.laws.building import network
from isogrow.laws.history import Classes
from isogrow.layouts.layout import Index
from isogrow.numbers.arithmetic import blocked
from isogrow.plans.anatomy import Stored
from isogrow.plans.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    LayerAddition,
    MlpExpansion,
)
from isogrow.plans.pieces import Block
from isogrow.plans.plan import Constant, Init, Plan, Rewrite, Step
from isogrow.stores.binding import outputs

pytestmark = pytest.mark.slow  # models of many kinds are built, grown and run


OLD, NEVER = -1, 0
PASSES = 3
SPREAD = 0.15  # no unit of the small models is so far off that its activation is 0 in float64

# Where no norm's statistics and no mean bring gradient earlier than the network of booleans says.
STRICT = ("llama", "mistral", "qwen2")
INITS = ("normal", "uniform", "orthogonal", "copy")
SLEEPY = ("ctrl",)  # its class knows ReLU alone, of whose units some get no gradient from any token
LIVE = [name for name in F.FAMILIES if name not in SLEEPY]
AXES = [(name, axis) for name in LIVE for axis in F.FAMILIES[name].growths]
WIDER = {
    name: next((axis for axis in family.growths if "hidden" in axis), family.alone)
    for name, family in F.FAMILIES.items()
}
# Every run makes all axes of the diverse families, and the widest-reaching one of every other.
every_axis = pytest.mark.parametrize(
    ("name", "axis"), turns(AXES, lambda name, axis: name in DIVERSE or axis == WIDER[name])
)
UNTIED = (
    "model.embed_tokens.weight",
    "transformer.wte.weight",
    "transformer.word_embeddings.weight",
    "gpt_neox.embed_in.weight",
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "embeddings.word_embeddings.weight",
    "shared.weight",
)
TIED = (
    "embed_tokens.weight",
    "tok_embeddings.weight",
    "lm_head.weight",
    "decoder.weight",
    "vocab_projector.weight",
)
PADDING = {end: [F.PAD] for end in (*UNTIED, *TIED)}

Steps = Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Run:
    """A grown model's first passes: when each entry first got gradient, and what it was afterwards."""

    first: Steps
    before: Steps
    after: Steps


@cache
def small(name: str) -> F.Subject:
    return F.subject(F.FAMILIES[name], spread=SPREAD)


@cache
def grown(name: str, axis: str) -> tuple[Plan, Run]:
    made = small(name).plan(F.FAMILIES[name].growths[axis])
    return made, run(small(name), made)


def run(subject: F.Subject, plan: Plan) -> Run:
    """Train the grown model a little, by gradient descent."""
    large = subject.large(plan)
    before = {name: p.detach().clone() for name, p in large.named_parameters(remove_duplicate=False)}
    first = {name: torch.full(p.shape, NEVER) for name, p in before.items()}
    after: Steps = before
    for step, one in enumerate(F.training(large, [F.batch(subject.kind)], steps=PASSES, lr=1e-2), 1):
        after = one.values
        for name, seen in one.seen.items():
            first[name][seen & (first[name] == NEVER)] = step
    return Run(first, before, after)


# What the plan says


def predicted(subject: F.Subject, plan: Plan) -> dict[str, Tensor]:
    """For every entry of the grown model its first pass with gradient (NEVER: none has); old ones are OLD."""
    found: dict[tuple[str, Index], list[tuple[dict[str, int], int]]] = defaultdict(list)
    for life in lives(subject.anatomy, network(subject.anatomy, plan)):
        found[life.slot, life.index].append((dict(life.combo), life.step))
    steps: dict[str, Tensor] = {}
    for stored, part, block in blocks(subject, plan):
        whole = steps.setdefault(stored.name, torch.full(stored.header.shape, OLD))
        result = seen_as(whole, stored, part, block, plan)
        for combo, step in found.get((block.slot, representative(block, set(found), plan)), []):
            rows = [
                members(Classes(plan), axis, block.index, combo[axis], n)
                for axis, n in zip(block.axes, result.shape, strict=True)
            ]
            result[torch.meshgrid(*rows, indexing="ij")] = step
    return steps


def blocks(subject: F.Subject, plan: Plan) -> Iterator[tuple[Stored, str, Block]]:
    """Every stored tensor of the grown model with every part and block in it."""
    for stored in outputs(subject.anatomy, plan):
        for part, block in stored.blocks(plan.target):
            yield stored, part, block


def seen_as(tensor: Tensor, stored: Stored, part: str, block: Block, plan: Plan) -> Tensor:
    """A grown stored tensor as one of its blocks."""

    def size(axis: str) -> int:
        return plan.target.of(axis, block.index)

    return blocked(tensor, stored.line.parsed.view(part, dict(block.index), size))


def representative(block: Block, known: set[tuple[str, Index]], plan: Plan) -> Index:
    """The index that stands for a block's: of layers, experts or heads with one history it is the first."""
    layers = next((axis for axis, _ in block.index if axis.endswith("layers")), "layers")
    at = {axis: i if axis == layers else first_alike(plan, axis, i) for axis, i in block.index}
    while (block.slot, tuple(at.items())) not in known and at.get(layers, 0) > 0:
        at[layers] -= 1
    return tuple(at.items())


def first_alike(plan: Plan, axis: str, position: int) -> int:
    """The first position on an axis that has the history of this one."""
    past = [Classes(plan).history(axis, (), i) for i in range(position + 1)]
    return past.index(past[position])


def unread(name: str) -> dict[str, Sequence[int]]:
    """Rows that no batch reads."""
    return {**PADDING, **F.FAMILIES[name].unread}


def faults(expected: Steps, found: Steps, without: Mapping[str, Sequence[int]], strict: bool) -> list[str]:
    """Where new entries got gradient later than predicted (strict: or earlier), or where dead ones got any.

    `without` lists apart the rows that can have none: those of tokens that the batch does not hold.
    """
    said: list[str] = []
    for name, steps in expected.items():
        seen, new = found.get(name, torch.zeros_like(steps)), steps != OLD  # buffers learn nothing
        apart = (row for end, rows in without.items() if name.endswith(end) for row in rows)
        if new.ndim:
            new[[row for row in apart if row < len(new)]] = False
        late = (seen == NEVER) | (seen > steps)
        wrong = new & torch.where(steps == NEVER, seen != NEVER, late | (strict & (seen != steps)))
        if wrong.any():
            pairs = sorted({(int(a), int(b)) for a, b in zip(steps[wrong], seen[wrong], strict=True)})
            said.append(f"{name}: {int(wrong.sum())} of {int(new.sum())}, (predicted, observed) {pairs}")
    return said


# Liveness


@every_axis
def test_new_entries_get_gradient_when_predicted(name: str, axis: str) -> None:
    plan, one = grown(name, axis)
    expected = predicted(small(name), plan)
    latest = max(int(steps.max()) for steps in expected.values())
    # A single growth: the switch at the first pass, the rest by the second; taps are all switch. A tied
    # head reads zeros at the first, so that the last gains, behind their zero writers, wait for one more.
    norms = (slot.norm for slot in small(name).anatomy.slots.values())
    waits = small(name).anatomy.tied_head and any(norm and norm.where == "branch" for norm in norms)
    late = waits and axis in ("hidden", "decoder.hidden")
    assert latest == (3 if late else 1 if axis == "taps" else 2)
    assert faults(expected, one.first, unread(name), strict=name in STRICT) == []


@pytest.mark.parametrize("name", turns(F.FAMILIES))
def test_only_tokens_in_no_batch_are_left_out(name: str) -> None:
    """The row of the padding's token gets no gradient as an embedding; it is all that is listed apart."""
    plan, one = grown(name, WIDER[name])
    expected = predicted(small(name), plan)
    old = small(name).small.state_dict()
    for n in (n for n in expected if n.endswith(tuple(PADDING))):
        steps, seen, hidden = expected[n], one.first[n], old[n].shape[-1]
        rest = torch.arange(len(seen)) != F.PAD
        rest[VOCAB:] = False  # rows that are no token of a text
        assert (seen[rest, hidden:] > NEVER).all()
        if len(seen) > F.PAD:  # a table of entities, or a head that tells no padding, has no such row
            assert (steps[F.PAD, hidden:] > NEVER).all()
    given = F.batch(F.FAMILIES[name].classes[0])
    assert all(F.PAD not in given[ids] for ids in given if ids.endswith("input_ids"))


def edited(plan: Plan, slot: str, change: Mapping[str, Constant]) -> Plan:
    """The plan with other entries in one slot."""

    def rewrites(step: Step) -> dict[str, Rewrite]:
        found = {**step.rewrites.get(slot, {}), **change}
        labels = {place.label for place in step.places}
        return {**step.rewrites, slot: {label: e for label, e in found.items() if label in labels}}

    return dataclasses.replace(
        plan, steps=tuple(dataclasses.replace(step, rewrites=rewrites(step)) for step in plan.steps)
    )


ZERO = {"new": Constant(0.0), "more": Constant(0.0)}


@pytest.mark.parametrize(
    ("name", "axis", "stem", "dead"),
    [
        ("llama", "ffn", "mlp.up", {"mlp.up_proj", "mlp.gate_proj", "mlp.down_proj"}),
        ("llama", "head_dim", "attn.q", {"self_attn.q_proj", "self_attn.k_proj"}),
        ("qwen2", "heads", "attn.q", set()),
        ("gpt2", "layers", "attn.v", {"ln_1", "attn.c_attn", "attn.c_proj"}),
        ("bert", "ffn", "mlp.up", {"intermediate.dense", "output.dense"}),
    ],
)
def test_two_zeros_in_series(name: str, axis: str, stem: str, dead: set[str]) -> None:
    """A second zero on a path kills what nothing else feeds, and only that: as Law 2 computes it."""
    plan = edited(edited(grown(name, axis)[0], stem, ZERO), f"{stem}.bias", ZERO)
    expected, one = predicted(small(name), plan), run(small(name), plan)
    assert faults(expected, one.first, unread(name), strict=name in STRICT) == []
    never = {n for n, steps in expected.items() if (steps == NEVER).any()}
    assert {kind for kind in dead if any(kind in n for n in never)} == dead
    assert all(any(kind in n for kind in dead) for n in never)
    if dead:
        with pytest.raises(LawError, match="would never get gradient"):
            check(small(name).anatomy, plan)
        alive = predicted(small(name), grown(name, axis)[0])
        assert faults(alive, one.first, unread(name), strict=False) != []


# New units part


# The axes beside which an axis has units of its own: a value channel belongs to its head.
BESIDE = {"key_dim": ("heads", "kv_heads"), "value_dim": ("heads", "kv_heads"), "group": ("kv_heads",)}


def units(subject: F.Subject, plan: Plan, values: Steps, axis: str) -> Iterator[Tensor]:
    """All that makes up the units of an axis (n, entries), at each place where it has units of its own."""
    found: dict[Index, list[Tensor]] = defaultdict(list)
    for stored, part, block in blocks(subject, plan):
        if axis not in block.axes:
            continue
        x = seen_as(values[stored.name].contiguous(), stored, part, block, plan)
        beside = [a for a in block.axes if a in BESIDE.get(axis, ())]
        x = x.movedim([block.axes.index(a) for a in (axis, *beside)], list(range(len(beside) + 1)))
        site = () if axis == "hidden" else block.index
        if not beside:
            found[site].append(x.reshape(len(x), -1))
        for head in range(x.shape[1] if beside else 0):
            found[(*site, (beside[0], head))].append(x[:, head].reshape(len(x), -1))
    for parts in found.values():
        yield torch.cat(parts, dim=1)


def twins(subject: F.Subject, plan: Plan, one: Run) -> list[str]:
    """Axes some of whose units are alike after the training."""
    grew = {step.axis for step in plan.steps if not step.axis.endswith("layers")}
    return sorted(
        axis
        for axis in grew
        if not all(F.distinct(x, 0).all() for x in units(subject, plan, one.after, axis))
    )


@every_axis
def test_new_units_part(name: str, axis: str) -> None:
    plan, one = grown(name, axis)
    assert twins(small(name), plan, one) == []


@pytest.mark.parametrize("name", swept(n for n, family in F.FAMILIES.items() if "layers" in family.growths))
def test_new_layers_part(name: str) -> None:
    _, one = grown(name, "layers")
    layers = {n: x for n, x in one.after.items() if ".3." in n}
    assert layers
    for n, third in layers.items():
        beside = (
            one.after.get(n.replace(".3.", at)) for at in (".4.", ".2.")
        )  # which may be of another kind
        assert not any(other is not None and torch.equal(third, other) for other in beside)


@pytest.mark.parametrize(
    ("name", "init"),
    swept(product(LIVE, INITS), lambda name, init: dict(zip(DIVERSE, cycle(INITS))).get(name) == init),
)
def test_every_initializer(name: str, init: str) -> None:
    """All axes at once: exact, alive when predicted, no twins."""
    subject = small(name)
    plan = subject.plan(F.FAMILIES[name].together, init=Init(init))
    one = run(subject, plan)
    assert subject.error(plan) < F.EXACT
    assert faults(predicted(subject, plan), one.first, unread(name), strict=False) == []
    assert twins(subject, plan, one) == []


def test_twins_are_found() -> None:
    """Copies of a post-norm model's channels whose consumers are all zero stay copies of each other."""
    subject = small("bert")
    plan = subject.plan(
        (HeadAddition("x3"), HiddenExpansion("x3"))
    )  # heads added later would tell them apart
    silent = {f"copy{i}": Constant(0.0) for i in (1, 2)}
    step = next(step for step in plan.steps if step.axis == "hidden")
    rewrites = {
        slot: {**rewrite, **silent} if _cancels(rewrite) else rewrite
        for slot, rewrite in step.rewrites.items()
    }
    assert rewrites != step.rewrites
    silenced = dataclasses.replace(step, rewrites=rewrites)
    plan = dataclasses.replace(plan, steps=tuple(silenced if s is step else s for s in plan.steps))
    assert "hidden" in twins(subject, plan, run(subject, plan))
    with pytest.raises(LawError, match="stay copies for ever"):
        check(subject.anatomy, plan)


def _cancels(rewrite: Rewrite) -> bool:
    return any(getattr(entry, "sign", 1.0) < 0 for entry in rewrite.values())


STACKS: dict[str, tuple[Expansion, ...]] = {
    "a unit": (MlpExpansion("+9"), MlpExpansion("+9")),
    "a unit and its layer": (MlpExpansion("+9"), LayerAddition("+1")),
    "a layer and its units": (LayerAddition("+1"), MlpExpansion("+9")),
    "a head and its layer": (HeadAddition(10), LayerAddition("+1")),
    "a group and its heads": (HeadAddition(heads=9, kv_heads=3), HeadAddition(heads=15)),
    "a value and its head": (HeadsExpansion("+4"), HeadAddition(heads=9, kv_heads=3)),
    "a head and its values": (HeadAddition(heads=9, kv_heads=3), HeadsExpansion("+4")),
    "a query": (AttentionExpansion("+4"), AttentionExpansion("+4")),
    "a channel": (HiddenExpansion("+12"), HiddenExpansion("+12")),
    "a layer": (LayerAddition("+1"), LayerAddition("+1")),
}


@pytest.mark.parametrize("stack", STACKS)
def test_what_is_copied_twice_parts(stack: str) -> None:
    """`copy` copies nothing twice: a second copy, or one in a new layer, would be read by zeros alone, as the
    first is, and stay a twin of it."""
    subject = small("mistral")
    plan = subject.plan((*STACKS[stack], *_same_dims(STACKS[stack])), init=Init("copy"))
    assert subject.error(plan) < F.EXACT
    assert twins(subject, plan, run(subject, plan)) == []


def _same_dims(stack: tuple[Expansion, ...]) -> Iterator[Expansion]:
    """What keeps key_dim and value_dim equal."""
    for e in stack:
        if isinstance(e, HeadsExpansion):
            yield AttentionExpansion(e.value_dim)
        if isinstance(e, AttentionExpansion):
            yield HeadsExpansion(e.key_dim)


def test_two_multiples_in_a_row_are_refused_for_a_post_norm_model() -> None:
    """Both copies are read by zeros: one step by the product is told apart by pairs of r and -r."""
    subject = small("bert")
    twice = (HeadAddition("x4"), HiddenExpansion("x2"), HiddenExpansion("x2"))
    with pytest.raises(LawError, match="stay copies for ever: grow hidden in one step"):
        subject.plan(twice)
    plan = subject.plan(twice, allow_dead=True)
    assert subject.error(plan) < F.EXACT
    assert "hidden" in twins(subject, plan, run(subject, plan))
    once = subject.plan((HeadAddition("x4"), HiddenExpansion("x4")))
    assert twins(subject, once, run(subject, once)) == []
