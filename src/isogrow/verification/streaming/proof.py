"""The checks of a pair that memory does not hold: both models run abreast, each weight here for a moment."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import inf
from typing import Any

import torch
from torch import nn

from isogrow.verification import checks
from isogrow.verification.differences import (
    Difference,
    NoiseFloor,
    attention,
    combined,
    differences,
    other_attention,
    shared,
)
from isogrow.verification.float64 import hollow
from isogrow.verification.inputs import covering, lesson, pictures, probe, sees, taken
from isogrow.verification.memory import largest_layer, shapes_of, training_shortage
from isogrow.verification.pair import Pair
from isogrow.verification.report import Check
from isogrow.verification.runs import Batch, Outputs, Side, first_tensor, full, padded, takes_one_row
from isogrow.verification.signals import WORDS
from isogrow.verification.streaming import living
from isogrow.verification.streaming.convoy import Load
from isogrow.verification.streaming.gaps import Gaps
from isogrow.verification.streaming.lending import lent
from isogrow.verification.streaming.opening import StreamedPair
from isogrow.verification.streaming.running import Task, outputs_of
from isogrow.verification.streaming.stored import weights

RUNS = 12  # whose outputs are here at once, about
ROOM = 1 << 25  # entries of all these outputs together
TOKENS = 1024  # up to which every token id is run
FEW = (2, 16)  # rows and tokens of the small batch where not every token id is run
SHORTEST = 4  # tokens in a row
SMALL, LARGE, SMALL_OWN, LARGE_OWN = "small", "large", "small, own dtype", "large, own dtype"
LESSON = "lesson"
AS_MADE, AS_STORED = "large, as made", "large, as stored"

# What is checked of models in memory alone, and why.
UNCHECKED = {
    "kv cache": "not streamed: every token would read every weight again",
    "generate": "not streamed: every token would read every weight again",
    "reload": "not streamed: nothing is loaded; the class finds all of its tensors",
}


@dataclass(frozen=True)
class Given:
    """What both models are run on: `batches` in float64 (`all_ids`: they hold every token id there is), a
    small one for all else, and the one by which layers are trained."""

    batches: tuple[Batch, ...]
    probe: Batch
    lesson: Batch
    all_ids: bool


def streamed_checks(
    streamed: StreamedPair, liveness: bool, say: Callable[[str], None], figures: dict[str, Any]
) -> Iterator[Check]:
    """Every check in turn; after a failed comparison the rest would only say the same."""
    both = streamed.pair
    yield checks.config(both)
    say("weights: each tensor against what the plan makes")
    check = weights(streamed.made)
    given = given_to(streamed)
    if not check.passed:
        yield replace(check, detail=f"{check.detail}; {_where(streamed, given.probe)}")
        return
    yield check
    say("float64 and own dtype: both models abreast, layer by layer")
    abreast = Abreast(streamed, given, liveness)
    check, worst = abreast.exact()
    figures["float64"] = {"absolute": worst.absolute, "relative": worst.relative, "kl_max": worst.kl_max}
    figures["layers"] = {name: abreast.gaps.relative(name) for name in abreast.gaps.found}
    yield check
    if not check.passed:
        return
    yield from checks.unrun_parts(both)
    check, figures["own_dtype"] = abreast.own_dtype()
    yield check
    yield from abreast.padding()
    yield from (Check(name, None, detail=why) for name, why in UNCHECKED.items())
    lack = training_shortage(largest_layer(shapes_of(both.large))) if liveness else ""
    if lack:
        yield from (Check(name, None, detail=lack) for name in ("liveness", "distinct"))
    elif liveness:
        say("liveness: training each grown layer alone for a few steps")
        model, calls = abreast.large, abreast.calls
        del abreast, given  # all outputs
        live, apart, units = living.liveness(both, streamed.large, model, calls)
        figures["new_channels"] = {"new": units.new, "live": units.live, "inactive": units.inactive}
        yield live
        yield apart


def _where(streamed: StreamedPair, batch: Batch) -> str:
    """Which layer of the large model, with the weights that are stored, first leaves what it is with those
    that should be."""
    both, layers = streamed.pair, {name: name for name in streamed.pair.layers}
    model, work = hollow(both.large), partial(full, batch=batch)
    jobs = {name: Task(model, name, work, layers) for name in (AS_MADE, AS_STORED)}
    gaps = Gaps({AS_STORED: AS_MADE})
    outputs_of(jobs, sources_of(streamed), gaps)
    first = gaps.first(layers, checks.EXACT)
    return f"first difference in {first}" if first else f"no layer's output on {_size(batch)} depends on it"


def sources_of(streamed: StreamedPair) -> Mapping[str, Load]:
    """Where the weights of each kind of run come from."""
    made, dtype = streamed.made, streamed.pair.coarsest
    return {
        SMALL: partial(made.small.region, dtype=torch.float64),
        LARGE: made.region,
        SMALL_OWN: partial(made.small.region, dtype=dtype),
        LARGE_OWN: partial(made.large.region, dtype=dtype),
        AS_MADE: made.as_stored,
        AS_STORED: partial(made.large.region, dtype=torch.float64),
    }


@dataclass(frozen=True)
class Abreast:
    """All runs of a pair, made at once when the first of their outputs is asked for."""

    streamed: StreamedPair
    given: Given
    learning: bool

    @property
    def pair(self) -> Pair:
        return self.streamed.pair

    @cached_property
    def gaps(self) -> Gaps:
        pairs = {f"{LARGE} {n}": f"{SMALL} {n}" for n in range(len(self.given.batches))}
        plan, residual = self.pair.plan, self.pair.before.layout.residual
        widths = plan.source.of(residual), plan.target.of(residual)
        return Gaps({} if self.pair.rescaled else pairs, self.pair.channels, widths)

    @cached_property
    def large(self) -> nn.Module:
        """The large model in float64, without numbers."""
        return living.uncached_(hollow(self.pair.large))

    @cached_property
    def calls(self) -> living.Calls:
        """What its layers are given in a run."""
        others = tuple(f"{LARGE} {n}" for n in range(len(self.given.batches)))
        return living.Calls((LESSON,) if self.given.all_ids else others)

    @cached_property
    def outputs(self) -> Mapping[str, Any]:
        """What each run put out; of one with padding, why its class takes none."""
        with living.overheard(self.large, self.pair.repeated if self.learning else (), self.calls):
            return outputs_of(self.jobs, sources_of(self.streamed), self.gaps)

    @cached_property
    def jobs(self) -> Mapping[str, Task]:
        """The runs, by their names."""
        return {**self._wide(), **self._own()}

    def _wide(self) -> dict[str, Task]:
        """Runs in float64."""
        found: dict[str, Task] = {}
        for name, model, told in (
            (SMALL, living.uncached_(hollow(self.pair.small)), {name: name for name in self.pair.layer_map}),
            (LARGE, self.large, {large: small for small, large in self.pair.layer_map.items()}),
        ):
            job = partial(Task, model, name, told=told)
            batches = enumerate(self.given.batches)
            found |= {f"{name} {n}": job(work=partial(full, batch=batch)) for n, batch in batches}
            if name == SMALL and self.given.all_ids:
                found["exact"] = job(work=partial(full, batch=self.given.probe))
            if name == LARGE and self.given.all_ids and self.learning:
                found[LESSON] = job(work=partial(full, batch=self.given.lesson))
            for side in checks.SIDES if self._pads else ():
                found[f"{name} {side}"] = job(work=partial(_padded, batch=self.given.probe, side=side))
        return found

    def _own(self) -> dict[str, Task]:
        """Runs in the models' own dtype, and of the small one in other ways too, which tell its noise."""
        small, large = (
            checks.in_dtype(each, self.pair.coarsest) for each in (self.pair.small, self.pair.large)
        )
        layers = self.pair.layer_map
        old = partial(Task, source=SMALL_OWN, told={name: name for name in layers}, wide=False)
        batch = self.given.probe
        found = {SMALL_OWN: old(small, work=partial(full, batch=batch))}
        for row in range(_rows(batch)):
            one = {name: value[row : row + 1] for name, value in batch.items()}
            found[f"row {row}"] = old(small, work=partial(full, batch=one))
        if (other := other_attention(small)) is not None:
            found["attention"] = old(copy.deepcopy(small), work=partial(_attending, batch=batch, kind=other))
        told = {large: small for small, large in layers.items()}
        found[LARGE_OWN] = Task(large, LARGE_OWN, partial(full, batch=batch), told, wide=False)
        return found

    def exact(self) -> tuple[Check, Difference]:
        """float64: every output of every batch."""
        found: list[Difference] = []
        for n in range(len(self.given.batches)):
            old, new = self.outputs[f"{SMALL} {n}"], self.outputs[f"{LARGE} {n}"]
            if not all(bool(x.isfinite().all()) for x in old.values()):
                why = "the small model's own outputs are not finite: correct its weights"
                return Check("float64", False, detail=why), Difference(inf, inf, inf, inf, 0)
            found.append(
                combined(
                    differences(checks.compared(self.pair, old), checks.matched(self.pair, old, new)).values()
                )
            )
        worst = max(found, key=lambda each: each.relative)
        right = worst.relative <= checks.EXACT
        detail = self._seen() if right else self._parted()
        return Check("float64", right, worst.relative, checks.EXACT, detail), worst

    def _seen(self) -> str:
        """What the models were compared on."""
        layers = f"layer by layer ({len(self.gaps.found)})" if self.gaps.found else "streamed"
        if self.given.all_ids:
            return f"{checks.seen(self.pair, self.given.batches)}, {layers}"
        tokens = ", ".join(map(_size, self.given.batches))
        return f"{tokens}, {layers}; all other token ids by their weights"

    def _parted(self) -> str:
        if self.pair.rescaled:
            return "the plan rescales the residual, so layers can't be told apart"
        first = self.gaps.first(self.pair.layer_map, checks.EXACT)
        return (
            f"first difference in {first}" if first else "every layer agrees: the difference is in the head"
        )

    def own_dtype(self) -> tuple[Check, dict[str, Any]]:
        """The grown model in its own dtype is as near to the exact function as the old one is, times OWN."""
        made = self.outputs
        whole, rows = made[SMALL_OWN], range(_rows(self.given.probe))
        alone = {name: torch.cat([made[f"row {row}"][name] for row in rows]) for name in whole}
        by = {"row by row": differences(*shared(whole, alone))}
        if "attention" in made:
            by["attention"] = differences(whole, made["attention"])
        exact = made["exact" if self.given.all_ids else f"{SMALL} 0"]  # of the small batch
        return checks.near(self.pair, exact, whole, made[LARGE_OWN], NoiseFloor(by))

    def padding(self) -> Iterator[Check]:
        """float64: rows of various lengths, padded on either side."""
        if not self._pads:
            alone = "a row has room for one token" if "input_ids" in self.given.probe else ""
            yield Check("padding", None, detail=alone or f"takes {taken(self.pair)}")
            return
        for side in checks.SIDES:
            both = (self.outputs[f"{name} {side}"] for name in (SMALL, LARGE))
            yield checks.as_padded(side, self.pair, *both)

    @property
    def _pads(self) -> bool:
        ids = self.given.probe.get("input_ids")
        return ids is not None and ids.shape[1] > 1


def _padded(model: nn.Module, batch: Batch, side: Side) -> Outputs | Exception:
    return checks.tried(partial(padded, model, batch, side))


def _attending(model: nn.Module, batch: Batch, kind: str) -> Outputs:
    with attention(model, kind):
        return full(model, batch)


def given_to(streamed: StreamedPair) -> Given:
    """Every token id where that is little, else as many tokens as the outputs leave room for."""
    both = streamed.pair
    with lent(both.small, partial(streamed.small.region, dtype=_dtype(both.small))):
        if batches := _every_id(both):
            return Given(batches, probe(both), lesson(both), True)
        rows, tokens = FEW
        tokens = max(SHORTEST, min(tokens, _most(both) // rows))
        small = probe(both, (rows, tokens))
        more = pictures(both, (1, tokens))
        return Given((small, *filter(None, [more])), small, small, False)


def _every_id(pair: Pair) -> tuple[Batch, ...]:
    """Batches with every token id; none where those are more tokens than may be run at once, or each of their
    rows would read all weights again."""
    if sees(pair):
        return tuple(covering(pair))
    if takes_one_row(pair.small):
        return ()
    found: list[Batch] = []
    if pair.before.tokens <= _most(pair):
        for batch in covering(pair):
            found.append(batch)
            if sum(first_tensor(each).numel() for each in found) > _most(pair):
                return ()
    return tuple(found)


def _most(pair: Pair) -> int:
    """How many tokens may be run at once."""
    width = max(pair.before.tokens, pair.plan.target.of(pair.before.layout.residual))
    return min(TOKENS, ROOM // (RUNS * width))


def _dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def _rows(batch: Batch) -> int:
    return next(iter(batch.values())).shape[0]


def _size(batch: Batch) -> str:
    """How large a batch is."""
    if "input_ids" not in batch:
        return f"{_rows(batch)} {WORDS[next(name for name in WORDS if name in batch)]}"
    images = f" with {len(batch['pixel_values'])} images" if "pixel_values" in batch else ""
    return f"{batch['input_ids'].numel():,} tokens{images}"
