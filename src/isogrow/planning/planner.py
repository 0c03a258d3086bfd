"""From a request to a plan: which axes grow, in which order, and what the config becomes.

Pure data in, pure data out: a plan is made from config.json and the tensors' headers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from isogrow.errors import IsogrowError, SizeError
from isogrow.laws import check
from isogrow.layouts.config import Config, edited, get
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Index, Layout
from isogrow.planning.heads import grouped, meant
from isogrow.planning.nearest import Accepts, mend
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.choices import Choices
from isogrow.plans.expansions import (
    At,
    Expansion,
    HeadAddition,
    LayerAddition,
    Size,
    expansions,
    places,
    target,
)
from isogrow.plans.plan import Init, Mean, Plan, Step, grown
from isogrow.plans.regions import check_known
from isogrow.plans.sizes import Sizes, key
from isogrow.plans.words import HEAD_DIM, addressed, alone, named, spelled, stated, told, with_dots
from isogrow.rules import rule_for
from isogrow.rules.kinds import counted
from isogrow.rules.layers import add
from isogrow.rules.rotary import renamed
from isogrow.rules.subject import Subject, subject

LARGEST_NUMBER = 1e4  # no rule scales by as much, or fills with it


@dataclass(frozen=True)
class AxisGrowth:
    """One axis at one site, and the size that it is to have; `word` is what the asker calls the axis."""

    axis: str
    site: Index
    size: Size
    at: At = "end"
    word: str = ""


def plan(
    anatomy: Anatomy,
    wanted: Iterable[Expansion],
    init: Init | None = None,
    seed: int = 0,
    allow_dead: bool = False,
    choices: Choices | None = None,
    advise: bool = True,
) -> Plan:
    """The plan that grows this model by these expansions, in their order.

    Both laws are checked on it. Without `advise` a refusal does not look for sizes that would do: who only
    asks whether a size can be had is answered sooner.

    Raises `SizeError` for a size that the family or its config can't hold, `LawError` for a dead part (unless
    allowed).
    """
    made = unchecked(anatomy, wanted, init, seed, choices, advise)
    check(anatomy, made, allow_dead)
    return made


def unchecked(
    anatomy: Anatomy,
    wanted: Iterable[Expansion],
    init: Init | None = None,
    seed: int = 0,
    choices: Choices | None = None,
    advise: bool = True,
) -> Plan:
    """The same plan before the laws are checked on it. Raises `SizeError`."""
    if not isinstance(seed, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SizeError(f"seed {seed!r} is no whole number: give one")
    check_known(init or Init())
    choices = Choices(anatomy.layout.kept) | (choices or Choices())
    now = dataclasses.replace(subject(anatomy), choices=choices)
    steps: list[Step] = []
    for expansion in wanted:
        for growth in _growths(now, expansion):
            now = _calling(now, growth)
            step = _step(now, growth, init or Init())
            if step is not None:
                steps.append(step)
                now = _after(now, step)
    accepts = partial(_taken, anatomy, now.sizes, choices) if advise else None
    _check_constraints(dataclasses.replace(subject(anatomy), words=now.words), now, accepts)
    config = config_edits(anatomy, steps, now.sizes)
    return Plan(anatomy.layout.family, anatomy.sizes, tuple(steps), config, seed)


def check_led(anatomy: Anatomy, plan: Plan) -> None:
    """Refuse a plan that does not end at this model's sizes: it was not grown by that."""
    if (plan.family, plan.target) != (anatomy.layout.family, anatomy.sizes):
        raise SizeError("the plan does not end at this model's sizes: give the one that it was grown by")


def check_fits(anatomy: Anatomy, plan: Plan) -> None:
    """Refuse a plan that was made for another model: other sizes, other slots, or another config, for which
    the rules edit other keys or put channels elsewhere."""
    if (plan.family, plan.source) != (anatomy.layout.family, anatomy.sizes):
        stacks = anatomy.layout.stacks
        raise SizeError(
            f"the plan is for {plan.family!r} with {stated(plan.source, stacks)}, and this model is"
            f" {anatomy.layout.family!r} with {stated(anatomy.sizes, stacks)}: make a plan for this model"
        )
    for step in plan.steps:
        for name, slot in anatomy.slots.items():
            if step.axis in (*slot.index, *slot.axes) and name not in step.rewrites:
                raise SizeError(
                    f"the plan does not say what becomes of {name} when {step.axis} grows: it was made for"
                    " another class of this family; make a plan for this model"
                )
        for slot in step.rewrites.keys() - anatomy.slots.keys():
            raise SizeError(
                f"the plan says what becomes of {slot}, which this model lacks: it was made for another class"
                " or config of this family; make a plan for this model"
            )
        _check_entries(anatomy, step)
    _check_rules(anatomy, plan)
    _check_edits(anatomy, plan)


def _check_entries(anatomy: Anatomy, step: Step) -> None:
    """Every place's entries are said, of slots that there are, in numbers that a weight can hold."""
    labels = {place.label for place in step.places if not place.old}
    for slot, rewrite in step.rewrites.items():
        own = anatomy.slots[slot]
        grows = step.axis in (*own.index, *own.axes)
        silent = sorted(labels - rewrite.keys()) if grows else []
        means = [entry.weights for entry in rewrite.values() if isinstance(entry, Mean)]
        strange = [slot for slot in means if slot and slot not in anatomy.slots]
        numbers = [n for e in rewrite.values() for n in dataclasses.astuple(e) if isinstance(n, float)]
        if silent or strange or not all(abs(number) <= LARGEST_NUMBER for number in numbers):
            raise SizeError(
                f"the plan does not say in numbers what {slot} is when {step.axis} grows"
                f" ({silent[0] if silent else dict(rewrite)}): make a plan for this model"
            )


def _check_rules(anatomy: Anatomy, plan: Plan) -> None:
    """Each step must place channels and edit the config as the rules do on this model."""
    now = subject(anatomy)
    for step in plan.steps:
        if not now.sizes.has(step.axis):
            raise SizeError(f"the plan grows {step.axis!r}, which this model lacks: make a plan for it")
        before = [place.start - new for new, place in enumerate(p for p in step.places if not p.old)]
        now = dataclasses.replace(now, choices=step.choices)
        made = _step(now, AxisGrowth(step.axis, step.site, step.new, tuple(before)), Init())
        if made is None or _shape(made) != _shape(step):
            raise SizeError(
                f"{step.expansion} from {step.old} to {step.new} would be done otherwise on this model: the"
                " plan was made for another config of this family; make a plan for this model"
            )
        now = _after(now, step)


def _shape(step: Step) -> tuple[Any, ...]:
    """All of a step but what the entries are."""
    return step.expansion, step.old, step.places, dict(step.config)


def _check_edits(anatomy: Anatomy, plan: Plan) -> None:
    """The plan's config must be what its steps make of this model's."""
    right = config_edits(anatomy, plan.steps, plan.target)
    given, made = (anatomy.layout.defaults(edited(anatomy.config, e)) for e in (plan.config, right))
    for name in {**right, **plan.config}:
        if given.get(name) != made.get(name):
            raise SizeError(
                f"the plan makes {name} of the config {given.get(name)}, but its steps make it"
                f" {made.get(name)}: make a plan for this model"
            )


def _step(now: Subject, growth: AxisGrowth, init: Init) -> Step | None:
    """The step of one growth; None where the axis has that size already."""
    old = now.sizes.of(growth.axis, growth.site)
    new = target(growth.size, old, key(now.word(growth.axis), growth.site))
    if new == old:
        return None
    refused = now.layout.refused(growth.axis, now.config)
    if refused is not None:
        word = now.word(growth.axis)
        raise SizeError(f"{word} can't grow in {now.layout.family!r}: {refused}", whatever=True)
    if growth.axis.rpartition("_")[2] == "layers":
        read = now.layout.reads(now.config, now.sizes.values).get(growth.axis, old)
        end = read if isinstance(growth.at, str) else old  # a layer that nothing reads would be dead
        step = add(now, growth.axis, places(growth.at, end, new - old), init)
    else:
        step = rule_for(now, growth.axis)(now, growth.axis, growth.site, new, init)
    legacy = renamed(now, step.config) if now.choices.legacy else {}
    return dataclasses.replace(step, config={**step.config, **legacy}, choices=now.choices)


def _calling(now: Subject, growth: AxisGrowth) -> Subject:
    """The subject whose refusals call an axis what the asker calls it."""
    return dataclasses.replace(now, words={**now.words, growth.axis: growth.word}) if growth.word else now


def _after(now: Subject, step: Step) -> Subject:
    """The subject behind a step. Its config counts the blocks that there are: which slots a block has is told
    by its number."""
    counts = counted(now, step.axis, step.new) if now.is_index(step.axis) else now.config
    sizes, config = grown(now.sizes, step), edited(counts, step.config)
    return dataclasses.replace(now, sizes=sizes, config=config, before=(*now.before, step))


def _growths(now: Subject, expansion: Expansion) -> Iterator[AxisGrowth]:
    """The axes and sites that an expansion means in this model."""
    layer = getattr(expansion, "layer", None)
    head = getattr(expansion, "head", None)
    at = expansion.at if isinstance(expansion, LayerAddition) else "end"
    sizes = dict(now.sizes.values)
    for axis, size, word in _stacked(now, expansion):
        for site in _sites(now, axis, word, layer, head):
            yield AxisGrowth(axis, site, size, at, word)
        for follower, formula in now.layout.follows.items():
            if axis in names(formula) and any(True for _ in now.uses(follower)):
                sizes[axis] = target(size, now.sizes.of(axis), word)
                yield AxisGrowth(follower, (), evaluate(formula, sizes))


def _word(axis: str, expansion: Expansion) -> str:
    """What the asker calls an axis: a group is asked for as heads, a stack's axis by both names."""
    word = getattr(expansion, "word", "heads" if axis == "group" else axis)
    return spelled(expansion.stack, word)


def _stacked(now: Subject, expansion: Expansion) -> Iterator[tuple[str, Size, str]]:
    """Requests by the axes that they mean, one stack's or those of all, and the asker's words for them."""
    layout, stack = now.layout, expansion.stack
    if why := layout.apart.get(stack):
        raise SizeError(f"{stack} can't grow in {layout.family!r}: {why}", whatever=True)
    if stack and stack not in layout.stacks:
        known = f"whose stacks are {', '.join(layout.stacks)}" if layout.stacks else "which has one stack"
        raise SizeError(f"{stack} is no stack of {layout.family!r}, {known}: give one of its axes")
    beside = now.sizes.has("layers")  # towers beside a language model, which a word without a stack's means
    apart = stack == "" and (beside or now.sizes.has("heads") or now.sizes.has("kv_heads"))
    own = [each for each in layout.stacks if stack in ("", each) and now.sizes.has(f"{each}_kv_heads")]
    if own and not apart and isinstance(expansion, HeadAddition):
        for each in own:
            for axis, size in grouped(now, expansion, f"{each}_").items():
                yield axis, size, _word(axis.removeprefix(f"{each}_"), expansion)
        return
    for axis, size in meant(now, expansion).items():
        word = _word(axis, expansion)
        own = [f"{each}_{axis}" for each in layout.stacks if now.sizes.has(f"{each}_{axis}")]
        if stack and own and f"{stack}_{axis}" not in own:
            raise SizeError(f"{word} is no axis of this model, which has no {stack}: leave it out")
        if stack and not own and beside:
            has = ", ".join(each for each in named(now.sizes, (stack,)) if each.startswith(f"{stack}."))
            raise SizeError(f"{word} is no axis of this {layout.family!r} model, whose {stack} has {has}")
        if stack and not own and _known(now, axis, word):
            bare = word.removeprefix(f"{stack}.")
            raise SizeError(
                f"{bare} can't grow in the {stack} alone: a {layout.family!r} config holds one {bare}"
                f" for all stacks; leave out the {stack}"
            )
        every = [] if stack or beside or now.sizes.has(axis) else own
        axes = every or [f"{stack}_{axis}" if stack else axis]
        yield from ((each, size, word) for each in axes if _known(now, each, word))


def _known(now: Subject, axis: str, word: str) -> bool:
    if not now.sizes.has(axis):
        has = ", ".join(named(now.sizes, now.layout.stacks))
        raise SizeError(f"{word} is no axis of this {now.layout.family!r} model, which has {has}")
    return True


def _sites(now: Subject, axis: str, word: str, layer: int | None, head: int | None) -> Iterator[Index]:
    """The sites that a request names: all of them, or those in one layer (and head)."""
    given = {"layers": layer, "heads": head}
    own = now.sizes.sites.get(axis, ())
    for name, i in given.items():
        if i is not None and name not in own:
            raise SizeError(
                f"{word} can't grow in {name[:-1]} {i} alone: a {now.layout.family!r} config holds one"
                f" {word} for all {name}; leave out the {name[:-1]}"
            )
    found = [s for s in now.sizes.all_sites(axis) if all(given.get(n) in (None, i) for n, i in s)]
    if not found:
        where = [f"{name[:-1]} {i}" for name, i in given.items() if i is not None]
        raise SizeError(f"there is no {' with a '.join(where)}: layers and heads are counted from 0")
    yield from found


def config_edits(anatomy: Anatomy, steps: Iterable[Step], sizes: Sizes) -> dict[str, Any]:
    """The config keys that change: what the steps' rules edit, and the keys that hold sizes."""
    layout = anatomy.layout
    edits: dict[str, Any] = {}
    for step in steps:
        edits.update(step.config)
    held = layout.written(anatomy.config, sizes.values)
    for name, value in held.items():
        if get(anatomy.config, name) is not None and get(anatomy.config, name) != value:
            edits[name] = value
    for name, value in held.items():
        view = layout.defaults(edited(anatomy.config, edits))
        if name not in view or view[name] != value:
            edits[name] = value
    _check_read_back(layout, edited(anatomy.config, edits), sizes)
    return edits


def _check_read_back(layout: Layout, config: Config, sizes: Sizes) -> None:
    """The edited config must say the sizes that the weights will have."""
    said = layout.read(config)
    wrong = sorted(axis for axis, size in said.items() if sizes.values.get(axis, size) != size)
    if wrong:
        raise SizeError(
            f"a {layout.family!r} config can't say {wrong[0]}={sizes.values[wrong[0]]} beside the other"
            f" sizes: it would be read as {said[wrong[0]]}; grow what {wrong[0]} is computed from with it"
        )


def _taken(anatomy: Anatomy, sizes: Sizes, choices: Choices, more: Mapping[str, int]) -> bool:
    """Whether sizes that were asked for would be taken if these were said in their place, or beside them."""
    stacks = anatomy.layout.stacks
    before, after = named(anatomy.sizes, stacks), named(sizes, stacks)
    own = {addressed(word)[1] for word in after if addressed(word)[0]}  # said for each stack
    whole = {word for word in HEAD_DIM if "head_dim" in after} | own
    asked = {word: n for word, n in after.items() if n != before.get(word) and word not in whole}
    request = asked | {spelled(*addressed(word)): n for word, n in more.items()}
    try:
        plan(anatomy, expansions(request, own=alone(anatomy.sizes)), choices=choices, advise=False)
    except IsogrowError:
        return False
    return True


def _check_constraints(start: Subject, now: Subject, accepts: Accepts | None) -> None:
    """Ask of the final sizes alone whether the config can hold them; where `accepts` says what would be
    taken, a refusal says so too."""
    layout, values = now.layout, now.sizes.values
    for axis, formula in layout.follows.items():
        if axis in values and values[axis] != evaluate(formula, values):
            text, _ = told(formula, values)
            said = (
                f"{axis}={values[axis]} can't be had: {axis} is {text} in every {layout.family!r} model,"
                f" here {evaluate(formula, values)}; leave it out and grow {' and '.join(names(text))}"
            )
            raise SizeError(with_dots(said, layout.stacks))
    facts = layout.facts(now.config, values)
    for constraint in layout.constraints:
        if not layout.say(constraint, facts) or evaluate(constraint, facts):
            continue
        text, sizes = told(constraint, values)
        advice = f"; {mend(start, values, names(constraint) & values.keys(), accepts)}" if accepts else ""
        said = (
            f"{layout.family!r} can't hold these sizes: its config needs {text}, and they would be"
            f" {sizes}{advice}"
        )
        raise SizeError(with_dots(said, layout.stacks), names(constraint))
