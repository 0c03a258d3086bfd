"""The proof of a layout: a tiny twin of a config grows along each axis, and in compositions of all of them,
and computes in float64 what it did.

A layout counts for nothing until then. What is not proven is refused, axis by axis, with what was seen.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from isogrow.drafting.inputs import batches
from isogrow.drafting.kinds import config_of, random_model
from isogrow.errors import IsogrowError, LayoutError
from isogrow.interpreters.module import grown_state, headers
from isogrow.laws import check
from isogrow.layouts.config import Config, edited
from isogrow.layouts.layout import Layout
from isogrow.planning.planner import unchecked
from isogrow.planning.reach import Reach, reaches
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import Size, expansions
from isogrow.plans.matching import match
from isogrow.plans.plan import Plan
from isogrow.plans.words import HEAD_DIM, meant, named
from isogrow.verification.float64 import EXACT, build, float64
from isogrow.verification.pair import old_positions
from isogrow.verification.runs import Batch, full

GROWTHS = 2  # of each axis
COMPOSITIONS = 2
ROWS, TOKENS = 3, 24


@dataclass(frozen=True)
class Shown:
    """What was seen of one axis: growths and how far each was off, or why none is planned."""

    axis: str
    errors: tuple[tuple[Mapping[str, Size], float], ...] = ()
    refused: str = ""

    @property
    def exact(self) -> bool:
        return bool(self.errors) and all(error < EXACT for _, error in self.errors)

    def why(self) -> str:
        """Why the axis may not grow; "" where it may, and where a rule refuses it by itself."""
        if not self.errors or self.exact:
            return ""
        asked, error = max(self.errors, key=lambda each: each[1])
        sizes = ", ".join(f"{name}={size}" for name, size in asked.items())
        if error == float("inf"):
            return f"a small twin of this model with {sizes} can't be built or run: {self.refused:.200}"
        return f"on a small twin of this model {sizes} was off by {error:.1g} in float64"


@dataclass(frozen=True)
class Proof:
    """What was seen of a layout on one config; `led` are axes that grow with others alone, and `given` names
    what the models were run on."""

    axes: tuple[Shown, ...]
    compositions: tuple[tuple[Mapping[str, Size], float], ...] = ()
    failed: str = ""
    led: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()

    @property
    def passed(self) -> bool:
        """Whether something grows, each axis that is planned is exact, and so are the compositions."""
        return not self.failed and any(shown.exact for shown in self.axes) and not self.wrong()

    def wrong(self) -> dict[str, str]:
        """Axes whose growth was not exact, and how far off it was."""
        found = {axis: shown.why() for shown in self.axes for axis in _axes(shown.axis) if shown.why()}
        off = [each for each in self.compositions if not each[1] < EXACT]
        for asked, error in off[:1]:
            said = f"on a small twin of this model {dict(asked)} together were off by {error:.1g} in float64"
            found |= {axis: said for shown in self.axes for axis in _axes(shown.axis) if axis not in found}
        return found

    def refusals(self) -> dict[str, str]:
        """Axes that may not grow, and why: those that were wrong, and those of which no growth was shown."""
        shown = {axis for each in self.axes if each.exact for axis in _axes(each.axis)} | self.led
        unseen = {
            axis: f"no growth of it could be shown on a small twin: {each.refused}"
            for each in self.axes
            for axis in _axes(each.axis)
            if not each.errors and axis not in shown
        }
        return {**unseen, **self.wrong()}

    def exact(self) -> tuple[str, ...]:
        """The words of the axes that are proven."""
        return tuple(shown.axis for shown in self.axes if shown.exact and not self.failed)


def _axes(word: str) -> tuple[str, ...]:
    """The axes that a word grows."""
    return ("group", "heads", "kv_heads") if word == "heads" else meant(word)


def proof(layout: Layout, config: Config, seed: int = 0) -> Proof:
    """Grow a random model of this (tiny) config along each axis and compare in float64.

    Never raises for a wrong layout: what stands against it is in the proof.
    """
    small = random_model(config, seed)
    try:
        with _contradictions():
            anatomy = match(layout, config, headers(small), type(small).__name__)
            found = list(reaches(anatomy, _words(anatomy)))
    except IsogrowError as error:
        return Proof((), failed=" ".join(str(error).split()))
    given = batches(small, config, (ROWS, TOKENS))
    try:
        before = outputs(small, given)
    except Exception as error:  # whatever a class raises on what it is given
        return Proof((), failed=f"a small twin of it does not run: {' '.join(f'{error}'.split()):.160}")
    job = _Job(small, anatomy, given, before)
    axes = tuple(_shown(job, reach) for reach in found)
    names = frozenset(name for batch in given for name in batch)
    return Proof(axes, tuple(_compositions(job, axes)), led=frozenset(layout.follows), given=names)


def inputs_of(config: Config) -> frozenset[str]:
    """The names of what models of this (tiny) config are run on."""
    given = batches(random_model(config), config, (ROWS, TOKENS))
    return frozenset(name for batch in given for name in batch)


def proven(layout: Layout, config: Config) -> Layout:
    """The layout with refusals for all that its proof on this (tiny) config does not show.

    Raises `LayoutError` where nothing is shown.
    """
    seen = proof(layout, config)
    if seen.failed:
        raise LayoutError(f"the layout {layout.family!r} is not this model's: {seen.failed}")
    if not seen.exact():
        raise LayoutError(
            f"the layout {layout.family!r} is not proven: {'; '.join(seen.refusals().values())}"
        )
    return replace(layout, refusals={**seen.refusals(), **layout.refusals})


@contextmanager
def _contradictions() -> Generator[None]:
    """Refuse a layout on which an assertion of ours fails: those that say what their model does keep them."""
    try:
        yield
    except (AssertionError, LookupError) as error:
        raise LayoutError(
            f"its rows contradict each other ({' '.join(f'{error}'.split()):.160}): compare their slots,"
            " patterns and order with the model's forward pass"
        ) from error


@dataclass(frozen=True)
class _Job:
    small: nn.Module
    anatomy: Anatomy
    given: Sequence[Batch]
    before: Mapping[str, Tensor]

    def planned(self, wanted: Mapping[str, Size]) -> Plan:
        """The plan, with the laws checked. Raises `IsogrowError` where a rule or a law refuses it."""
        with _contradictions():
            made = unchecked(self.anatomy, expansions(wanted, "even"))
            check(self.anatomy, made)
        return made

    def error(self, made: Plan) -> tuple[float, str]:
        """How far the grown model is off; where its class can't build or run it, infinitely, and why."""
        try:
            found = outputs(self.large(made), self.given)
            return difference(self.before, self._at_old(made, found)), ""
        except Exception as error:  # whatever a class raises on a config that the layout has grown wrong
            return float("inf"), " ".join(f"{error}".split())

    def _at_old(self, made: Plan, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The old channels of outputs that are the residual itself, which are wider."""
        at = torch.tensor(old_positions(made, self.anatomy.layout.residual, ()))
        wide = {name for name, value in found.items() if value.shape[-1:] != self.before[name].shape[-1:]}
        return {name: value.index_select(-1, at) if name in wide else value for name, value in found.items()}

    def large(self, made: Plan) -> nn.Module:
        state = grown_state(self.small.state_dict(), self.anatomy, made)
        return build(type(self.small), config_of(edited(self.anatomy.config, made.config)), state)


def _words(anatomy: Anatomy) -> dict[str, int]:
    found = named(anatomy.sizes, anatomy.layout.stacks)
    return {word: size for word, size in found.items() if not ("head_dim" in found and word in HEAD_DIM)}


def _shown(job: _Job, reach: Reach) -> Shown:
    """An axis, grown by the sizes that its rule allows: two of them, where it does."""
    errors: list[tuple[Mapping[str, Size], float]] = []
    refused = "; ".join(reach.why)
    for wanted in _asked(reach):
        try:
            made = job.planned(wanted)
        except IsogrowError as error:
            refused = str(error)
            continue
        error, said = job.error(made)
        errors.append((wanted, error))
        refused = said or refused
    return Shown(reach.axis, tuple(errors), refused)


def _asked(reach: Reach) -> Iterator[Mapping[str, Size]]:
    yield from islice(_all_asked(reach), GROWTHS)


def _all_asked(reach: Reach) -> Iterator[Mapping[str, Size]]:
    if reach.axis == "layers":
        yield from ({"layers": reach.now + 1}, {"layers": reach.now + 3})
        return
    for size in dict.fromkeys((*reach.sizes[:2], *reach.sizes[-1:])):
        yield {reach.axis: size}
    if reach.sizes:
        return
    if reach.grows == "any":
        yield from ({reach.axis: size} for size in (reach.now + 1, reach.now + 2, 2 * reach.now))
    elif reach.grows == "steps":
        yield from ({reach.axis: reach.now + reach.step}, {reach.axis: reach.now + 2 * reach.step})
    for partner, pairs in list(reach.partners.items())[:3]:
        for sizes in pairs[:1]:
            yield dict(zip((reach.axis, *partner.split(" and ")), sizes, strict=True))


def _compositions(job: _Job, axes: Sequence[Shown]) -> Iterator[tuple[Mapping[str, Size], float]]:
    """Growths of several axes at once: all of them doubled, then in random orders, as far as the sizes go
    together."""
    chance = random.Random(0)
    exact = [shown for shown in axes if shown.exact]
    if len(exact) < 2:
        return
    everything: dict[str, Size] = {shown.axis: "+1" if shown.axis == "layers" else "x2" for shown in exact}
    tried = [everything, *(_together(job, chance, exact) for _ in range(COMPOSITIONS))]
    for wanted in tried:
        try:
            made = job.planned(wanted)
        except IsogrowError:
            continue
        yield wanted, job.error(made)[0]


def _together(job: _Job, chance: random.Random, exact: Sequence[Shown]) -> dict[str, Size]:
    """Growths of axes in a random order, leaving out those whose sizes do not go with the others."""
    wanted: dict[str, Size] = {}
    for shown in chance.sample(list(exact), len(exact)):
        asked = chance.choice(shown.errors)[0]
        more = {**asked, **wanted}
        try:
            job.planned(more)
        except IsogrowError:
            continue
        wanted = more
    return wanted


def outputs(model: nn.Module, given: Sequence[Batch]) -> dict[str, Tensor]:
    """What a model gives in float64 for each batch: its logits, or all where it has none."""
    made: dict[str, Tensor] = {}
    for i, batch in enumerate(given):
        with float64():
            found = full(model, batch)
        kept = ["logits"] if "logits" in found else list(found)
        made |= {f"{name} {i}": found[name] for name in kept}
    return made


def difference(small: Mapping[str, Tensor], large: Mapping[str, Tensor]) -> float:
    """The largest relative error of any vector of an output."""
    errors = [_difference(value, large[name]) for name, value in small.items() if value.is_floating_point()]
    return max(errors)


def _difference(a: Tensor, b: Tensor) -> float:
    return float(((a - b).abs().amax(-1) / a.abs().amax(-1)).nan_to_num(nan=torch.inf).max())
