"""Proving that a grown model computes what the old one did, and that what is new can learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from isogrow.planning.request import Saved
from isogrow.quiet import on_cpu, quiet
from isogrow.stores.sources import Checkpoint, open_checkpoint
from isogrow.verification import checks, learning
from isogrow.verification.float64 import rebuilt
from isogrow.verification.memory import (
    largest_layer,
    parameters,
    shapes_of,
    shortage,
    streaming_shortage,
)
from isogrow.verification.pair import Pair, pair
from isogrow.verification.report import Check, Report, silent
from isogrow.verification.runs import one_by_one
from isogrow.verification.stored import proof, unread, weights_
from isogrow.verification.streaming import foretold_of, streamed_checks, streamed_pair


@on_cpu()
def verify(
    small: str | Path | Checkpoint | nn.Module,
    large: str | Path | Checkpoint | nn.Module,
    *,
    plan: Saved | None = None,
    liveness: bool = True,
    streamed: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compare a grown model with the one that it was grown from; both as folders or as models.

    The plan is the one that came with the grown model, or `plan` (itself, or its file). Checked are: every
    output in float64 (relative error < 1e-12) at every valid token id and learned position, with the KV
    cache, with padding on either side, and greedy generation; the model's own dtype against its noise floor;
    saving and loading; stored tensors that the models' class does not read; and, by a few training
    steps on a copy, that every new channel gets gradient by the step that Law 2 predicts (later behind zeros
    that the small model has itself) and that no two new channels stay copies of each other.

    Models that memory does not hold are compared `streamed`: both run abreast, layer by layer, each weight
    read from its folder as it is used, in the memory of about two layers. What can't be checked so is
    reported as skipped. By default what is free decides; True asks for it whatever is free (of models of
    transformers alone), False never does it.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> import isogrow
    >>> small = GPT2LMHeadModel(GPT2Config(n_embd=12, n_head=2, n_layer=1, vocab_size=31, n_positions=24))
    >>> verify(small, isogrow.grow(small, ffn="x2")).passed
    True
    """
    say = progress or silent
    one, two = _seen(small), _seen(large)
    lack = shortage(parameters(one), parameters(two))
    if lack and streamed is None:
        lack = streaming_shortage(*(largest_layer(shapes_of(each)) for each in (one, two)))
        streamed = not lack
    if streamed:
        return _streamed(one, two, plan, liveness, say)
    if lack:
        return Report((Check("float64", None, detail=lack),))
    say("loading both models")
    both = pair(one, two, plan)
    found: list[Check] = []
    figures: dict[str, Any] = {}
    # Token ids that a model pads with are run unmasked on purpose.
    with quiet(), one_by_one(both.small, both.large):
        found.extend(_checks(both, liveness, say, figures))
    return Report(tuple(found), figures)


def _streamed(
    small: Checkpoint | nn.Module,
    large: Checkpoint | nn.Module,
    plan: Saved | None,
    liveness: bool,
    say: Callable[[str], None],
) -> Report:
    """The same of models of which no more than two layers are in memory at a time."""
    say("opening both models")
    figures: dict[str, Any] = {}
    with quiet(), streamed_pair(small, large, plan) as both, one_by_one(both.pair.small, both.pair.large):
        forecast = foretold_of(both, liveness)
        say(f"layer by layer: {forecast}")
        figures["forecast"] = forecast.to_dict()
        found = tuple(streamed_checks(both, liveness, say, figures))
    return Report(found, figures)


def _checks(
    both: Pair, liveness: bool, say: Callable[[str], None], figures: dict[str, Any]
) -> Iterator[Check]:
    """Every check in turn; after a failed comparison the rest would only say the same."""
    say("weights: growing once more in float64")
    small = rebuilt(both.small)
    large = proof(both, small)
    yield checks.config(both)
    check = weights_(both, large)
    if not check.passed:
        where = checks.stored_difference(both, large)
        yield replace(check, detail=f"{check.detail}; {where}")
        return
    yield check
    yield from unread(both)
    say("float64: all token ids")
    check, worst = checks.exact(both, small, large)
    figures["float64"] = {"absolute": worst.absolute, "relative": worst.relative, "kl_max": worst.kl_max}
    yield check
    if not check.passed:
        return
    yield from checks.unrun_parts(both)
    say("own dtype")
    check, figures["own_dtype"] = checks.own_dtype(both, small)
    yield check
    say("float64: KV cache, padding, generation")
    yield checks.decode(both, small, large)
    yield from checks.padding(both, small, large)
    yield checks.generate(both, small, large)
    del small, large
    say("saving and loading")
    yield checks.reload(both)
    if liveness:
        say("liveness: training a copy for a few steps")
        live, apart, units = learning.liveness(both)
        figures["new_channels"] = {"new": units.new, "live": units.live, "inactive": units.inactive}
        yield live
        yield apart


def _seen(model: str | Path | Checkpoint | nn.Module) -> Checkpoint | nn.Module:
    """A folder is opened once."""
    return model if isinstance(model, Checkpoint | nn.Module) else open_checkpoint(model)


__all__ = ["Check", "Report", "verify"]
